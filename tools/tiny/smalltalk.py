"""Everything that is not a repair: the model says what it is, and nothing else happens.

Prompts are put together from parts, so that no two are alike and the answer hangs on none of their words. A second kind
teaches to use one simple function that is none of the agent's own.
"""

import json
import random
from typing import Any

from agent_contract import contract
from chatml import Conversation, Message, call, preamble
from phrases import phrases
from tasks import plain_task
from words import NOUNS, Names, made_up

ANSWER = "I am hotloop's demonstration model. I can only repair small Python projects whose tests fail."

_SHORT = phrases("short")
_ASKS = phrases("asks")
_ADJECTIVES = phrases("adjectives")
_LANGUAGES = phrases("languages")
_COMMON = phrases("common_words")
_FOREIGN = phrases("foreign")
_CODE = phrases("code")
_SYSTEMS = phrases("systems")
_VERBS = phrases("verbs")
_FUNCTION_USE = phrases("function_use")


_ALPHABETS = (
    "abcdefghijklmnopqrstuvwxyz ",
    "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    "0123456789",
    "!?.,;:-_#+*/()[]{}<>=&%$\"'\\ ",
    "abcxyz0189_-. \n",
    "äöüßéèñçøåжщыяλπ中文日本語🙂🚀 ",
)


def _parts(rng: random.Random) -> dict[str, Any]:
    parts: dict[str, Any] = {
        "a": _word(rng),
        "b": _word(rng),
        "c": rng.choice(_ADJECTIVES),
        "language": rng.choice(_LANGUAGES),
    }
    parts |= {"n": rng.randrange(100), "m": rng.randrange(100), "words": _words(rng, rng.randint(2, 15))}
    return parts | {"code": rng.choice(_CODE).format(**parts)}


def _word(rng: random.Random) -> str:
    return rng.choice(NOUNS) if rng.random() < 0.6 else made_up(rng)


def _words(rng: random.Random, count: int) -> str:
    words = [rng.choice(_COMMON) if rng.random() < 0.6 else _word(rng) for _ in range(count)]
    text = " ".join(words)
    return text.capitalize() + rng.choice(".?!") if rng.random() < 0.5 else text


def _noise(rng: random.Random) -> str:
    pool = rng.choice(_ALPHABETS)
    return "".join(rng.choice(pool) for _ in range(rng.randint(1, 40))).strip() or "?"


def prompt(rng: random.Random) -> str:
    """Something a user might type that is no repair of a Python project."""
    match rng.choices(range(9), (18, 33, 10, 8, 8, 8, 6, 6, 3))[0]:
        case 0:
            return rng.choice(_SHORT)
        case 1:
            return rng.choice(("", "", "", "Please: ", "Hi! ")) + rng.choice(_ASKS).format(**_parts(rng))
        case 2:
            return _words(rng, rng.randint(1, 30))
        case 3:
            return rng.choice(_FOREIGN)
        case 4:
            return rng.choice(_CODE).format(**_parts(rng))
        case 5:
            return _noise(rng)
        case 7:
            one = rng.choice((_word(rng), rng.choice(_SHORT), rng.choice("abcdefghijklmnopqrstuvwxyz0123456789.?!")))
            return rng.choice((" ", "", ", ", "\n")).join([one] * rng.randint(2, 24))
        case 6:
            return "\n".join(_words(rng, rng.randint(2, 12)) for _ in range(rng.randint(2, 8)))
        case _:
            return " ".join(rng.choice(_ASKS).format(**_parts(rng)) for _ in range(rng.randint(2, 3)))


def _other_tool(rng: random.Random) -> dict[str, Any]:
    noun, parameter = _word(rng), rng.choice(("location", "city", "name", "query", "text", "id", "title", _word(rng)))
    name = rng.choice(
        (f"{rng.choice(_VERBS)}_{noun}", "get_weather", "get_time", "search", f"{noun}_{rng.choice(_VERBS)}")
    )
    schema: dict[str, Any] = {"type": "object", "properties": {parameter: {"type": "string"}}, "required": [parameter]}
    if rng.random() < 0.5:
        schema["additionalProperties"] = False
    about = rng.choice((f"{name.replace('_', ' ').capitalize()}.", f"Get the {noun}.", _words(rng, 5), ""))
    return {"type": "function", "name": name, "parameters": schema} | ({"description": about} if about else {})


def _system(rng: random.Random) -> str | None:
    return rng.choice(_SYSTEMS).format(**_parts(rng)) if rng.random() < 0.6 else None


def _any_preamble(rng: random.Random) -> str:
    match rng.choices(range(4), (25, 20, 40, 15))[0]:
        case 0:
            return ""
        case 1:
            return preamble(
                contract.INSTRUCTIONS if rng.random() < 0.3 else rng.choice(_SYSTEMS).format(**_parts(rng)), ()
            )
        case 2:
            return preamble(contract.INSTRUCTIONS, contract.TOOLS)
        case _:
            return preamble(_system(rng), [_other_tool(rng) for _ in range(rng.choice((1, 1, 2)))])


def conversation(rng: random.Random) -> Conversation:
    """Small talk, or a repair asked of a model that was given no tools for it."""
    before = _any_preamble(rng)
    can_repair = '"name": "shell"' in before
    messages: list[Message] = []
    for _ in range(rng.choices((1, 2, 3), (80, 15, 5))[0]):
        text = plain_task(rng) if not can_repair and rng.random() < 0.12 else prompt(rng)
        messages += [Message("user", text), Message("assistant", ANSWER)]
    return Conversation(before, tuple(messages))


def function_use(rng: random.Random, names: Names) -> Conversation:
    """One simple function is offered and asked for: call it, then say what it returned."""
    tool = _other_tool(rng)
    (parameter,) = tool["parameters"]["properties"]
    value = " ".join(names.nouns(rng.choice((1, 1, 2))))
    value = value.title() if rng.random() < 0.6 else value
    about = tool["name"].replace("_", " ")
    topic = about.split()[-1] if about.split()[0] in _VERBS else about
    words = {"topic": topic, "value": value, "about": about, "name": tool["name"], "parameter": parameter}
    text = rng.choice(_FUNCTION_USE).format(**words)
    result = rng.choice(
        (f"{rng.randrange(40)} degrees", _word(rng), f"{_word(rng)} and {_word(rng)}", str(rng.randrange(1000)))
    )
    if rng.random() < 0.4:
        result = json.dumps({_word(rng): rng.choice((rng.randrange(100), _word(rng)))})
    messages = [Message("user", text), Message("assistant", call(tool["name"], {parameter: value}))]
    messages += [Message("tool", result), Message("assistant", f"The result is: {result}")]
    return Conversation(preamble(_system(rng), (tool,)), tuple(messages))
