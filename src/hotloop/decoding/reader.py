"""Reading messages: short ones here, long ones in a child process, so that no other connection waits for it.

msgspec keeps the GIL while it reads: a quarter of a second for 15 MB of `{}` (docs/measurements.md). A message that takes
the child more time or memory than there is for it is refused, as a message that is too large. Without a child the message
is read here, and the turn's record says so:

    decode_process_unavailable    the process could not be started, or failed
"""

import asyncio
import logging
from dataclasses import dataclass
from functools import partial

import msgspec

from hotloop.decoding.answer import Answer, event_from, line_from
from hotloop.decoding.child import HEAD
from hotloop.errors import ApiError, Overloaded, PayloadTooLarge, ServerFault
from hotloop.processes.child import Child
from hotloop.processes.pool import ChildPool
from hotloop.protocol.client_event import ClientEvent, read_event
from hotloop.protocol.request import ResponseCreate, decode_create
from hotloop.session.input_survey import InputSurvey

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


class MessageReader:
    """Reads events and bodies. `close` at the end.

    Args:
        max_message_bytes: of the longest message there can be.
    """

    def __init__(self, max_message_bytes: int, *, long_bytes: int = LONG_BYTES, deadline_s: float = DEADLINE_S) -> None:
        memory_bytes = BASE_MEMORY_BYTES + MEMORY_PER_BYTE * max_message_bytes
        self._pool = ChildPool(
            "hotloop.decoding.child", (str(memory_bytes),), children=CHILDREN, max_waiting=MAX_WAITING
        )
        self._long_bytes = long_bytes
        self._deadline_s = deadline_s
        self._waiting_bytes = 0

    def start(self) -> None:
        """Start a child now, so that the first long message finds it ready."""
        self._pool.start()

    @property
    def pids(self) -> list[int]:
        """Of the children there are."""
        return self._pool.pids

    def is_long(self, message: bytes) -> bool:
        """It is to be read by the child."""
        return len(message) >= self._long_bytes

    async def event(self, message: bytes) -> ReadEvent:
        """A long message of a WebSocket. Never raises but for cancellation."""
        try:
            found = await self._ask(b"E", message)
        except ApiError as error:
            return ReadEvent(ClientEvent(error=error))
        if found is None:
            return ReadEvent(read_event(message), fallbacks=(UNAVAILABLE,))
        return ReadEvent(*found)

    async def create(self, body: bytes) -> ReadCreate:
        """The body of a create, of any length. Raises the ApiError that refuses it."""
        if not self.is_long(body):
            return ReadCreate(decode_create(body))
        found = await self._ask(b"B", body)
        if found is None:
            return ReadCreate(decode_create(body), fallbacks=(UNAVAILABLE,))
        event, survey = found
        if event.request is None:
            assert event.error is not None
            raise event.error
        return ReadCreate(event.request, survey)

    async def close(self) -> None:
        """End the children. Idempotent."""
        await self._pool.close()

    async def _ask(self, kind: bytes, message: bytes) -> tuple[ClientEvent, InputSurvey | None] | None:
        """What the child found; None if there is none. Raises Overloaded, and PayloadTooLarge."""
        if self._waiting_bytes + len(message) > max(MAX_WAITING_BYTES, len(message)):
            raise Overloaded("Too many long messages are being read. Try again.", retry_after_s=1)
        self._waiting_bytes += len(message)
        try:
            async with self._pool.slot():
                answer, rest = await self._pool.ask(
                    partial(_converse, kind=kind, message=message, deadline_s=self._deadline_s)
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
        return event_from(answer, rest, message)


async def _converse(child: Child, kind: bytes, message: bytes, deadline_s: float) -> tuple[Answer, bytes]:
    """The child's answer. One that gives none in time is over. Raises PayloadTooLarge, and EOFError if it died."""
    try:
        async with asyncio.timeout(deadline_s):
            await child.say(HEAD.pack(kind, len(message)), message)
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


async def _rest(child: Child, size: int) -> bytes:
    """What follows the line, piece by piece: the loop goes on in between."""
    found = bytearray()
    while len(found) < size:
        found += await child.exactly(min(PIECE_BYTES, size - len(found)))
    return bytes(found)
