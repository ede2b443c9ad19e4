"""Values of the OpenAI SDK's own parameter types, made from the types: what a client that uses the SDK may send."""

import types
from collections.abc import Iterator
from itertools import count
from typing import Any, Literal, Required, Union, get_args, get_origin

from typing_extensions import get_type_hints, is_typeddict

Json = dict[str, Any]
_DEPTH = 6  # of optional fields that refer to their own kind
_numbers = count()  # no two tools may have the same name


def samples(kind: Any, *, whole: bool) -> list[Any]:
    """A value for each member of the union, each word of a literal; with all of its optional fields, or with none."""
    found: list[Any] = []
    for member in members(kind):
        found += get_args(member) if get_origin(member) is Literal else [_value(member, whole=whole)]
    return found


def members(kind: Any) -> Iterator[Any]:
    """The types a union consists of, unions within it resolved; None is left out."""
    if get_origin(kind) in (Union, types.UnionType):
        for argument in get_args(kind):
            yield from members(argument)
    elif kind is not type(None):
        yield kind


def name_of(value: str | Json) -> str:
    """How a test calls the sample."""
    return value if isinstance(value, str) else str(value.get("type", "untyped"))


def _value(kind: Any, *, whole: bool, depth: int = 0) -> Any:
    """A value of the type: the first of each union within it, one element in each list."""
    if is_typeddict(kind):
        hints = get_type_hints(kind, include_extras=True)
        return {
            name: f"name{next(_numbers)}" if name == "name" else _value(_bare(hint), whole=whole, depth=depth + 1)
            for name, hint in hints.items()
            if _is_required(hint) or (whole and depth < _DEPTH)
        }
    origin: Any = get_origin(kind)
    arguments = get_args(kind)
    if origin is Literal:
        return arguments[0]
    if origin in (Union, types.UnionType):
        return _value(next(members(kind)), whole=whole, depth=depth)
    if origin is dict or kind is dict:
        return {"key": _value(arguments[1], whole=whole, depth=depth)} if arguments else {}
    if arguments:  # a list, whatever it is called
        return [_value(member, whole=whole, depth=depth) for member in members(arguments[0])]
    return _PLAIN.get(kind, {"any": "thing"})


_PLAIN: dict[Any, Any] = {str: "text", int: 20, float: 1.0, bool: True}


def _bare(hint: Any) -> Any:
    return get_args(hint)[0] if _is_required(hint) else hint


def _is_required(hint: Any) -> bool:
    origin: Any = get_origin(hint)
    return origin is Required
