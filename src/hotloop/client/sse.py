"""Server-sent events out of a byte stream, whatever the chunks.

Only `data` matters here: the event's name is repeated in its JSON (docs/protocol.md §11.1), comments keep the line
open, `id` and `retry` are not used by the protocol.
"""


class SseDecoder:
    """Collects bytes and gives the data of each event that a blank line has closed.

    Lines may end in LF, CRLF or CR. An event without its closing blank line is not an event, as the standard says.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._skip_lf = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take the next bytes; return the data of every event they complete, in order."""
        if self._skip_lf and chunk:
            # The chunk before ended in CR: a LF now belongs to it.
            chunk = chunk[1:] if chunk.startswith(b"\n") else chunk
            self._skip_lf = False
        if not chunk:
            return []
        self._skip_lf = chunk.endswith(b"\r")
        lines = (self._rest + chunk).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._rest = lines.pop()
        return [data for line in lines if (data := self._line(line)) is not None]

    def _line(self, line: bytes) -> bytes | None:
        if not line:
            data, self._data = self._data, []
            return b"\n".join(data) if data else None
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" "))
        return None
