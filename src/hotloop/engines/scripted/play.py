"""Which turn of the script is played, and as which items. Pure.

The newest user message chooses the conversation; the tool outputs behind it say how far the conversation has come. So a turn
depends on the items alone: a reconnect or a full resend plays the same.
"""

import json
import re
from collections.abc import Sequence

import msgspec

from hotloop.engines.scripted.schema_example import example
from hotloop.engines.scripted.script import Call, Conversation, Fail, Pace, Script, Texts, Turn
from hotloop.protocol.file_parts import text_with_files
from hotloop.protocol.hosted_items import as_answered
from hotloop.protocol.items import (
    CustomToolCall,
    CustomToolCallOutput,
    FunctionCall,
    FunctionCallOutput,
    HostedItem,
    Item,
    Message,
    OpaqueItem,
    OutputText,
    Reasoning,
    ReasoningText,
    opaque_text,
    text_of,
)
from hotloop.protocol.tools import CustomTool, FunctionTool, HostedTool
from hotloop.seams.prompt import CallRules, PromptContext, TurnView

CallableTool = FunctionTool | CustomTool
_SILENT = Turn()
PLAIN_PACE = Pace()


class Place(msgspec.Struct, frozen=True):
    """How far a chain has come: what its newest items say."""

    length: int  # items read so far
    question: str  # text of the newest user message
    outputs: int  # tool outputs behind it


class Scene(msgspec.Struct, frozen=True):
    """A turn of the script, by index; `answered` of its calls have their outputs already."""

    conversation: int
    turn: int
    answered: int
    looks_back: bool  # it depends on the history too, not on its place, the tools and the rules alone


class Performance(msgspec.Struct, frozen=True):
    """What one turn does. `problem` replaces it all: the turn cannot be played, and why."""

    items: tuple[Item, ...] = ()
    pace: Pace = PLAIN_PACE
    delay_s: float = 0.0
    fail: Fail | None = None
    lose_kv: bool = False
    problem: str = ""
    scene: Scene | None = None


def place_of(turn: TurnView, known: Place | None = None) -> Place:
    """Read the newest items, back to the newest user message, or to `known`, which must be a prefix of the turn's items."""
    outputs = 0
    unread = length = len(turn.history) + len(turn.new_items)
    if known is not None:
        unread -= known.length
    for items in (reversed(turn.new_items), turn.history.newest_first()):
        for item in items:
            if unread == 0 and known is not None:
                return Place(length, known.question, known.outputs + outputs)
            unread -= 1
            if isinstance(item, Message):
                if item.role == "user":
                    return Place(length, text_of(item.content), outputs)
            elif isinstance(item, FunctionCallOutput | CustomToolCallOutput):
                outputs += 1
            elif isinstance(item, HostedItem):
                outputs += as_answered(item) is not None
    return Place(length, "", outputs)


class Director:
    """Plays one script."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._entries = [(re.compile(one.match), _scenes(number, one)) for number, one in enumerate(script.scripts)]

    def find(self, place: Place) -> Scene | None:
        """What is due at this place; None if no script matches or its turns are used up."""
        for pattern, scenes in self._entries:
            if pattern.search(place.question):
                return scenes[place.outputs] if place.outputs < len(scenes) else None
        return None

    def perform(self, scene: Scene | None, turn: TurnView) -> Performance:
        """The performance of a scene, as the request's tools and rules allow it."""
        stage = _Stage(turn.context, turn.rules)
        if scene is None:
            return Performance(stage.items(_SILENT, [], self._script.otherwise), self._script.pace)
        conversation = self._script.scripts[scene.conversation]
        played = conversation.turns[scene.turn]
        problem = _unmet(conversation, played, turn)
        calls: list[Item] = []
        if not problem:
            calls, problem = stage.calls(played, scene.answered)
        if problem:
            return Performance(problem=f"scripts[{scene.conversation}].turns[{scene.turn}]: {problem}", scene=scene)
        return Performance(
            stage.items(played, calls, self._script.otherwise),
            played.pace or self._script.pace,
            played.delay,
            played.fail,
            played.lose_kv,
            scene=scene,
        )


def _scenes(number: int, conversation: Conversation) -> list[Scene]:
    """The scene behind no output, behind one, and so on; behind more than those there is none."""
    scenes: list[Scene] = []
    for index, turn in enumerate(conversation.turns):
        looks_back = bool(conversation.requires_history or turn.requires_history)
        # A turn with several calls is behind us only when all of them are answered.
        calls = len(turn.all_calls) or (1 if turn is conversation.turns[-1] else 0)
        scenes += [Scene(number, index, answered, looks_back) for answered in range(calls)]
    return scenes


def _unmet(conversation: Conversation, played: Turn, turn: TurnView) -> str:
    offered = {tool.name for tool in turn.context.tools if not isinstance(tool, HostedTool)}
    for name in [*_listed(conversation.requires_tool), *_listed(played.requires_tool)]:
        if name not in offered:
            return f"the tool '{name}' is required, and the request does not offer it"
    texts = [*_listed(conversation.requires_history), *_listed(played.requires_history)]
    if texts:
        history = _texts_besides_question(turn)
        history.append(turn.context.instructions or "")
        for text in texts:
            if not any(text in part for part in history):
                return f"the history must hold {text!r}, and it does not"
    return ""


def _listed(texts: Texts) -> list[str]:
    return [texts] if isinstance(texts, str) else texts


def _texts_besides_question(turn: TurnView) -> list[str]:
    """Texts of all items but the newest user message."""
    texts: list[str] = []
    is_newest = True
    for item in turn.history.extended(turn.new_items).newest_first():
        match item:
            case Message():
                text = text_with_files(item.content)
                if item.role == "user" and is_newest:
                    is_newest = False
                else:
                    texts.append(text)
            case FunctionCallOutput() | CustomToolCallOutput():
                texts.append(text_with_files(item.output))
            case FunctionCall():
                texts.append(item.arguments)
            case CustomToolCall():
                texts.append(item.input)
            case Reasoning():
                texts.append(text_of(item.content or item.summary))
            case HostedItem():
                answer = as_answered(item)
                texts.append("" if answer is None else text_of(answer.output))
            case OpaqueItem():
                texts.append(opaque_text(item))
            case _:
                pass
    return texts


class _Stage:
    """What a request allows: which tools may be called, and what form the text has."""

    def __init__(self, context: PromptContext, rules: CallRules) -> None:
        self._rules = rules
        self._offered = {tool.name: tool for tool in context.tools if not isinstance(tool, HostedTool)}
        self._allowed = {
            name: tool
            for name, tool in self._offered.items()
            if rules.choice != "none" and (rules.allowed is None or name in rules.allowed)
        }

    def calls(self, played: Turn, answered: int) -> tuple[list[Item], str]:
        """The turn's calls that are not answered yet, as the rules allow them; or why they cannot be made."""
        calls: list[Item] = []
        for choice in played.all_calls[answered:]:
            if not any(call.name in self._offered for call in choice):
                names = ", ".join(f"'{call.name}'" for call in choice)
                return [], f"a call of {names} is due, and the request offers none of them"
            chosen = next((call for call in choice if call.name in self._allowed), None)
            if chosen is not None and (not calls or self._rules.parallel):
                calls.append(_call_item(chosen, self._allowed[chosen.name]))
        return calls, ""

    def items(self, played: Turn, calls: Sequence[Item], otherwise: str) -> tuple[Item, ...]:
        """Reasoning, text and calls, with whatever the rules demand beyond the script."""
        items: list[Item] = [Reasoning(content=[ReasoningText(text=played.reasoning)])] if played.reasoning else []
        if not calls and self._rules.choice in ("required", "named") and self._allowed:
            calls = [_example_call(next(iter(self._allowed.values())))]
        text = played.text
        if self._rules.text_schema is not None:
            text = "" if calls else _json_text(text, self._rules.text_schema)
        elif not calls and not text and (not played.reasoning or played.all_calls):
            text = otherwise
        if self._rules.choice in ("required", "named"):
            text = "" if calls else text
        if text:
            items.append(Message(role="assistant", content=[OutputText(text=text)]))
        return (*items, *calls)


def _call_item(call: Call, tool: CallableTool) -> Item:
    if isinstance(tool, CustomTool):
        text = call.input if call.input is not None else _arguments(call)
        return CustomToolCall(call_id="", name=call.name, input=text)
    arguments = _arguments(call) if call.input is None else json.dumps({"input": call.input}, ensure_ascii=False)
    return FunctionCall(call_id="", name=call.name, arguments=arguments)


def _arguments(call: Call) -> str:
    if isinstance(call.arguments, str):
        return call.arguments
    return json.dumps(call.arguments or {}, ensure_ascii=False)


def _example_call(tool: CallableTool) -> Item:
    if isinstance(tool, CustomTool):
        return CustomToolCall(call_id="", name=tool.name, input="text")
    schema = {"type": "object"} if tool.parameters is None else msgspec.json.decode(bytes(tool.parameters))
    return FunctionCall(call_id="", name=tool.name, arguments=json.dumps(example(schema), ensure_ascii=False))


def _json_text(text: str, schema: bytes) -> str:
    """The scripted text if it is JSON already, else an example of the schema."""
    try:
        json.loads(text)
    except ValueError:
        return json.dumps(example(json.loads(schema)), ensure_ascii=False)
    return text
