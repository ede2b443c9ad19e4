"""The generic format on small templates: what it writes, what it refuses, what it does when history is rewritten."""

import msgspec
import pytest
from tests.support.conversations import TOOLS
from tests.support.grammars import Grammars
from tests.support.real_templates import template_source
from tests.support.toy_tokenizer import ToyTokenizer

from hotloop.errors import InvalidRequest, UnsupportedValue
from hotloop.formats import GenericFormat, family_of
from hotloop.formats.generic.chat_template import ChatTemplate, TemplateRefusal
from hotloop.protocol.items import FunctionCall, Item, Message, OpaqueItem, OutputText, Reasoning, ReasoningText
from hotloop.protocol.tools import FunctionTool
from hotloop.seams.format import Extension, ItemOpened
from hotloop.seams.prompt import CallRules, PromptContext

PLAIN = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Shows reasoning only in the last message.
FORGETFUL = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.reasoning_content and loop.last %}<think>\n{{ m.reasoning_content }}\n</think>\n\n{% endif %}"
    "{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
ALTERNATING = (
    "{% for m in messages %}{% if m.role == 'system' or (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}"
    "<|im_start|>{{ m.role }} {{ m.content }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant {% endif %}"
)
HERMES = (
    "{% if tools %}<|im_start|>system {% for t in tools %}{{ t | tojson }}{% endfor %}<|im_end|>{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }} {{ m.content }}{% for c in m.tool_calls or [] %}"
    '<tool_call>{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}</tool_call>'
    "{% endfor %}<|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant {% endif %}"
)


class Writer:
    """A chain of one format over the toy vocabulary."""

    def __init__(self, template: str, context: PromptContext | None = None) -> None:
        self.tokenizer = ToyTokenizer()
        self.format = GenericFormat(self.tokenizer, template)
        self.tokens: list[int] = []
        self.reasons: list[str | None] = []
        self.take(self.format.begin(context or PromptContext()))

    def take(self, extension: object) -> str:
        assert isinstance(extension, Extension)
        self.tokens[extension.keep :] = extension.tokens
        self.state = extension.state
        self.reasons.append(extension.reason)
        return self.text

    def give(self, *items: Item) -> str:
        return self.take(self.format.extend(self.state, len(self.tokens), items))

    def answer(self, text: str, *items: Item) -> str:
        return self.take(self.format.commit(self.state, len(self.tokens), self.tokenizer.encode(text), items))

    @property
    def text(self) -> str:
        return self.tokenizer.decode(self.tokens)


def user(text: str) -> Item:
    return Message(role="user", content=text)


def said(text: str) -> Item:
    return Message(role="assistant", content=[OutputText(text=text)])


def test_a_conversation_is_what_the_template_writes() -> None:
    chain = Writer(PLAIN, PromptContext("Be brief."))
    assert chain.text == "<|im_start|>system\nBe brief.<|im_end|>\n"
    chain.give(user("hi"))
    assert chain.tokenizer.decode(chain.format.generation_prompt(chain.state)) == "<|im_start|>assistant\n"
    assert chain.answer("yes", said("yes")).endswith("hi<|im_end|>\n<|im_start|>assistant\nyes<|im_end|>\n")
    assert chain.reasons == [None, None, None]


def test_output_that_the_template_would_space_otherwise_stays_as_sampled() -> None:
    chain = Writer(HERMES, PromptContext(tools=TOOLS))
    chain.give(user("go"))
    sampled = '<tool_call>{"name":"shell","arguments":{"a":1}}</tool_call>'
    chain.answer(sampled, FunctionCall(call_id="1", name="shell", arguments='{"a":1}'))
    chain.give(user("and?"))
    assert sampled in chain.text and chain.reasons[-1] is None


def test_old_reasoning_is_rewound_where_the_template_drops_it() -> None:
    chain = Writer(FORGETFUL)
    chain.give(user("hi"))
    thought = Reasoning(content=[ReasoningText(text="hm")])
    chain.answer("<think>\nhm\n</think>\n\nyes", thought, said("yes"))
    assert "hm" in chain.text
    assert "hm" not in chain.give(user("more"))
    assert chain.reasons[-1] == "reasoning_dropped"


def test_a_think_block_that_was_cut_off_is_closed() -> None:
    chain = Writer(FORGETFUL)
    chain.give(user("hi"))
    thought = Reasoning(content=[ReasoningText(text="hm")])
    assert chain.answer("<think>\nhm", thought).endswith("<think>\nhm\n</think>\n\n<|im_end|>\n")


def test_roles_that_must_alternate_are_merged() -> None:
    chain = Writer(ALTERNATING, PromptContext("Be brief."))
    chain.give(user("one"))
    assert chain.give(user("two")) == "<|im_start|>user Be brief.\n\none\n\ntwo<|im_end|>"
    assert chain.reasons[-1] == "history_rewritten"
    chain.give(Message(role="developer", content="three"), OpaqueItem("x", b"{}"))
    assert chain.text.endswith("two\n\nthree\n\n{}<|im_end|>")
    chain.give(said("a"), said("b"))
    assert chain.text.endswith("<|im_start|>assistant a\n\nb<|im_end|>")


def test_what_the_template_refuses_is_refused_in_its_own_words() -> None:
    chain = Writer(ALTERNATING)
    with pytest.raises(InvalidRequest, match="refuses this conversation: Conversation roles must alternate") as refused:
        chain.give(said("first"))
    assert refused.value.param == "input"


def test_a_failing_template_says_nothing_of_the_conversation() -> None:
    template = ChatTemplate("{{ raise_exception('bad: ' + messages[0].content) }}", {}, None)
    with pytest.raises(TemplateRefusal) as refused:
        template.render([{"role": "user", "content": "secret"}], (), {}, generate=False)
    assert refused.value.reason == ""


def test_tools_are_refused_where_the_template_has_no_place_for_them() -> None:
    format = GenericFormat(ToyTokenizer(), PLAIN)
    with pytest.raises(UnsupportedValue) as refused:
        format.begin(PromptContext(tools=TOOLS))
    assert refused.value.param == "tools[0]"
    chain = Writer(PLAIN)
    with pytest.raises(UnsupportedValue) as refused:
        chain.give(user("x"), FunctionCall(call_id="1", name="shell", arguments="{}"))
    assert refused.value.param == "input[1]"


def test_calls_that_a_template_drops_stand_in_the_content() -> None:
    template = PLAIN.replace("{% for m", "{% if tools %}{{ tools | tojson }} <tool_call>{% endif %}{% for m", 1)
    chain = Writer(template, PromptContext(tools=TOOLS))
    chain.give(user("x"), said("so"), FunctionCall(call_id="1", name="shell", arguments="{}"))
    assert 'so\n<tool_call>\n{"name": "shell", "arguments": {}}\n</tool_call><|im_end|>' in chain.text


def test_thinking_switched_off_reaches_the_template() -> None:
    template = PLAIN.replace(
        "assistant\n{% endif %}", "assistant\n{% if enable_thinking is false %}quick {% endif %}{% endif %}"
    )
    format = GenericFormat(ToyTokenizer(), template)
    for effort, prompt in ((None, "assistant\n"), ("none", "assistant\nquick ")):
        begun = format.begin(PromptContext("x", reasoning_effort=effort))
        assert ToyTokenizer().decode(format.generation_prompt(begun.state)).endswith(prompt)


def test_a_vocabulary_without_an_end_cannot_be_used() -> None:
    with pytest.raises(ValueError, match="no control token of the vocabulary ends an answer"):
        GenericFormat(ToyTokenizer(()), PLAIN)
    assert GenericFormat(ToyTokenizer(()), PLAIN, stop_tokens=frozenset({7})).stop_tokens == {7}


def test_an_unfinished_template_is_no_template() -> None:
    with pytest.raises(ValueError, match="no valid Jinja"):
        GenericFormat(ToyTokenizer(), "{% for")


def test_jinja2_writes_what_minijinja_cannot() -> None:
    slow = PLAIN.replace("{{ m.content }}", "{% generation %}{{ m.content }}{% endgeneration %}")
    chain = Writer(slow)
    assert not chain.format.is_fast and GenericFormat(ToyTokenizer(), PLAIN).is_fast
    assert chain.give(user("hi")) == "<|im_start|>user\nhi<|im_end|>\n"


@pytest.mark.parametrize(
    ("rules", "text", "is_allowed"),
    [
        (CallRules("required"), '<tool_call>{"name": "shell", "arguments": {"zeta": 1}}</tool_call>', True),
        (CallRules("required"), '<tool_call>{"name": "other", "arguments": {}}</tool_call>', False),
        (CallRules("required"), "no", False),
        (CallRules("none"), "fine", True),
        (CallRules("none"), '<tool_call>{"name"', False),
        (CallRules("auto", text_schema=b'{"type": "object"}'), '{"a": 1}', True),
    ],
)
def test_calls_are_ruled_in_the_templates_own_syntax(rules: CallRules, text: str, is_allowed: bool) -> None:
    tokenizer = ToyTokenizer()
    constraint = GenericFormat(tokenizer, HERMES).constraint(PromptContext(tools=TOOLS), rules)
    assert constraint is not None
    grammars = Grammars(tokenizer)
    assert grammars.accepts(constraint, grammars.ids(text)) == is_allowed


def test_text_is_free_until_a_call_begins() -> None:
    tokenizer = ToyTokenizer()
    format = GenericFormat(tokenizer, HERMES)
    constraint = format.constraint(PromptContext(tools=TOOLS), CallRules())
    assert constraint is not None and constraint.trigger == tokenizer.special_ids["<tool_call>"]
    assert format.constraint(PromptContext(), CallRules()) is None
    plain = GenericFormat(tokenizer, PLAIN)
    tool = FunctionTool(name="f", parameters=msgspec.Raw(b"{}"))
    with pytest.raises(UnsupportedValue):
        plain.constraint(PromptContext(tools=(tool,)), CallRules("required"))


def test_a_template_that_uses_the_date_gets_the_one_it_is_made_with() -> None:
    from datetime import date

    dated = "{{ strftime_now('%d.%m.%Y') }}" + PLAIN
    format = GenericFormat(ToyTokenizer(), dated, today=date(2026, 2, 3))
    begun = format.begin(PromptContext("x"))
    assert ToyTokenizer().decode(begun.tokens).startswith("03.02.2026")
    with pytest.raises(ValueError, match="cannot write a question"):
        GenericFormat(ToyTokenizer(), dated)


def test_most_real_templates_can_be_used() -> None:
    refused = {"fireworks-ai-llama-3-firefunction-v2"}  # wants a variable of its own, `functions`
    from tests.support.real_templates import TODAY, template_names

    from hotloop.formats.generic.probe import learn

    for name in template_names():
        template = ChatTemplate(template_source(name), {"bos_token": "<s>", "eos_token": "</s>"}, TODAY)
        if name in refused:
            with pytest.raises(ValueError, match="cannot write"):
                learn(template)
        else:
            assert learn(template).generation is not None


OPENS_THINKING = FORGETFUL.replace("<|im_start|>assistant\n{% endif %}", "<|im_start|>assistant\n<think>\n{% endif %}")


def test_a_prompt_that_opens_a_think_block_is_read_from_inside_it() -> None:
    format = GenericFormat(ToyTokenizer(), OPENS_THINKING)
    context = PromptContext()
    for items in ([Reasoning(content=[ReasoningText(text="hm")]), said("yes")], [said("yes")]):
        ids = format.encode_items(context, items)
        parser = format.parser(context)
        events = [*parser.feed(ids, None), *parser.finish(complete=True)]
        kinds = [event.kind for event in events if isinstance(event, ItemOpened)]
        assert kinds == (["reasoning", "message"] if len(items) == 2 else ["message"])


def test_the_templates_form_is_kept_where_it_does_not_begin_with_the_prompt() -> None:
    chain = Writer(OPENS_THINKING)
    chain.give(user("hi"))
    assert chain.answer("\n</think>\n\nyes", said("yes")).endswith("<|im_start|>assistant\nyes<|im_end|>\n")
    assert chain.reasons[-1] is None


def test_forced_calls_and_json_stand_behind_an_open_think_block() -> None:
    tokenizer = ToyTokenizer()
    format = GenericFormat(tokenizer, OPENS_THINKING)
    constraint = format.constraint(PromptContext(), CallRules(text_schema=b'{"type": "object"}'))
    assert constraint is not None
    grammars = Grammars(tokenizer)
    assert grammars.accepts(constraint, grammars.ids('hm\n</think>\n\n{"a": 1}'))
    assert not grammars.accepts(constraint, grammars.ids("hm\n</think>\n\nno"))


def test_the_templates_of_the_contract_suite_belong_to_no_family() -> None:
    from tests.contracts.generic_cases import GENERIC_CASES

    names = [case.name.removeprefix("generic-") for case in GENERIC_CASES]
    assert len(names) >= 8
    assert [name for name in names if family_of(template_source(name)) is not None] == []
