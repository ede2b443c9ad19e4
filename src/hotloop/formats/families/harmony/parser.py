"""Reads Harmony output as items, token by token.

    HEAD ──<|message|>──▶ BODY ──<|end|> <|start|>──▶ HEAD … <|call|> or <|return|>

A head names a channel (analysis: reasoning, commentary: a preamble, final: the answer) or a recipient (a call), in either
order: ` to=functions.x<|channel|>commentary json` and `<|channel|>commentary to=functions.x <|constrain|>json` mean the
same. Text where only a head may stand, or in a head that cannot become one, comes out as message text, markers included:
nothing is lost. Heads are short; only a head is held back.
"""

import re
from collections.abc import Callable, Mapping, Sequence

from hotloop.formats.families.harmony.text import (
    CHANNEL,
    COMMENTARY,
    CONSTRAIN,
    END,
    FINAL_PHASE,
    MESSAGE,
    NAMESPACE,
    START,
)
from hotloop.formats.parsing.item_stream import ItemStream
from hotloop.formats.parsing.text_decoder import PieceTable, TextDecoder
from hotloop.protocol.tools import Tool
from hotloop.seams.engine import TokenLogprob
from hotloop.seams.format import ParsedEvent

_MOST_HEAD_CHARS = 512  # a tool's name has 128 at most
_RECIPIENT_SO_FAR = re.compile(r"\s*(?:t|to|to=\S*\s*)?\Z")
_RECIPIENT = re.compile(r"(?:^|\s)to=(\S+)")
_ROLE = "assistant"
_NOBODY = frozenset([_ROLE, "user", "all"])  # recipients that make no call


class _Head:
    """What has been read of a message's head."""

    __slots__ = ("author", "channel", "is_started", "raw", "tokens")

    def __init__(self, *, is_started: bool, has_role: bool) -> None:
        self.is_started = is_started  # `<|start|>` or the prompt stands in front: text is not out of place
        self.author = _ROLE if has_role else ""  # role and recipient, before the channel
        self.channel: str | None = None  # text behind `<|channel|>`, once that has come
        self.raw: list[str] = []
        self.tokens = 0

    def add(self, text: str) -> None:
        """More text of the head."""
        self.raw.append(text)
        if self.channel is None:
            self.author += text
        else:
            self.channel += text

    @property
    def is_sound(self) -> bool:
        """It may still become a head."""
        if self.channel is not None:
            return len(self.channel) <= _MOST_HEAD_CHARS
        if len(self.author) > _MOST_HEAD_CHARS or not self.is_started:
            return not self.author.strip()
        if len(self.author) <= len(_ROLE):
            return _ROLE.startswith(self.author)
        return self.author.startswith(_ROLE) and bool(_RECIPIENT_SO_FAR.match(self.author[len(_ROLE) :]))

    @property
    def recipient(self) -> str | None:
        """The tool that is called."""
        found = _RECIPIENT.search(self.author) or _RECIPIENT.search(self.channel or "")
        if found is None or found.group(1) in _NOBODY:
            return None
        return found.group(1).removeprefix(f"{NAMESPACE}.")

    @property
    def text(self) -> str:
        """Everything read, as it was spelled."""
        return "".join(self.raw)


class HarmonyParser:
    """Implements `seams.format.Parser` for one response.

    Args:
        table: texts of tokens, shared.
        marks: spelling of the control tokens that structure the output, by id.
        stops: ids that end the output; in the middle of it they end a message.
        tools: the tools offered.
    """

    def __init__(
        self, table: PieceTable, marks: Mapping[int, str], stops: frozenset[int], tools: Sequence[Tool]
    ) -> None:
        self._decoder = TextDecoder(table)
        self._marks = marks
        self._stops = stops
        self._stream = ItemStream(tools)
        self._head: _Head | None = _Head(is_started=True, has_role=True)  # None inside a body
        self._kind = ""  # of the body: reasoning, message or call
        self._phase = ""
        self._reasoning_tokens = 0

    @property
    def reasoning_tokens(self) -> int:
        """Ids of analysis messages, heads and ends included."""
        return self._reasoning_tokens

    def feed(self, ids: Sequence[int], logprobs: Sequence[TokenLogprob] | None) -> list[ParsedEvent]:
        """See `Parser.feed`."""
        for index, token in enumerate(ids):
            if token in self._stops:
                self._end_character()
                self._end_message()
                continue
            if logprobs is not None:
                self._stream.logprobs.append(logprobs[index])
            was_analysis = self._in_analysis
            mark = self._marks.get(token)
            if self._head is not None:
                self._head.tokens += 1
            if mark is None:
                text = self._decoder.feed(token)
                if text:
                    self._text(text)
            else:
                self._end_character()
                _ON_MARK[mark](self)
            if was_analysis:
                self._reasoning_tokens += 1
            if self._head is None and self._kind != "message":
                self._stream.logprobs.clear()
        return self._stream.take()

    def finish(self, *, complete: bool) -> list[ParsedEvent]:
        """See `Parser.finish`."""
        self._end_character()
        self._end_message(complete=complete)
        self._stream.close(complete=complete)
        return self._stream.take()

    @property
    def _in_analysis(self) -> bool:
        return self._head is None and self._kind == "reasoning"

    # --- marks ---

    def _mark_start(self) -> None:
        self._end_message()
        head = _Head(is_started=True, has_role=False)
        head.raw.append(START)
        head.tokens = 1
        self._head = head

    def _mark_channel(self) -> None:
        if self._head is None:
            self._say(CHANNEL)
        else:
            self._head.raw.append(CHANNEL)
            self._head.channel = ""  # a second one starts over: models stutter here

    def _mark_constrain(self) -> None:
        if self._head is None:
            self._say(CONSTRAIN)
        else:
            self._head.raw.append(CONSTRAIN)
            if self._head.channel is not None:
                self._head.channel += " "

    def _mark_message(self) -> None:
        if self._head is None:
            self._say(MESSAGE)
        else:
            self._head.raw.append(MESSAGE)
            self._begin_body(self._head)

    def _mark_end(self) -> None:
        self._end_message()

    # --- text ---

    def _end_character(self) -> None:
        text = self._decoder.flush()
        if text:
            self._text(text)

    def _text(self, text: str) -> None:
        head = self._head
        if head is None:
            self._say(text)
            return
        head.add(text)
        if not head.is_sound:
            self._give_up(head)

    def _give_up(self, head: _Head) -> None:
        """No head can begin like this: what was read of it is message text."""
        self._head = None
        self._kind, self._phase = "message", FINAL_PHASE
        self._say(head.text)

    def _begin_body(self, head: _Head) -> None:
        name = head.recipient
        if name == "":
            self._give_up(head)
            return
        self._head = None
        self._stream.logprobs.clear()
        if name is not None:
            self._kind = "call"
            self._stream.open_call(name)
            return
        channel = (head.channel or "").split(maxsplit=1)[:1]
        self._kind = "reasoning" if channel == ["analysis"] else "message"
        self._phase = COMMENTARY if channel == [COMMENTARY] else FINAL_PHASE
        if self._kind == "reasoning":
            self._reasoning_tokens += head.tokens

    def _say(self, text: str) -> None:
        stream = self._stream
        if self._kind == "call":
            stream.add_arguments(text)
            return
        if stream.kind is None:
            if self._kind == "reasoning":
                stream.open("reasoning")
            else:
                stream.open("message", phase=self._phase)
        stream.add(text)

    def _end_message(self, *, complete: bool = True) -> None:
        """The message is over, or the output in the middle of it (`complete` False)."""
        if self._head is not None and not self._end_head(self._head):
            self._head = _Head(is_started=False, has_role=False)
            return
        if self._kind == "call":
            self._stream.end_arguments(complete=complete)
        self._stream.close(complete=complete)
        self._stream.logprobs.clear()
        self._kind = ""
        self._head = _Head(is_started=False, has_role=False)

    def _end_head(self, head: _Head) -> bool:
        """The message ends before its body. There is one all the same if it is a call or has text to show."""
        if head.recipient is not None:
            self._begin_body(head)
            return True
        if head.channel is None and not _ROLE.startswith(head.author.rstrip()):
            self._give_up(head)
            return True
        return False


_ON_MARK: dict[str, Callable[[HarmonyParser], None]] = {
    START: HarmonyParser._mark_start,
    CHANNEL: HarmonyParser._mark_channel,
    CONSTRAIN: HarmonyParser._mark_constrain,
    MESSAGE: HarmonyParser._mark_message,
    END: HarmonyParser._mark_end,
}
