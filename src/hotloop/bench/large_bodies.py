"""Large messages, one of each kind that a route has to read to its end; most of them end in a refusal."""

from collections.abc import Mapping, Sequence

from hotloop.bench.servers import RunningServer
from hotloop.bench.stalls import NUMBER, Arrival, as_steer, by_http, by_websocket
from hotloop.bench.workload import Json, create, encoded, user_message

_FIRST = encoded(user_message(f"conversation {NUMBER.decode()}"))
_BRACES = 5_000_000  # 15 MB of them
_TEXTS = 4_300  # messages of 4,000 characters: 17 MB
_TEXT = "some words and " * 265
_HOLE = "hole"  # where a long text goes

# One item each: its bulk stands in a field that no model's context needs the structure of.
_ONE_ITEM: Mapping[str, Json] = {
    "annotations of a message": {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "output_text", "text": "words", "annotations": _HOLE}],
    },
    "an item of an unknown type": {"type": "web_search_call", "id": "ws_1", "action": _HOLE},
    "a part of an unknown type": {"type": "message", "role": "user", "content": [{"type": "odd", "data": _HOLE}]},
    "a member that nobody reads": {"type": "message", "role": "user", "content": "words", "data": _HOLE},
    "arguments of a tool search": {"type": "tool_search_call", "call_id": "call_1", "arguments": {"query": _HOLE}},
    "the error of an mcp_call": {
        "type": "mcp_call",
        "id": "mcp_1",
        "server_label": "files",
        "name": "read",
        "arguments": "{}",
        "error": {"type": "odd", "content": _HOLE},
    },
    "additional_tools": {"type": "additional_tools", "role": "developer", "tools": _HOLE},
}


def large_bodies(server: RunningServer) -> Mapping[str, Arrival]:
    """All of them, by what the table calls them."""
    return {**_creates(server), **_settings(server), **_steers(server), **_posts(server)}


def braces(count: int = _BRACES) -> bytes:
    """An array of so many empty objects."""
    return b"[" + b",".join([b"{}"] * count) + b"]"


def _filled(value: Json, text: bytes) -> bytes:
    return encoded(value).replace(encoded_hole(), text, 1)


def encoded_hole() -> bytes:
    """The hole, as it stands in JSON."""
    return b'"%b"' % _HOLE.encode()


def _texts(count: int = _TEXTS) -> list[bytes]:
    return [encoded(user_message(_TEXT))] * count


def _array(items: Sequence[bytes]) -> bytes:
    return b"[" + b",".join(items) + b"]"


def _create(server: RunningServer, items: Sequence[bytes], **more: str) -> bytes:
    return _filled({**create(server.model, []), "input": _HOLE, **more}, _array([_FIRST, *items]))


def _creates(server: RunningServer) -> dict[str, Arrival]:
    return {
        "17 MB of items": by_websocket(server, _create(server, _texts())),
        "15 MB of `{}` as items": by_websocket(server, _create(server, [braces()[1:-1]])),
        **{
            f"15 MB of `{{}}` in {name}": by_websocket(server, _create(server, [_filled(item, braces())]))
            for name, item in _ONE_ITEM.items()
        },
    }


def _settings(server: RunningServer) -> dict[str, Arrival]:
    """At their limits."""
    tool = {
        "type": "function",
        "name": "tool_",
        "description": f"{NUMBER.decode()} {_TEXT}",
        "parameters": {"type": "object"},
    }
    tools = [encoded({**tool, "name": f"tool_{number}"}) for number in range(1000)]
    schema = {**tool, "parameters": {"type": "object", "x": _HOLE}}
    plain = {**create(server.model, [user_message("words")])}
    return {
        "4 MiB of tools": by_websocket(server, _filled({**plain, "tools": _HOLE}, _array(tools))),
        "4 MiB of `{}` in a tool's parameters": by_websocket(
            server, _filled({**plain, "tools": [schema]}, braces(1_390_000))
        ),
        "10 MB of instructions": by_websocket(
            server, encoded({**plain, "instructions": f"{NUMBER.decode()} " + "some words and " * 690_000})
        ),
        "10 MB of input that is a string": by_websocket(
            server, encoded({**plain, "input": f"{NUMBER.decode()} " + "some words and " * 690_000})
        ),
    }


def _steers(server: RunningServer) -> dict[str, Arrival]:
    return {
        f"a steer of {_TEXTS:,} messages, 17 MB": as_steer(server, _array([_FIRST, *_texts()])),
        "a steer of 15 MB of `{}`": as_steer(server, braces()),
    }


def _posts(server: RunningServer) -> dict[str, Arrival]:
    first = encoded({"role": "user", "content": f"conversation {NUMBER.decode()}"})
    chat = {"model": server.model, "messages": _HOLE}

    def chat_of(text: str, count: int) -> Arrival:
        messages = [first, *[encoded({"role": "user", "content": text})] * count]
        return by_http(server, "/v1/chat/completions", _filled(chat, _array(messages)))

    def conversation(value: Json, text: bytes) -> Arrival:
        return by_http(server, "/v1/conversations", _filled(value, text))

    compaction = {"model": server.model, "input": _HOLE}
    return {
        f"a chat completion of {_TEXTS:,} messages, 17 MB": chat_of(_TEXT, _TEXTS),
        "a chat completion of 500,000 messages, 17 MB": chat_of("x", 500_000),
        "a conversation of 20 items of 0.8 MB": conversation(
            {"items": _HOLE}, _array([encoded(user_message(_TEXT * 200))] * 20)
        ),
        "a conversation with 15 MB of `{}` that nobody reads": conversation({"items": [], "other": _HOLE}, braces()),
        "a conversation of one item, 15 MB of `{}` in its annotations": conversation(
            {"items": [_ONE_ITEM["annotations of a message"]]}, braces()
        ),
        "a compaction of 17 MB of items": by_http(
            server, "/v1/responses/compact", _filled(compaction, _array([_FIRST, *_texts()]))
        ),
    }
