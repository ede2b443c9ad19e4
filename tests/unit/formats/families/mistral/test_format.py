from array import array
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support import published_mistral as published
from tests.support.conversations import TOOLS, inputs
from tests.support.real_templates import RealTemplate, Style, template_names, template_source
from tests.support.toy_tokenizer import ToyTokenizer
from tests.support.vocabularies import MISTRAL_MARKS, SpyTokenizer

from hotloop.formats import family_of, format_for_template
from hotloop.formats.families.mistral.default_system import default_system
from hotloop.formats.families.mistral.format import Mistral
from hotloop.formats.families.mistral.text import V3, V11, V13, V13_THINKING, Version, nine
from hotloop.protocol.items import (
    CustomToolCall,
    FunctionCall,
    FunctionCallOutput,
    Item,
    Message,
    OpaqueItem,
    OutputText,
    Reasoning,
    ReasoningText,
)
from hotloop.protocol.tools import Tool, decode_tools
from hotloop.seams.format import Extension, RenderState
from hotloop.seams.prompt import PromptContext

TOKENIZER = SpyTokenizer(ToyTokenizer(MISTRAL_MARKS), MISTRAL_MARKS)
VERSIONS = [V3, V11, V13, V13_THINKING]
every_version = pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
LS: tuple[Tool, ...] = decode_tools(b'[{"type":"function","name":"ls","description":"a \\"b\\""}]')
TOOL = '{"type": "function", "function": {"name": "ls", "description": "a \\"b\\""}}'
PLAIN_TOOL = '{"type": "function", "function": {"name": "ls", "description": "a "b""}}'


def asked(text: str) -> Message:
    return Message(role="user", content=text)


def said(text: str) -> Message:
    return Message(role="assistant", content=[OutputText(text=text)])


def call(call_id: str = "callcall1", arguments: str = "{}") -> FunctionCall:
    return FunctionCall(call_id=call_id, name="ls", arguments=arguments)


def output(text: str, call_id: str = "callcall1") -> FunctionCallOutput:
    return FunctionCallOutput(call_id=call_id, output=text)


class Chain:
    """A chain as it grows; `rewinds` are the reasons so far."""

    def __init__(self, version: Version, context: PromptContext | None = None, system: str | None = None) -> None:
        self.format = Mistral(TOKENIZER, version, system)
        self.tokens = array("I")
        self.rewinds: list[str] = []
        self.state: RenderState = None
        self._apply(self.format.begin(context or PromptContext()))

    def give(self, *items: Item) -> "Chain":
        extension = self.format.extend(self.state, len(self.tokens), items)
        assert isinstance(extension, Extension)
        return self._apply(extension)

    def answer(self, *items: Item, text: str | None = None) -> "Chain":
        ids = self.format.encode_items(PromptContext(), items) if text is None else TOKENIZER.whole(text)
        return self._apply(self.format.commit(self.state, len(self.tokens), ids, items))

    def _apply(self, extension: Extension) -> "Chain":
        if extension.reason is not None:
            self.rewinds.append(extension.reason)
        del self.tokens[extension.keep :]
        self.tokens.extend(extension.tokens)
        self.state = extension.state
        return self

    @property
    def text(self) -> str:
        return TOKENIZER.decode(self.tokens)


@pytest.mark.parametrize(
    ("version", "written", "reasons"),
    [
        (
            V3,
            f"<s>[INST]one[/INST]yes</s>[AVAILABLE_TOOLS][{PLAIN_TOOL}][/AVAILABLE_TOOLS][INST]Be brief.\n\ntwo[/INST]"
            '[TOOL_CALLS][{"name": "ls", "arguments": {"a":1}, "id": "callcall1"}, '
            '{"name": "ls", "arguments": {}, "id": "callcall2"}]</s>'
            '[TOOL_RESULTS]{"content": x, "call_id": "callcall1"}[/TOOL_RESULTS]'
            '[TOOL_RESULTS]{"content": y, "call_id": "callcall2"}[/TOOL_RESULTS]',
            ["preamble_moved"],
        ),
        (
            V11,
            "<s>[SYSTEM_PROMPT]Be brief.[/SYSTEM_PROMPT][INST]one[/INST]yes</s>"
            f"[AVAILABLE_TOOLS][{TOOL}][/AVAILABLE_TOOLS][INST]two[/INST]"
            '[TOOL_CALLS]ls[CALL_ID]callcall1[ARGS]{"a":1}[TOOL_CALLS]ls[CALL_ID]callcall2[ARGS]{}</s>'
            "[TOOL_RESULTS]callcall1[TOOL_CONTENT]x[/TOOL_RESULTS][TOOL_RESULTS]callcall2[TOOL_CONTENT]y[/TOOL_RESULTS]",
            ["preamble_moved"],
        ),
        (
            V13,
            f"<s>[SYSTEM_PROMPT]Be brief.[/SYSTEM_PROMPT][AVAILABLE_TOOLS][{TOOL}][/AVAILABLE_TOOLS]"
            '[INST]one[/INST]yes</s>[INST]two[/INST][TOOL_CALLS]ls[ARGS]{"a":1}[TOOL_CALLS]ls[ARGS]{}</s>'
            "[TOOL_RESULTS]x[/TOOL_RESULTS][TOOL_RESULTS]y[/TOOL_RESULTS]",
            [],
        ),
    ],
    ids=["v3", "v11", "v13"],
)
def test_a_conversation_written_out(version: Version, written: str, reasons: list[str]) -> None:
    chain = Chain(version, PromptContext("Be brief.", LS))
    chain.give(asked("one")).answer(said("yes")).give(asked("two"))
    chain.answer(call(arguments='{"a":1}'), call("callcall2")).give(output("x"), output("y", "callcall2"))
    assert (chain.text, chain.rewinds) == (written, reasons)


def test_reasoning_is_kept_whatever_is_asked_next() -> None:
    chain = Chain(V13_THINKING, system="Think: [THINK]so[/THINK]").give(asked("one"))
    chain.answer(Reasoning(content=[ReasoningText(text="hm\n")]), said("yes"), call()).give(output("x"), asked("two"))
    assert chain.text == (
        "<s>[SYSTEM_PROMPT]Think: [THINK]so[/THINK][/SYSTEM_PROMPT][INST]one[/INST][THINK]hm\n[/THINK]yes"
        "[TOOL_CALLS]ls[ARGS]{}</s>[TOOL_RESULTS]x[/TOOL_RESULTS][INST]two[/INST]"
    )
    assert chain.rewinds == [] and len(chain.format.generation_prompt(chain.state)) == 0
    assert chain.tokens.count(TOKENIZER.special_ids["[THINK]"]) == 2  # also in the model's own system prompt


def test_without_tools_and_instructions_nothing_moves() -> None:
    chain = Chain(V3).give(asked("one")).answer(said("yes")).give(asked("two"))
    assert chain.text == "<s>[INST]one[/INST]yes</s>[INST]two[/INST]" and chain.rewinds == []


@every_version
@given(data=st.data())
def test_any_split_into_turns_gives_the_same_tokens(version: Version, data: st.DataObject) -> None:
    items = data.draw(st.lists(inputs, max_size=8))
    instructions = data.draw(st.sampled_from([None, "Be brief."]))
    context = PromptContext(instructions, data.draw(st.sampled_from([(), TOOLS])))
    whole, parts = Chain(version, context, "Default."), Chain(version, context, "Default.")
    whole.give(*items)
    while items:
        cut = data.draw(st.integers(0, len(items)))
        parts.give(*items[:cut])
        items = items[cut:] if cut else items
        if not cut:
            parts.give(*items)
            break
    assert parts.text == whole.text
    assert parts.tokens == whole.tokens


def test_a_call_that_comes_later_joins_the_list_of_calls() -> None:
    chain = Chain(V3).give(said("so"), call()).give(call("callcall2"))
    assert chain.rewinds == ["message_reopened"]
    one, two = (f'{{"name": "ls", "arguments": {{}}, "id": "callcall{number}"}}' for number in (1, 2))
    assert chain.text == f"<s>so[TOOL_CALLS][{one}, {two}]</s>"
    assert Chain(V3).answer(said("so"), call()).give(call("callcall2")).text == chain.text


@every_version
def test_a_first_developer_message_is_the_instructions(version: Version) -> None:
    rule = Message(role="developer", content="Be brief.")
    chain = Chain(version, PromptContext(None, LS), "Default.").give().give(rule, asked("one"))
    same = Chain(version, PromptContext("Be brief.", LS), "Default.").give(asked("one"))
    assert chain.tokens == same.tokens and chain.rewinds == ["first_message_instructs"]
    assert chain.answer(said("x")).give(asked("two")).text == same.answer(said("x")).give(asked("two")).text


@pytest.mark.parametrize(
    ("version", "items", "written"),
    [
        (V13, [asked("a"), asked("b")], "[INST]a[/INST][INST]b[/INST]"),
        (V13, [said("a"), said("b")], "a</s>b</s>"),
        (V13, [asked("a"), Message(role="system", content="r")], "[INST]a[/INST][SYSTEM_PROMPT]r[/SYSTEM_PROMPT]"),
        (V3, [asked("a"), Message(role="system", content="r")], "[INST]a[/INST][INST]r[/INST]"),
        (V13, [OpaqueItem("x", b'{"a":1}')], '[SYSTEM_PROMPT]{"a":1}[/SYSTEM_PROMPT]'),
        (V13, [output("lost")], "[TOOL_RESULTS]lost[/TOOL_RESULTS]"),
        (V13, [call(arguments=" "), said("")], "[TOOL_CALLS]ls[ARGS]{}</s>"),
        (V13, [CustomToolCall(call_id="c", name="sh", input="é")], '[TOOL_CALLS]sh[ARGS]{"input": "é"}</s>'),
        (V13, [Reasoning(content=[ReasoningText(text="hm")])], ""),
        (V13_THINKING, [Reasoning(content=[ReasoningText(text="hm")])], "[THINK]hm[/THINK]</s>"),
        (V13_THINKING, [Reasoning(encrypted_content="sealed")], ""),
    ],
)
def test_what_the_templates_refuse_has_a_rendering(version: Version, items: Sequence[Item], written: str) -> None:
    assert Chain(version).give(*items).text == "<s>" + written


def test_call_ids_are_nine_letters_or_digits_always_the_same() -> None:
    assert nine("abcDEF123") == "abcDEF123"
    strange = ["call_1", "abcdefgh-", "", "é", "abcdefghi\n", "\ud800"]
    made = [nine(call_id) for call_id in strange]
    assert all(len(one) == 9 and one.isascii() and one.isalnum() for one in made)
    assert made == [nine(call_id) for call_id in strange] and len(set(made)) == len(strange)
    chain = Chain(V11).give(call("call_1"), output("x", "call_1"))
    assert chain.text.count(nine("call_1")) == 2


@pytest.mark.parametrize(
    ("version", "sampled", "shown"),
    [
        (V11, "[TOOL_CALLS]ls[CALL_ID]modelsid1[ARGS]{}[TOOL_CALLS]ls[CALL_ID]modelsid2[ARGS]{}</s>", "modelsid"),
        (V11, "[TOOL_CALLS]ls[ARGS]{}[TOOL_CALLS]ls[ARGS]{}</s>", "callcall"),
        (V3, '[TOOL_CALLS][{"name": "ls", "arguments": {}, "id": "modelsid1"}, '
             '{"name": "ls", "arguments": {}, "id": "modelsid2"}]</s>', "modelsid"),
        (V3, '[TOOL_CALLS][{"name": "ls", "arguments": {}}, {"name": "ls", "arguments": {}}]</s>', "callcall"),
        (V3, '[TOOL_CALLS][{"name": "ls", "arguments": {}}, {"name": "ls"</s>', "callcall"),
    ],
)  # fmt: skip
def test_outputs_carry_the_id_that_the_model_gave_its_call(version: Version, sampled: str, shown: str) -> None:
    chain = Chain(version).answer(call("callcall1"), call("callcall2"), text=sampled)
    assert chain.text == "<s>" + sampled
    text = chain.give(output("y", "callcall2"), output("x", "callcall1")).text.removeprefix("<s>" + sampled)
    assert text.count(shown) == 2 and text.index(f"{shown}2") < text.index(f"{shown}1")


@pytest.mark.parametrize(
    ("sampled", "output", "written"),
    [
        ("ha", [said("ha")], "ha</s>"),
        ("[THINK]h", [Reasoning(content=[ReasoningText(text="h")])], "[THINK]h[/THINK]</s>"),
        ("[TOOL_CALLS]ls[ARGS]{", [call(arguments="{")], "[TOOL_CALLS]ls[ARGS]{</s>"),
    ],
)
def test_output_that_was_cut_is_closed(sampled: str, output: list[Item], written: str) -> None:
    assert Chain(V13_THINKING).answer(*output, text=sampled).text == "<s>" + written


@every_version
def test_a_model_does_not_write_outputs_of_tools(version: Version) -> None:
    with pytest.raises(ValueError, match="items of type FunctionCallOutput"):
        Mistral(TOKENIZER, version).encode_items(PromptContext(), [output("x")])


def test_a_vocabulary_of_an_older_version_is_refused() -> None:
    old = ToyTokenizer([mark for mark in MISTRAL_MARKS if mark not in ("[ARGS]", "[THINK]")])
    with pytest.raises(ValueError, match=r"no control token '\[ARGS\]', which the mistral-v13 format needs"):
        Mistral(old, V13)
    assert Mistral(old, V3).name == "mistral-v3"


def test_only_mistrals_templates_are_taken_for_them() -> None:
    found = {name: family_of(template_source(name)) for name in template_names()}
    assert {name: family for name, family in found.items() if (family or "").startswith("mistral")} == {
        "mistralai-Mistral-Nemo-Instruct-2407": "mistral-v3",
        "Mistral-Small-3.2-24B-Instruct-2506": "mistral-v11",
        "unsloth-mistral-Devstral-Small-2507": "mistral-v13",
        "mistralai-Ministral-3-14B-Reasoning-2512": "mistral-v13-thinking",
    }


@pytest.mark.parametrize(
    "template",
    [
        "[INST][SYSTEM_PROMPT][TOOL_CALLS][{",  # v7: a list of calls behind a system prompt
        "[INST][TOOL_CALLS]",
        "[INST][SYSTEM_PROMPT][TOOL_CALLS][CALL_ID][ARGS]",
    ],
)
def test_versions_that_are_not_known_are_not_guessed(template: str) -> None:
    assert family_of(template) is None


# --- default system prompts ---


@pytest.mark.parametrize("name", ["unsloth-mistral-Devstral-Small-2507", "mistralai-Ministral-3-14B-Reasoning-2512"])
def test_the_default_system_prompt_is_the_templates_own(name: str) -> None:
    style = Style(variables={"bos_token": "<s>", "eos_token": "</s>"})
    written = RealTemplate(name, style).render(PromptContext(), [asked("x")])
    format = format_for_template(template_source(name), TOKENIZER)
    assert TOKENIZER.decode(format.begin(PromptContext()).tokens) == written.removesuffix("[INST]x[/INST]")


def test_a_default_system_prompt_says_nothing_of_the_date() -> None:
    name = "Mistral-Small-3.2-24B-Instruct-2506"
    style = Style(variables={"bos_token": "<s>", "eos_token": "</s>"})
    written = RealTemplate(name, style).render(PromptContext(), [asked("x")])
    format = format_for_template(template_source(name), TOKENIZER)
    text = TOKENIZER.decode(format.begin(PromptContext()).tokens)
    assert text == written.removesuffix("[INST]x[/INST]").replace(" The current date is 2026-07-26.", "")


def test_a_template_without_a_default_or_with_a_broken_one_has_none() -> None:
    assert default_system("{{ messages }}") is None
    assert default_system("{%- set default_system_message = nothing.at.all %}") is None
    assert default_system("{%- set default_system_message = 3 %}") is None
    assert default_system("{%- set default_system_message = 'a' %}{{ later }}") == "a"


# --- the encoder that Mistral publishes ---


@pytest.mark.parametrize(("version", "number"), [(V3, "v3"), (V11, "v11"), (V13, "v13"), (V13_THINKING, "v13")])
def test_text_equals_that_of_the_published_encoder(version: Version, number: str) -> None:
    """Where the two agree on purpose: the template of v3 does not quote the output of a tool, Mistral's encoder does."""
    schema = {"type": "object", "properties": {"zeta": {"type": "integer"}}, "required": ["zeta"]}
    tool = published.Tool(function=published.Function(name="ls", description="é", parameters=schema))
    calls = [
        published.ToolCall(id=call_id, function=published.FunctionCall(name="ls", arguments='{"zeta": 1}'))
        for call_id in ("callcall1", "callcall2")
    ]
    text = None if version is V3 else "Look:"
    messages: list[published.ChatMessage] = [
        published.SystemMessage(content="Be brief."),
        published.UserMessage(content="hi"),
        published.AssistantMessage(content="yo"),
        published.UserMessage(content="list"),
        published.AssistantMessage(content=text, tool_calls=calls),
        published.ToolMessage(content="[1, 2]", tool_call_id="callcall1", name="ls"),
        published.ToolMessage(content="3", tool_call_id="callcall2", name="ls"),
    ]
    raw = '[{"type":"function","name":"ls","description":"é","parameters":{"type":"object","properties":'
    raw += '{"zeta":{"type":"integer"}},"required":["zeta"]}}]'
    chain = Chain(version, PromptContext("Be brief.", decode_tools(raw.encode())))
    chain.give(asked("hi"), said("yo"), asked("list"))
    if text is not None:
        chain.give(said(text))
    chain.give(call("callcall1", '{"zeta": 1}'), call("callcall2", '{"zeta": 1}'))
    chain.give(output("[1, 2]", "callcall1"), output("3", "callcall2"))
    assert chain.text == published.published_text(number, messages, [tool])
