"""What is read of each kind of message: in the decode process, and out of its answer in the server.

EVENT         a WebSocket's message
CREATE        the body of a create
CONVERSATION  the body of a new conversation
UPDATE        of a conversation's new metadata
ADDITION      of items for a conversation
"""

from collections.abc import Callable
from typing import Final

import msgspec

from hotloop.decoding.answer import Answer, Span, Told, add_survey, wire
from hotloop.errors import ApiError
from hotloop.protocol import client_event
from hotloop.protocol.chat_request import ChatTurn, read_chat
from hotloop.protocol.client_event import ClientEvent, Control, read_event
from hotloop.protocol.control import Injection, Interrupt, Reply
from hotloop.protocol.conversation_body import (
    ConversationBody,
    decode_added_items,
    decode_conversation,
    decode_conversation_update,
)
from hotloop.protocol.request import MAX_INPUT_ITEMS, ResponseCreate, decode_create, put_input, put_tools
from hotloop.protocol.steering import Steer
from hotloop.protocol.wire import json_bytes
from hotloop.session.input_survey import InputSurvey, survey_input

EVENT, CREATE, CHAT, INPUT, CONVERSATION, UPDATE, ADDITION = b"E", b"B", b"C", b"I", b"N", b"M", b"A"

CONVERSATION_BODIES: Final[dict[bytes, Callable[[bytes], ConversationBody]]] = {
    CONVERSATION: decode_conversation,
    UPDATE: decode_conversation_update,
    ADDITION: decode_added_items,
}


class _Control(msgspec.Struct):
    """One of these."""

    steer: Steer | None = None
    interrupt: Interrupt | None = None
    injection: Injection | None = None
    reply: Reply | None = None


_CONTROLS: Final[dict[type, str]] = {
    Steer: "steer",
    Interrupt: "interrupt",
    Injection: "injection",
    Reply: "reply",
}

_LONG = ("input", "tools")

_NOTHING = msgspec.Raw(b"[]")

_members_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_create_decoder = msgspec.json.Decoder(ResponseCreate)
_control_decoder = msgspec.json.Decoder(_Control)
_chat_decoder = msgspec.json.Decoder(ChatTurn)
_conversation_decoder = msgspec.json.Decoder(ConversationBody)


# --- in the child ---


def answer_to(message: bytes, form: bytes) -> tuple[Answer, list[bytes]]:
    """Read a message to its end. The bytes are what follows the line."""
    try:
        if form in CONVERSATION_BODIES:
            return _about_conversation(CONVERSATION_BODIES[form](message), message)
        if form == CHAT:
            return _about_chat(read_chat(message))
        if form == INPUT:
            answer = Answer()
            return answer, add_survey(answer, survey_input(msgspec.Raw(message)))
        event = read_event(message) if form == EVENT else ClientEvent(request=decode_create(message))
    except ApiError as error:
        return Answer(error=wire(error)), []
    return _about_event(event, message)


def _about_event(event: ClientEvent, message: bytes) -> tuple[Answer, list[bytes]]:
    answer = Answer(event.kind, event.lane, wire(event.error))
    if event.control is not None:
        return _about_control(answer, event.control, message)
    if event.request is None:
        return answer, []
    members = _members_decoder.decode(message)
    # As it was read: what nobody asks for is left behind.
    head = json_bytes(msgspec.structs.replace(event.request, input=_NOTHING, tools=_NOTHING))
    answer.head_bytes = len(head)
    answer.input, answer.tools = (_span(members.get(name), message) for name in _LONG)
    if answer.input is None:
        return answer, [head]
    return answer, [head, *add_survey(answer, survey_input(event.request.input))]


def _about_control(answer: Answer, control: Control, message: bytes) -> tuple[Answer, list[bytes]]:
    if isinstance(control, Steer | Injection):
        answer.input = _span(_members_decoder.decode(message).get("input"), message)
        control = msgspec.structs.replace(control, input=_NOTHING)
    head = msgspec.json.encode({_CONTROLS[type(control)]: control})
    answer.head_bytes = len(head)
    return answer, [head]


def _about_chat(turn: ChatTurn) -> tuple[Answer, list[bytes]]:
    """Its items and tools are not the message's own: they go along."""
    request, origins = turn.request, turn.origins[: MAX_INPUT_ITEMS + 1]  # more than one is never asked for
    short = msgspec.structs.replace(request, input=_NOTHING, tools=_NOTHING)
    head = msgspec.json.encode(msgspec.structs.replace(turn, request=short, origins=origins))
    texts = [bytes(request.tools), bytes(request.input)]
    split, size = len(texts[0]), sum(map(len, texts))
    answer = Answer(head_bytes=len(head), tools=Span(0, split), input=Span(split, size), text_bytes=size)
    return answer, [head, *add_survey(answer, survey_input(request.input)), *texts]


def _about_conversation(body: ConversationBody, message: bytes) -> tuple[Answer, list[bytes]]:
    head = msgspec.json.encode(ConversationBody(metadata=body.metadata))
    answer = Answer(head_bytes=len(head))
    if not body.items:
        return answer, [head]
    items = _members_decoder.decode(message)["items"]
    answer.input = _span(items, message)
    return answer, [head, *add_survey(answer, survey_input(items, "items"))]


def _span(member: msgspec.Raw | None, message: bytes) -> Span | None:
    """Where such a text stands in the message; which of several equal ones it is makes no difference."""
    if member is None:
        return None
    start = message.index(bytes(member))
    return Span(start, start + memoryview(member).nbytes)


# --- in the server ---


def event_from(told: Told) -> tuple[ClientEvent, InputSurvey | None]:
    """A WebSocket's message."""
    answer = told.answer
    if not answer.head_bytes:
        return ClientEvent(answer.kind, answer.lane, error=told.error), None
    if answer.kind != client_event.CREATE:
        return ClientEvent(answer.kind, control=_control_from(told)), None
    request, survey = create_from(told)
    return ClientEvent(answer.kind, answer.lane, request), survey


def _control_from(told: Told) -> Control:
    found = _control_decoder.decode(told.head)
    span = told.answer.input
    raw = msgspec.Raw(b"null") if span is None else told.text(span)
    if found.steer is not None:
        return msgspec.structs.replace(found.steer, input=raw)
    if found.injection is not None:
        return msgspec.structs.replace(found.injection, input=raw)
    control = found.interrupt or found.reply
    assert control is not None
    return control


def create_from(told: Told) -> tuple[ResponseCreate, InputSurvey | None]:
    """A create, and what is known of its input. Raises the ApiError that refuses it."""
    _raise_for(told)
    request = _create_decoder.decode(told.head)
    return request, _complete(request, told)


def chat_from(told: Told) -> tuple[ChatTurn, InputSurvey | None]:
    """A chat completion's turn, and what is known of its input. Raises the ApiError that refuses it."""
    _raise_for(told)
    turn = _chat_decoder.decode(told.head)
    return turn, _complete(turn.request, told)


def _complete(request: ResponseCreate, told: Told) -> InputSurvey | None:
    """Put the long members in."""
    answer = told.answer
    if answer.tools is not None:
        put_tools(request, told.text(answer.tools))
    if answer.input is None:
        return None
    put_input(request, told.text(answer.input))
    return told.survey(request.input)


def conversation_from(told: Told) -> tuple[ConversationBody, InputSurvey | None]:
    """A body, and what is known of its items. Raises the ApiError that refuses the body."""
    _raise_for(told)
    body = _conversation_decoder.decode(told.head)
    if told.answer.input is None:
        return body, None
    survey = told.survey(told.text(told.answer.input))
    return msgspec.structs.replace(body, items=list(survey.items())), survey


def _raise_for(told: Told) -> None:
    error = told.error
    if error is not None:
        raise error
