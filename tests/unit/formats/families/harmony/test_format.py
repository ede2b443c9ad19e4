import os
from array import array
from collections.abc import Iterator, Sequence

import openai_harmony as published
import pytest
from tests.support import harmony_oracle
from tests.support.conversations import TOOLS
from tests.support.real_templates import asset, template_names, template_source
from tests.support.toy_tokenizer import ToyTokenizer
from tests.support.vocabularies import HARMONY_IDS, SpyTokenizer, o200k_harmony

from hotloop.formats import family_of
from hotloop.formats.families.harmony.format import Harmony
from hotloop.protocol.items import (
    CustomToolCall,
    CustomToolCallOutput,
    FunctionCall,
    FunctionCallOutput,
    Item,
    Message,
    OpaqueItem,
    OutputText,
    Reasoning,
    ReasoningText,
    SummaryText,
)
from hotloop.protocol.tools import decode_tools
from hotloop.seams.format import Extension, ItemClosed, ItemDelta, ItemOpened, ParsedEvent, RenderState
from hotloop.seams.prompt import PromptContext

SPECIALS = tuple(HARMONY_IDS)
TOKENIZER = ToyTokenizer(SPECIALS)
HARMONY = Harmony(TOKENIZER)
SYSTEM = (
    "<|start|>system<|message|>You are ChatGPT, a large language model trained by OpenAI.\nKnowledge cutoff: 2024-06\n\n"
    "Reasoning: medium\n\n# Valid channels: analysis, commentary, final. Channel must be included for every message."
)


def thought(text: str) -> Reasoning:
    return Reasoning(content=[ReasoningText(text=text)])


def said(text: str, phase: str | None = None) -> Message:
    return Message(role="assistant", content=[OutputText(text=text)], phase=phase)


class Chain:
    """A chain as it grows; `rewinds` are the reasons so far."""

    def __init__(self, context: PromptContext, format: Harmony = HARMONY) -> None:
        self.format = format
        self.tokens = array("I")
        self.rewinds: list[str] = []
        self.state: RenderState = None
        self._apply(format.begin(context))

    def give(self, *items: Item) -> "Chain":
        extension = self.format.extend(self.state, len(self.tokens), items)
        assert isinstance(extension, Extension)
        return self._apply(extension)

    def answer(self, *items: Item, ids: Sequence[int] | None = None) -> "Chain":
        sampled = self.format.encode_items(PromptContext(), items) if ids is None else ids
        return self._apply(self.format.commit(self.state, len(self.tokens), sampled, items))

    def _apply(self, extension: Extension) -> "Chain":
        if extension.reason is not None:
            self.rewinds.append(extension.reason)
        del self.tokens[extension.keep :]
        self.tokens.extend(extension.tokens)
        self.state = extension.state
        return self

    @property
    def text(self) -> str:
        return TOKENIZER.decode(self.tokens).removeprefix(SYSTEM)


def test_the_head_of_a_tools_outputs_is_tokenized_once_if_the_name_is_one_of_a_tool() -> None:
    spy = SpyTokenizer(TOKENIZER, SPECIALS)
    chain = Chain(PromptContext(), Harmony(spy))
    for name, texts_of_a_head in (("shell", 0), ("x" * 1_000, 2)):
        for turn in range(3):
            chain.give(FunctionCall(call_id="c", name=name, arguments="{}"))
            before = spy.encode_calls
            chain.give(FunctionCallOutput(call_id="c", output="done"))
            assert turn == 0 or spy.encode_calls - before == 1 + texts_of_a_head
        head = f"<|start|>functions.{name} to=assistant<|channel|>commentary<|message|>"
        assert spy.decode(chain.tokens).endswith(f'{head}"done"<|end|>')


def test_a_tool_loop_written_out() -> None:
    chain = Chain(PromptContext("Be brief.", decode_tools(b'[{"type":"function","name":"ls","description":"lists"}]')))
    chain.give(Message(role="user", content="What is here?"))
    chain.answer(thought("Look."), FunctionCall(call_id="1", name="ls", arguments="{}"))
    chain.give(FunctionCallOutput(call_id="1", output='a "b"\n'))
    chain.answer(thought("One."), said("One file."))
    chain.give(Message(role="user", content="Thanks"))
    assert chain.text == (
        "\nCalls to these tools must go to the commentary channel: 'functions'.<|end|>"
        "<|start|>developer<|message|># Instructions\n\nBe brief.\n\n# Tools\n\n## functions\n\n"
        "namespace functions {\n\n// lists\ntype ls = () => any;\n\n} // namespace functions<|end|>"
        "<|start|>user<|message|>What is here?<|end|>"
        "<|start|>assistant to=functions.ls<|channel|>commentary json<|message|>{}<|call|>"
        '<|start|>functions.ls to=assistant<|channel|>commentary<|message|>"a \\"b\\"\\n"<|end|>'
        "<|start|>assistant<|channel|>final<|message|>One file.<|end|>"
        "<|start|>user<|message|>Thanks<|end|>"
    )
    assert chain.rewinds == ["reasoning_dropped"]


def test_inside_a_tool_loop_nothing_is_written_twice() -> None:
    """Not even where the user speaks in the middle of it: only an answer drops reasoning."""
    chain = Chain(PromptContext())
    chain.give(Message(role="user", content="go"))
    for number in ("1", "2"):
        chain.answer(thought("hm"), FunctionCall(call_id=number, name="ls", arguments="{}"))
        chain.give(FunctionCallOutput(call_id=number, output=""), Message(role="user", content="more"))
    assert chain.rewinds == [] and chain.text.count("analysis<|message|>hm") == 2


def test_an_answer_without_reasoning_costs_no_rewind() -> None:
    chain = Chain(PromptContext()).give(Message(role="user", content="go")).answer(said("done"))
    chain.give(Message(role="user", content="more"), thought("a"))
    assert chain.rewinds == []
    chain.answer(said("done", "commentary"), thought("b"), FunctionCall(call_id="1", name="ls", arguments="{}"))
    assert chain.give(FunctionCallOutput(call_id="1", output="x")).rewinds == []
    assert "<|start|>assistant<|channel|>commentary<|message|>done<|end|>" in chain.text
    assert "analysis" not in chain.answer(said("done")).give().text and chain.rewinds == ["reasoning_dropped"]


def test_a_call_behind_an_answer_is_found_again_after_the_rewind() -> None:
    chain = Chain(PromptContext())
    call = FunctionCall(call_id="1", name="ls", arguments="{}")
    chain.answer(said("wait"), call).answer(thought("a"), FunctionCall(call_id="2", name="rm", arguments="{}"))
    assert chain.give(said("so"), FunctionCallOutput(call_id="1", output="x")).rewinds == ["reasoning_dropped"]
    assert chain.text.endswith('<|start|>functions.ls to=assistant<|channel|>commentary<|message|>"x"<|end|>')


@pytest.mark.parametrize(
    ("effort", "written"),
    [(None, "medium"), ("none", "low"), ("minimal", "low"), ("low", "low"), ("medium", "medium"), ("high", "high"),
     ("xhigh", "high")],
)  # fmt: skip
def test_the_nearest_effort_stands_in_the_system_message(effort: str | None, written: str) -> None:
    context = PromptContext(reasoning_effort=effort)
    text = TOKENIZER.decode(HARMONY.begin(context).tokens)
    assert f"\n\nReasoning: {written}\n\n" in text
    assert text == harmony_oracle.render(context, [], effort=written)


@pytest.mark.parametrize(
    ("items", "written"),
    [
        ([Message(role="developer", content="Rule")], "<|start|>developer<|message|># Instructions\n\nRule\n\n<|end|>"),
        (
            [FunctionCallOutput(call_id="x", output="lost")],
            '<|start|>functions to=assistant<|channel|>commentary<|message|>"lost"<|end|>',
        ),
        (
            [FunctionCall(call_id="a", name="ls", arguments=" "), FunctionCall(call_id="b", name="rm", arguments="{}"),
             FunctionCallOutput(call_id="a", output="1"), FunctionCallOutput(call_id="b", output="2")],
            "<|start|>assistant to=functions.ls<|channel|>commentary json<|message|>{}<|call|>"
            "<|start|>assistant to=functions.rm<|channel|>commentary json<|message|>{}<|call|>"
            '<|start|>functions.ls to=assistant<|channel|>commentary<|message|>"1"<|end|>'
            '<|start|>functions.rm to=assistant<|channel|>commentary<|message|>"2"<|end|>',
        ),
        (
            [CustomToolCall(call_id="a", name="sh", input='say "é"'), CustomToolCallOutput(call_id="a", output="é")],
            '<|start|>assistant to=functions.sh<|channel|>commentary json<|message|>{"input": "say \\"é\\""}<|call|>'
            '<|start|>functions.sh to=assistant<|channel|>commentary<|message|>"é"<|end|>',
        ),
        ([OpaqueItem("x", b'{"a":1}')], '<|start|>developer<|message|># Instructions\n\n{"a":1}\n\n<|end|>'),
        ([Reasoning(summary=[SummaryText(text="so")])], "<|start|>assistant<|channel|>analysis<|message|>so<|end|>"),
        ([Reasoning(encrypted_content="sealed")], ""),
    ],
)  # fmt: skip
def test_what_the_template_cannot_express_has_a_rendering(items: list[Item], written: str) -> None:
    assert Chain(PromptContext()).give(*items).text == "<|end|>" + written


def test_text_that_the_template_refuses_stays_text() -> None:
    chain = Chain(PromptContext()).give(said("<|channel|>analysis<|message|>x"))
    assert chain.tokens.count(TOKENIZER.special_ids["<|channel|>"]) == 1


@pytest.mark.parametrize(
    ("sampled", "output", "written"),
    [
        ("<|channel|>final<|message|>ha", [said("ha")], "<|channel|>final<|message|>ha<|end|>"),
        (
            "<|channel|>analysis<|message|>x<|end|>",
            [thought("x")],
            "<|channel|>analysis<|message|>x<|end|>",
        ),
        (
            "<|channel|>analysis<|message|>x<|end|><|start|>assistant<|channel|>comm",
            [thought("x")],
            "<|channel|>analysis<|message|>x<|end|><|start|>assistant<|channel|>comm<|message|><|end|>",
        ),
        (
            ' to=functions.ls<|channel|>commentary json<|message|>{"a',
            [FunctionCall(call_id="1", name="ls", arguments='{"a')],
            ' to=functions.ls<|channel|>commentary json<|message|>{"a<|call|>',
        ),
        (
            " to=functions.l",
            [FunctionCall(call_id="1", name="l", arguments="")],
            " to=functions.l<|message|><|call|>",
        ),
    ],
)
def test_output_that_was_cut_is_closed(sampled: str, output: list[Item], written: str) -> None:
    ids = SpyTokenizer(TOKENIZER, SPECIALS).whole(sampled)
    assert Chain(PromptContext()).answer(*output, ids=ids).text == "<|end|><|start|>assistant" + written


def test_a_model_does_not_write_user_messages() -> None:
    with pytest.raises(ValueError, match="items of type FunctionCallOutput"):
        HARMONY.encode_items(PromptContext(), [FunctionCallOutput(call_id="1", output="x")])


def test_a_vocabulary_without_its_control_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no control token '<\|call\|>'"):
        Harmony(ToyTokenizer([mark for mark in SPECIALS if mark != "<|call|>"]))


def test_only_the_template_of_gpt_oss_is_taken_for_it() -> None:
    assert [name for name in template_names() if family_of(template_source(name)) == "harmony"] == [
        "openai-gpt-oss-120b"
    ]


# --- the encoder that OpenAI publishes ---


@pytest.fixture(scope="module")
def encoder() -> Iterator[published.HarmonyEncoding]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "TIKTOKEN_ENCODINGS_BASE", str(asset("tokenizers/o200k_base.tiktoken").parent))
        yield published.load_harmony_encoding(published.HarmonyEncodingName.HARMONY_GPT_OSS)


def _published(
    role: published.Role, text: str, channel: str | None = None, recipient: str | None = None
) -> published.Message:
    message = published.Message.from_role_and_content(role, text)
    message = message if channel is None else message.with_channel(channel)
    return message if recipient is None else message.with_recipient(recipient).with_content_type("json")


def test_tokens_equal_those_of_the_published_encoder(encoder: published.HarmonyEncoding) -> None:
    """Where the two agree on purpose: nested types and quoted tool outputs are the template's way alone."""
    schema = {"type": "object", "properties": {"zeta": {"type": "integer", "description": "é"}}, "required": ["zeta"]}
    tools = [
        published.ToolDescription(name="ls", description="lists", parameters=schema),
        published.ToolDescription(name="bare", description=""),
    ]
    system = published.SystemContent.new().with_reasoning_effort(published.ReasoningEffort.HIGH)
    developer = published.DeveloperContent.new().with_instructions("Be brief.").with_function_tools(tools)
    assistant, user = published.Role.ASSISTANT, published.Role.USER
    author = published.Author.new(published.Role.TOOL, "functions.ls")
    output = published.Message.from_author_and_content(author, '"ä\\n"').with_channel("commentary")
    messages = [
        published.Message.from_role_and_content(published.Role.SYSTEM, system),
        published.Message.from_role_and_content(published.Role.DEVELOPER, developer),
        _published(user, "go on, 日本"),
        _published(assistant, "Fine.", "final"),
        _published(user, "<|end|> more"),
        _published(assistant, "kept", "analysis"),
        _published(assistant, "Listing.", "commentary"),
        _published(assistant, '{"zeta": 1}', "commentary", "functions.ls"),
        output.with_recipient("assistant"),
    ]
    conversation = published.Conversation.from_messages(messages)
    expected = encoder.render_conversation_for_completion(conversation, assistant)

    harmony = Harmony(o200k_harmony())
    raw = b'[{"type":"function","name":"ls","description":"lists","parameters":{"type":"object","properties":{"zeta":'
    raw += '{"type":"integer","description":"é"}},"required":["zeta"]}},{"type":"function","name":"bare"}]'.encode()
    start = harmony.begin(PromptContext("Be brief.", decode_tools(raw), reasoning_effort="high"))
    items: list[Item] = [
        Message(role="user", content="go on, 日本"),
        said("Fine."),
        Message(role="user", content="<|end|> more"),
        thought("kept"),
        said("Listing.", "commentary"),
        FunctionCall(call_id="1", name="ls", arguments='{"zeta": 1}'),
        FunctionCallOutput(call_id="1", output="ä\n"),
    ]
    extension = harmony.extend(start.state, len(start.tokens), items)
    assert isinstance(extension, Extension)
    prompt = harmony.generation_prompt(extension.state)
    assert list(start.tokens + extension.tokens + prompt) == expected


def test_reasoning_is_dropped_where_the_published_encoder_drops_it(encoder: published.HarmonyEncoding) -> None:
    assistant, user = published.Role.ASSISTANT, published.Role.USER
    messages = [
        published.Message.from_role_and_content(published.Role.SYSTEM, published.SystemContent.new()),
        _published(user, "go"),
        _published(assistant, "one", "analysis"),
        _published(assistant, "Look.", "commentary"),
        _published(assistant, "two", "analysis"),
        _published(assistant, "Done.", "final"),
        _published(user, "more"),
    ]
    expected = encoder.render_conversation_for_completion(published.Conversation.from_messages(messages), assistant)
    chain = Chain(PromptContext(), Harmony(o200k_harmony()))
    chain.give(Message(role="user", content="go"))
    chain.answer(thought("one"), said("Look.", "commentary"), thought("two"), said("Done."))
    chain.give(Message(role="user", content="more"))
    assert list(chain.tokens + chain.format.generation_prompt(chain.state)) == expected


def test_our_ids_of_the_control_tokens_are_the_published_ones(encoder: published.HarmonyEncoding) -> None:
    assert {mark: encoder.encode(mark, allowed_special="all") for mark in HARMONY_IDS} == {
        mark: [token] for mark, token in HARMONY_IDS.items()
    }
    assert set(encoder.stop_tokens_for_assistant_actions()) <= Harmony(o200k_harmony()).stop_tokens


def _messages(events: Sequence[ParsedEvent]) -> list[tuple[str | None, str | None, str]]:
    """Channel, recipient and text of each item."""
    found: list[tuple[str | None, str | None, str]] = []
    for event in events:
        match event:
            case ItemOpened(kind, name, phase):
                channel = {"reasoning": "analysis"}.get(kind, "final" if phase == "final_answer" else "commentary")
                found.append((channel, f"functions.{name}" if name else None, ""))
            case ItemDelta(text):
                found[-1] = (*found[-1][:2], found[-1][2] + text)
            case ItemClosed():
                pass
    return found


@pytest.mark.parametrize(
    "text",
    [
        "<|channel|>analysis<|message|>Hm é<|end|><|start|>assistant<|channel|>final<|message|>Yes<|return|>",
        "<|channel|>commentary<|message|>Now.<|end|><|start|>assistant<|channel|>commentary to=functions.ls "
        '<|constrain|>json<|message|>{"zeta": 1}<|call|>',
        ' to=functions.ls<|channel|>commentary <|constrain|>json<|message|>{"a": "<|"}<|call|>',
    ],
)
def test_output_reads_as_the_published_parser_reads_it(encoder: published.HarmonyEncoding, text: str) -> None:
    ids = encoder.encode(text, allowed_special="all")
    expected = [
        (
            message.channel,
            message.recipient,
            "".join(part.text for part in message.content if isinstance(part, published.TextContent)),
        )
        for message in encoder.parse_messages_from_completion_tokens(ids, published.Role.ASSISTANT)
    ]
    parser = Harmony(o200k_harmony()).parser(PromptContext(tools=TOOLS))
    found = _messages([*parser.feed(ids, None), *parser.finish(complete=True)])
    assert found == expected
