"""Reading messages: short ones here, long ones in a child process, so that no other connection waits for it.

msgspec keeps the GIL while it reads: a quarter of a second for 15 MB of `{}` (docs/measurements.md). A message that takes
the child more time or memory than there is for it is refused, as a message that is too large. Without a child the message
is read here, and the turn's record says so; what becomes no turn is counted all the same:

    decode_process_unavailable    the process could not be started, or failed
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import msgspec

from hotloop.decoding.answer import Answer, Told, line_from
from hotloop.decoding.child import HEAD
from hotloop.decoding.forms import (
    CHAT,
    CONVERSATION_BODIES,
    CREATE,
    EVENT,
    INPUT,
    chat_from,
    conversation_from,
    create_from,
    event_from,
)
from hotloop.errors import ApiError, Overloaded, PayloadTooLarge, ServerFault
from hotloop.processes.child import Child
from hotloop.processes.pool import ChildPool
from hotloop.protocol.chat_request import ChatTurn, read_chat
from hotloop.protocol.client_event import ClientEvent, read_event
from hotloop.protocol.conversation_body import ConversationBody
from hotloop.protocol.request import ResponseCreate, decode_create
from hotloop.seams.surveyor import Surveyed
from hotloop.session.input_survey import InputSurvey

_T = TypeVar("_T")

logger = logging.getLogger(__name__)

LONG_BYTES = 2**20  # from here on the child is asked; below, reading takes 2 ms at most
CHILDREN = 2  # so that one long message does not hold up all the others
MAX_WAITING = 32
MAX_WAITING_BYTES = 256 * 2**20
DEADLINE_S = 20.0  # for one message, once a child has it: ten times what 64 MB of `{}` take
BASE_MEMORY_BYTES = 256 * 2**20
MEMORY_PER_BYTE = 32  # 64 MB of `{}`: 28 times their size
PIECE_BYTES = 2**18  # of an answer, at a time
UNAVAILABLE = "decode_process_unavailable"


class ReadEvent(msgspec.Struct, frozen=True):
    """A WebSocket message, read."""

    event: ClientEvent
    survey: InputSurvey | None = None
    fallbacks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ReadCreate:
    """The body of a create, read."""

    request: ResponseCreate
    survey: InputSurvey | None = None
    fallbacks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ReadChat:
    """The body of a chat completion, read."""

    turn: ChatTurn
    survey: InputSurvey | None = None
    fallbacks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ReadConversation:
    """A body about a conversation, read. If its items were, too, `survey` says what is wrong behind the last of them."""

    body: ConversationBody
    survey: InputSurvey | None = None


def _forget(fallback: str) -> None: ...


class MessageReader:
    """Reads events and bodies. `close` at the end. Implements `seams.surveyor.Surveyor`.

    Args:
        max_message_bytes: of the longest message there can be.

    `note`, once set, is told of every fallback that no turn's record will show.
    """

    def __init__(
        self,
        max_message_bytes: int,
        *,
        long_bytes: int = LONG_BYTES,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        memory_bytes = BASE_MEMORY_BYTES + MEMORY_PER_BYTE * max_message_bytes
        self._pool = ChildPool(
            "hotloop.decoding.child", (str(memory_bytes),), children=CHILDREN, max_waiting=MAX_WAITING
        )
        self._long_bytes = long_bytes
        self._deadline_s = deadline_s
        self.note: Callable[[str], None] = _forget
        self._waiting_bytes = 0

    def start(self) -> None:
        """Start a child now, so that the first long message finds it ready."""
        self._pool.start()

    async def ready(self) -> None:
        """Until that child is there, or is known not to start."""
        await self._pool.ready()

    @property
    def pids(self) -> list[int]:
        """Of the children there are."""
        return self._pool.pids

    def is_long(self, message: bytes | memoryview) -> bool:
        """It is to be read by the child."""
        return len(message) >= self._long_bytes

    async def event(self, message: bytes) -> ReadEvent:
        """A long message of a WebSocket. Never raises but for cancellation."""
        try:
            told = await self._ask(EVENT, message)
        except ApiError as error:
            return ReadEvent(ClientEvent(error=error))
        if told is not None:
            return ReadEvent(*event_from(told))
        event = read_event(message)
        if event.request is None:
            self.note(UNAVAILABLE)
        return ReadEvent(event, fallbacks=(UNAVAILABLE,))

    async def create(self, body: bytes) -> ReadCreate:
        """The body of a create, of any length. Raises the ApiError that refuses it."""
        if not self.is_long(body):
            return ReadCreate(decode_create(body))
        told = await self._ask(CREATE, body)
        if told is not None:
            return ReadCreate(*create_from(told))
        return ReadCreate(self._read_here(decode_create, body), fallbacks=(UNAVAILABLE,))

    async def chat(self, body: bytes) -> ReadChat:
        """The body of a chat completion, of any length. Raises the ApiError that refuses it."""
        if not self.is_long(body):
            return ReadChat(read_chat(body))
        told = await self._ask(CHAT, body)
        if told is not None:
            return ReadChat(*chat_from(told))
        return ReadChat(self._read_here(read_chat, body), fallbacks=(UNAVAILABLE,))

    async def conversation(self, form: bytes, body: bytes) -> ReadConversation:
        """A body about a conversation, of any length. Raises the ApiError that refuses it."""
        decode = CONVERSATION_BODIES[form]
        if not self.is_long(body):
            return ReadConversation(decode(body))
        told = await self._ask(form, body)
        if told is not None:
            return ReadConversation(*conversation_from(told))
        self.note(UNAVAILABLE)
        return ReadConversation(decode(body))

    async def survey(self, raw: msgspec.Raw) -> Surveyed:
        """See `Surveyor`."""
        text = memoryview(raw)
        if not self.is_long(text):
            return Surveyed()
        told = await self._ask(INPUT, text)
        return Surveyed(fallbacks=(UNAVAILABLE,)) if told is None else Surveyed(told.survey(raw))

    async def close(self) -> None:
        """End the children. Idempotent."""
        await self._pool.close()

    def _read_here(self, decode: Callable[[bytes], _T], body: bytes) -> _T:
        """Without a child. A body that is refused becomes no turn."""
        try:
            return decode(body)
        except ApiError:
            self.note(UNAVAILABLE)
            raise

    async def _ask(self, form: bytes, message: bytes | memoryview) -> Told | None:
        """What the child found; None if there is none. Raises Overloaded, and PayloadTooLarge."""
        if self._waiting_bytes + len(message) > max(MAX_WAITING_BYTES, len(message)):
            raise Overloaded("Too many long messages are being read. Try again.", retry_after_s=1)
        self._waiting_bytes += len(message)
        try:
            async with self._pool.slot():
                answer, rest = await self._pool.ask(
                    partial(_converse, form=form, message=message, deadline_s=self._deadline_s)
                )
        except EOFError:  # two of them died of it
            raise PayloadTooLarge("The message takes too much memory to read.") from None
        except (ServerFault, OSError) as error:
            if isinstance(error, Overloaded):
                raise
            logger.warning("there is no decode process: %s", error)
            return None
        finally:
            self._waiting_bytes -= len(message)
        if answer.is_failed:
            logger.error("the decode process failed at a message")
            return None
        return Told(answer, rest, message)


async def _converse(
    child: Child, form: bytes, message: bytes | memoryview, deadline_s: float
) -> tuple[Answer, bytearray]:
    """The child's answer. One that gives none in time is over. Raises PayloadTooLarge, and EOFError if it died."""
    try:
        async with asyncio.timeout(deadline_s):
            await child.say(HEAD.pack(form, len(message)), message)
            line = await child.line()
            if not line.endswith(b"\n"):
                raise EOFError
            answer = line_from(line)
            rest = await _rest(child, answer.rest_bytes)
    except TimeoutError:
        raise PayloadTooLarge("The message takes too much time to read.") from None
    except OSError as error:  # its end of the pipe is gone
        raise EOFError from error
    if answer.is_exhausted:
        raise PayloadTooLarge("The message takes too much memory to read.")
    return answer, rest


async def _rest(child: Child, size: int) -> bytearray:
    """What follows the line, piece by piece: the loop goes on in between."""
    found = bytearray()  # it grows: touching many megabytes at once takes a millisecond for each two of them
    while len(found) < size:
        found += await child.exactly(min(PIECE_BYTES, size - len(found)))
    return found
