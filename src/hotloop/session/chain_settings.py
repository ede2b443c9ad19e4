"""What the items of a chain change for the responses behind them (docs/protocol.md §4.2, §4.6).

additional_tools, tool_search_output    more tools
configuration_update                    the reasoning effort, the form of the text
mcp_list_tools                          what the tools of a server are, for responses whose requests name it
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import msgspec

from hotloop.errors import InvalidRequest, SchemaTooComplex
from hotloop.protocol.decoding import decode_as
from hotloop.protocol.hosted_items import LIST_TOOLS, listed_tools, tools_listed
from hotloop.protocol.items import Item, SettingItem, TypedCallOutput
from hotloop.protocol.request import Effort, Text
from hotloop.protocol.tool_schema import schema_problem
from hotloop.protocol.tools import MAX_TOOLS_BYTES
from hotloop.protocol.typed_calls import tools_in
from hotloop.protocol.wire import json_bytes


@dataclass(frozen=True, slots=True)
class ChainSettings:
    """The sum of it. A request's own word counts before it."""

    added_tools: tuple[bytes, ...] = ()  # `tools` arrays, raw, oldest first, each once
    effort: Effort | None = None
    text: Text | None = None
    listed: tuple[tuple[str, bytes], ...] = ()  # label and tools (`hosted_items.tools_listed`) of servers

    def behind(self, items: Iterable[Item]) -> "ChainSettings":
        """With what these items change. Raises the ApiError that names an invalid one."""
        settings = self
        for item in items:
            if isinstance(item, SettingItem | TypedCallOutput):
                settings = settings._with(item)
        return settings

    def _with(self, item: SettingItem | TypedCallOutput) -> "ChainSettings":
        if isinstance(item, SettingItem) and item.kind == "configuration_update":
            facts = item.facts
            update = decode_as(
                _update_decoder, item.raw if facts is None or facts.update is None else facts.update, "input"
            )
            effort = update.reasoning.effort if update.reasoning is not None else None
            return replace(self, effort=effort or self.effort, text=update.text or self.text)
        if isinstance(item, SettingItem) and item.kind == LIST_TOOLS:
            return self._with_list(item)
        tools = tools_in(item)
        if tools is None or tools in self.added_tools:
            return self
        return replace(self, added_tools=(*self.added_tools, tools))

    def _with_list(self, item: SettingItem) -> "ChainSettings":
        found = listed_tools(item)
        if found is None or found in self.listed:
            return self
        label, tools = found
        refusal = listing_refusal(tools) if item.facts is None else item.facts.refusal
        if refusal is not None:
            raise (SchemaTooComplex if refusal[0] else InvalidRequest)(refusal[1], param="input")
        return replace(self, listed=(*(entry for entry in self.listed if entry[0] != label), found))


def listing_refusal(tools: bytes) -> tuple[bool, str] | None:
    """Why the tools that a server listed cannot be used, if they cannot: a schema is too complex, what is wrong."""
    if len(tools) > MAX_TOOLS_BYTES:
        return True, f"A list of tools is longer than {MAX_TOOLS_BYTES} bytes."
    for tool in tools_listed(tools):
        problem = schema_problem(msgspec.json.decode(tool.input_schema))
        if problem is not None:
            is_complex = problem.startswith(SchemaTooComplex.code)
            return is_complex, f"The schema of the listed tool '{tool.name}' cannot be used: {problem}."
    return None


def update_in(item: SettingItem) -> bytes | None:
    """All that counts of a `configuration_update`, as short JSON; None for any other, and for one that is not valid."""
    if item.kind != "configuration_update":
        return None
    try:
        return json_bytes(_update_decoder.decode(item.raw))
    except (msgspec.DecodeError, RecursionError):
        return None


class _Reasoning(msgspec.Struct, frozen=True):
    effort: Effort | None = None


class _Update(msgspec.Struct, frozen=True):
    reasoning: _Reasoning | None = None
    text: Text | None = None


_update_decoder = msgspec.json.Decoder(_Update)
NO_SETTINGS = ChainSettings()


def changes_settings(item: Item) -> bool:
    """The item is one of those that `ChainSettings.behind` looks at."""
    return isinstance(item, SettingItem) or (isinstance(item, TypedCallOutput) and tools_in(item) is not None)
