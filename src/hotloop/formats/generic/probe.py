"""Finds out what an unknown chat template does, by rendering conversations made of words that nothing else contains.

Every answer is what the template did, not what its text looks like. A template that cannot write a plain question and answer
is refused when it is loaded.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from hotloop.formats.generic.chat_template import ChatTemplate, TemplateRefusal, literals_of, to_json
from hotloop.formats.generic.content_mask import SAMPLE, SAMPLE_ESCAPED
from hotloop.formats.generic.messages import HERMES_CALL, Dialect
from hotloop.formats.generic.parser import ThinkMarks
from hotloop.formats.generic.syntax import ARGUMENTS, IDS, NAMES, CallSyntax, find_syntax

QUESTION, ANSWER, SYSTEM, THOUGHT, RESULT = "hlquestion", "hlanswer", "hlsystem", "hlthought", "hlresult"
# Keys under which templates look for the reasoning of an assistant message, most common first.
REASONING_KEYS = ("reasoning_content", "thinking", "reasoning", "thought")

Messages = Sequence[Mapping[str, object]]

# Spellings that may be control tokens: tags, bracketed words, and `]~b]` as MiniMax writes them.
_MARKS = re.compile(r"<\|[^|<>]{1,80}\|>|<[^<>\s]{1,80}>|\[[^\[\]\s]{1,40}\]|\][^\[\]\s]{1,10}\]|\[[^\[\]\s]{1,10}\[")

_STYLES: "tuple[Literal['object'], Literal['text']]" = ("object", "text")
TOOL: dict[str, object] = {
    "type": "function",
    "function": {
        "name": NAMES[0],
        "description": "hldescription",
        "parameters": {"type": "object", "properties": {"hlkeyone": {"type": "string"}}, "required": ["hlkeyone"]},
    },
}


@dataclass(frozen=True, slots=True)
class Profile:
    """What a template does."""

    dialect: Dialect
    think: ThinkMarks | None
    syntax: CallSyntax | None
    generation: str  # what asks for an answer, by default
    closing: str  # what stands behind an answer's text
    tail: str  # what stands only at the very end; no part of a chain
    escapes: bool  # content in JSON is written in ASCII
    spellings: frozenset[str]  # what might be a control token


def question(text: str = QUESTION) -> dict[str, object]:
    """A user message."""
    return {"role": "user", "content": text}


def answer(text: str = ANSWER, **fields: object) -> dict[str, object]:
    """An assistant message."""
    return {"role": "assistant", "content": text, **fields}


def learn(template: ChatTemplate) -> Profile:
    """Raises ValueError if the template cannot be used at all; says why."""
    _choose_engine(template)
    probe = _Probe(template)
    plain = probe.render([question()])
    if plain is None:
        template.no_tools = []
        plain = probe.render([question()])
    answered = probe.render([question(), answer()])
    asked = probe.render([question()], generate=True)
    if plain is None or answered is None or asked is None:
        raise ValueError(f"the chat template cannot write a question and its answer{probe.reason()}")
    if QUESTION not in plain or ANSWER not in answered:
        raise ValueError("the chat template leaves out what the user or the model says")
    tail = _tail(plain, answered, asked)
    plain, answered = plain.removesuffix(tail), answered.removesuffix(tail)
    if not asked.startswith(plain):
        raise ValueError("the chat template rewrites the conversation when it asks for an answer")
    generation = asked[len(plain) :]
    dialect = probe.dialect()
    syntax = probe.syntax(dialect, generation, tail)
    return Profile(
        # Tools whose calls cannot be read would never be called.
        replace(dialect, takes_tools=dialect.takes_tools and syntax is not None),
        probe.think(dialect, plain, generation),
        syntax,
        generation,
        answered[answered.rindex(ANSWER) + len(ANSWER) :],
        tail,
        probe.escapes(dialect),
        probe.spellings(),
    )


def _tail(plain: str, answered: str, asked: str) -> str:
    """What stands behind every conversation, but not in the middle of a longer one.

    Some templates end a conversation that asks for no answer with the end-of-sequence token; some ask for an answer always.
    """
    if asked.startswith(plain) and answered.startswith(plain):
        return ""
    if asked != plain:
        return plain[_mark_start(plain, len(_common(plain, asked))) :]
    ends = len(_common(plain[::-1], answered[::-1]))
    return plain[_mark_start(plain, len(plain) - ends) :]


def _choose_engine(template: ChatTemplate) -> None:
    """jinja2 decides; minijinja stays only if it agrees on values of every kind."""
    odd = {"hltrue": True, "hlnone": None, "hlreal": 1.5, "hllist": [1, "ü", {"a": "<b>&'"}], "hlobject": {"b": False}}
    call = {"id": IDS[0], "type": "function", "function": {"name": NAMES[0], "arguments": odd}}
    thought = dict.fromkeys(REASONING_KEYS, f" \n{THOUGHT}\n ")
    loop: Messages = [
        {"role": "system", "content": f" {SYSTEM}"},
        question(f"{QUESTION} <b>é 'x' \"y\"\n"),
        answer("", tool_calls=[call], **thought),
        {"role": "tool", "tool_call_id": IDS[0], "name": NAMES[0], "content": f"{RESULT}\n"},
        answer(f"\n{ANSWER} ", **thought),
        question("  "),
    ]
    for messages in (loop, loop[1:2], loop[1:5], [*loop[1:2], answer("x"), *loop[1:2]]):
        for tools in ((), (TOOL,)):
            template.check_fast(messages, tools, {})


class _Probe:
    def __init__(self, template: ChatTemplate) -> None:
        self._template = template
        self._refusal = ""
        self._texts: list[str] = []

    def reason(self) -> str:
        return f": {self._refusal}" if self._refusal else ""

    def render(self, messages: Messages, *, tools: bool = False, generate: bool = False) -> str | None:
        try:
            text = self._template.render(messages, (TOOL,) if tools else (), {}, generate=generate)
        except TemplateRefusal as refusal:
            self._refusal = refusal.reason
            return None
        self._texts.append(text)
        return text

    def writes(self, messages: Messages, *words: str, tools: bool = False) -> bool:
        text = self.render(messages, tools=tools)
        return text is not None and all(word in text for word in words)

    def dialect(self) -> Dialect:
        system = {"role": "system", "content": SYSTEM}
        again = question("hlagain")
        calls, arguments = self._calls()
        takes_tools = self.writes([question()], NAMES[0], tools=True) or self.writes(
            [system, question()], NAMES[0], tools=True
        )
        if calls == "none" and takes_tools and "<tool_call>" in self._template.source:
            calls = "content"
        return Dialect(
            takes_system=self.writes([system, question()], SYSTEM, QUESTION),
            takes_developer=self.writes([question(), answer(), system, again], SYSTEM, "hlagain"),
            must_alternate=not self.writes([question(), again], QUESTION, "hlagain"),
            takes_tools=takes_tools and calls != "none",
            calls=calls,
            arguments=arguments,
            reasoning=self._reasoning_key(),
        )

    def _calls(self) -> "tuple[Literal['template', 'content', 'none'], Literal['object', 'text']]":
        parts = {style: self._call_part(style) for style in _STYLES}
        for style in _STYLES:
            if find_syntax(parts[style], None, "") is not None:
                return "template", style
        for style in _STYLES:
            if NAMES[0] in parts[style]:
                return "template", style
        return "none", "object"

    def _call_part(self, style: "Literal['object', 'text']") -> str:
        """What the template writes behind the question for a call in this style."""
        text = self.render([question(), answer("", tool_calls=_calls(1, style))], tools=True)
        return "" if text is None or QUESTION not in text else text[text.rindex(QUESTION) + len(QUESTION) :]

    def _reasoning_key(self) -> str | None:
        for key in REASONING_KEYS:
            if self.writes([question(), answer(**{key: THOUGHT})], THOUGHT, ANSWER):
                return key
        return None

    def think(self, dialect: Dialect, plain: str, generation: str) -> ThinkMarks | None:
        if dialect.reasoning is None:
            has_think = "</think>" in self._template.source
            return ThinkMarks("<think>", "</think>") if has_think else None
        text = self.render([question(), answer(**{dialect.reasoning: THOUGHT})])
        assert text is not None and THOUGHT in text, "the key was found by rendering this"
        before, _, behind = text.partition(THOUGHT)
        opening = before[len(plain) :].split()
        closing = behind.partition(ANSWER)[0].split()
        return ThinkMarks(_last_mark(opening[-1]), closing[0]) if opening and closing else None

    def syntax(self, dialect: Dialect, generation: str, tail: str) -> CallSyntax | None:
        if dialect.calls == "none":
            return None
        one, two, said = (self._answer(generation, tail, dialect, *shape) for shape in (("", 1), ("", 2), (ANSWER, 1)))
        if one is None:
            return None
        syntax = find_syntax(one, two, "")
        if syntax is None or said is None or ANSWER not in said:
            return syntax
        behind = said[said.index(ANSWER) + len(ANSWER) :]
        return find_syntax(one, two, behind[: len(behind) - len(behind.lstrip())])

    def _answer(self, generation: str, tail: str, dialect: Dialect, text: str, calls: int) -> str | None:
        """An assistant message with calls, from behind the generation prompt to what closes any answer."""
        if dialect.calls == "content":
            blocks = [HERMES_CALL.format(name=NAMES[i], arguments=to_json(ARGUMENTS[i])) for i in range(calls)]
            message = answer("\n".join([text, *blocks] if text else blocks))
        else:
            message = answer(text, tool_calls=_calls(calls, dialect.arguments))
        written = self.render([question(), message], tools=True)
        with_tools = self.render([question()], tools=True)
        closed = self.render([question(), answer()], tools=True)
        if written is None or with_tools is None or closed is None or NAMES[calls - 1] not in written:
            return None
        start = _mark_start(written, len(_common(written, with_tools.removesuffix(tail) + generation)))
        closing = closed[closed.rindex(ANSWER) + len(ANSWER) :]
        return written[start:].removesuffix(closing)

    def escapes(self, dialect: Dialect) -> bool:
        """Masks come out of the template as JSON escapes."""
        value = {"hlkeyone": SAMPLE}
        call = _calls(1, dialect.arguments)
        call[0]["function"]["arguments"] = value if dialect.arguments == "object" else to_json(value)
        output = {"role": "tool", "tool_call_id": IDS[0], "name": NAMES[0], "content": SAMPLE}
        texts = [
            self.render([question(SAMPLE), answer("", tool_calls=call)], tools=True),
            self.render([question(SAMPLE), answer("", tool_calls=call), output], tools=True),
        ]
        return any(text is not None and SAMPLE_ESCAPED in text for text in texts)

    def spellings(self) -> frozenset[str]:
        texts = [*literals_of(self._template.source), *self._texts]
        found = {mark for text in texts for mark in _MARKS.findall(text)}
        words = {word for literal in literals_of(self._template.source) for word in literal.split() if len(word) <= 80}
        return frozenset(found | words)


def _calls(count: int, style: str) -> list[dict[str, Any]]:
    return [
        {
            "id": IDS[index],
            "type": "function",
            "function": {
                "name": NAMES[index],
                "arguments": ARGUMENTS[index] if style == "object" else to_json(ARGUMENTS[index]),
            },
        }
        for index in range(count)
    ]


def _last_mark(word: str) -> str:
    """The last mark of a word that may be several, as in `<|Bot|><think>`."""
    marks = _MARKS.findall(word)
    return marks[-1] if marks and word.endswith(marks[-1]) else word


def _mark_start(text: str, at: int) -> int:
    """`at`, or the start of the mark that it would cut through."""
    for mark in _MARKS.finditer(text, max(0, at - 100)):
        if mark.start() < at < mark.end():
            return mark.start()
    return at


def _common(first: str, second: str) -> str:
    length = 0
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        length += 1
    return first[:length]
