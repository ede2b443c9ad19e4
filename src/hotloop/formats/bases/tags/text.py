"""Writes the arguments of a call in tags, the way `reader` reads them."""

import json
from typing import cast

from hotloop.formats.writing.token_writer import TokenWriter


def argument_values(arguments: str) -> dict[str, object] | None:
    """The arguments of a call by name; None if they are no JSON object, which these families cannot express."""
    try:
        value: object = json.loads(arguments)
    except ValueError:
        return None
    return cast("dict[str, object]", value) if isinstance(value, dict) else None  # JSON keys are strings


def json_value(value: object) -> str:
    """A value as GLM writes it: a string as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def python_value(value: object) -> str:
    """A value as Qwen writes it: objects and lists as JSON, anything else as Python does."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)


def write_arguments(
    writer: TokenWriter, arguments: str, before_value: tuple[str, str], after_value: str, *, python: bool
) -> None:
    """Every argument in its tags. Arguments that are no JSON object stand as they are, on a line of their own.

    `before_value`: the template's text in front of an argument's name and between name and value. Tags are control tokens
    where the vocabulary has them.
    """
    values = argument_values(arguments)
    if values is None:
        writer.text(arguments + "\n")
        return
    for key, value in values.items():
        _write_tags(writer, before_value[0])
        writer.text(key)
        _write_tags(writer, before_value[1])
        writer.text(python_value(value) if python else json_value(value))
        _write_tags(writer, after_value)


_MARKS = ("<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>")


def _write_tags(writer: TokenWriter, text: str) -> None:
    writer.template(text, _MARKS)
