"""Files and pictures among a request's new items: judged, and fetched where a URL names them, before `response.created`.

What was fetched stands beside its URL from then on: the chain holds the content as it was, and a client that sends the URL
again with the same history is recognised by it, without another fetch.
"""

import asyncio
from collections.abc import Sequence

import msgspec

from hotloop.errors import (
    ApiError,
    InvalidRequest,
    MissingParameter,
    RemoteUrlNotAllowed,
    UnsupportedValue,
)
from hotloop.protocol.file_parts import data_url, is_text_type, text_part
from hotloop.protocol.items import (
    ContentPart,
    CustomToolCallOutput,
    FunctionCallOutput,
    InputAudio,
    InputFile,
    InputImage,
    InputVideo,
    Item,
    Message,
    ResultPart,
)
from hotloop.seams.remote import RemoteContent
from hotloop.turns.admission import AdmittedTurn

MAX_FETCHES = 16  # of one request
OFF_LOOP_CHARS = 65_536  # a longer file is read in a thread
IMAGE_TYPES = ("image/png", "image/jpeg", "image/webp", "image/gif")
_ATTACHMENTS = (InputFile, InputImage, InputAudio, InputVideo)
_TEXT_ONLY = "This model takes text only."

_Parts = Sequence[ContentPart | ResultPart]


def has_attachments(items: Sequence[Item]) -> bool:
    """Some part of the items is no text."""
    for item in items:
        if isinstance(item, Message):
            parts: str | _Parts = item.content
        elif isinstance(item, FunctionCallOutput | CustomToolCallOutput):
            parts = item.output
        else:
            continue
        if not isinstance(parts, str):
            for part in parts:
                if isinstance(part, _ATTACHMENTS):
                    return True
    return False


async def attached(remote: RemoteContent | None, admitted: AdmittedTurn) -> AdmittedTurn:
    """The turn with all that its URLs name. Raises the ApiError that names the first part that cannot be taken."""
    history = admitted.history
    reader = _Reader(remote, admitted.model.takes_images)
    for index, item in enumerate(history.new_items, history.recognised):
        field = "content" if isinstance(item, Message) else "output"
        for number, part in enumerate(_parts(item)):
            place = f"input[{index}].{field}[{number}]"
            if isinstance(part, InputFile) and len(part.file_data or "") > OFF_LOOP_CHARS:
                await asyncio.to_thread(text_part, part, place)
            else:
                reader.look_at(part, place)
    fetched = await reader.fetch()
    if not fetched:
        return admitted
    items = [_with(item, fetched) for item in history.new_items]
    size = sum(
        len(part.file_data or "") if isinstance(part, InputFile) else len(part.image_url or "")
        for part in fetched.values()
    )
    return msgspec.structs.replace(
        admitted, history=msgspec.structs.replace(history, new_items=items, new_bytes=history.new_bytes + size)
    )


def _parts(item: Item) -> _Parts:
    match item:
        case Message(content=list() as content):
            return content
        case FunctionCallOutput(output=list() as output) | CustomToolCallOutput(output=list() as output):
            return output
        case _:
            return ()


class _Reader:
    """Looks at the parts of one request, then fetches what is missing."""

    def __init__(self, remote: RemoteContent | None, takes_images: bool) -> None:
        self._remote = remote
        self._takes_images = takes_images
        self._wanted: dict[int, tuple[InputFile | InputImage, str]] = {}  # by the part's identity, with its field

    def look_at(self, part: ContentPart | ResultPart, param: str) -> None:
        match part:
            case InputFile():
                self._look_at_file(part, param)
            case InputImage():
                self._look_at_image(part, param)
            case InputAudio() | InputVideo():
                raise UnsupportedValue(_TEXT_ONLY, param=param)
            case _:
                pass

    def _look_at_file(self, part: InputFile, param: str) -> None:
        if part.file_data:
            text_part(part, param)
        elif part.file_url:
            self._want(part, part.file_url, f"{param}.file_url")
        elif part.file_id:
            raise UnsupportedValue("No uploaded files are kept here: send the file itself.", param=f"{param}.file_id")
        else:
            raise MissingParameter(f"{param}.file_data")

    def _look_at_image(self, part: InputImage, param: str) -> None:
        if not self._takes_images:
            raise UnsupportedValue(_TEXT_ONLY, param=param)
        if part.image_url is None:
            raise UnsupportedValue("No uploaded files are kept here: send the image itself.", param=f"{param}.file_id")
        if not part.image_url.startswith("data:"):
            self._want(part, part.image_url, f"{param}.image_url")

    def _want(self, part: InputFile | InputImage, url: str, param: str) -> None:
        if self._remote is None:
            raise RemoteUrlNotAllowed("this server fetches no URLs", param=param)
        if len(self._wanted) == MAX_FETCHES:
            raise InvalidRequest(f"A request names at most {MAX_FETCHES} URLs to be fetched.", param=param)
        self._wanted[id(part)] = (part, param)

    async def fetch(self) -> dict[int, InputFile | InputImage]:
        """The parts with their content, by the identity of what they take the place of."""
        try:
            async with asyncio.TaskGroup() as group:
                tasks = {key: group.create_task(self._filled(*wanted)) for key, wanted in self._wanted.items()}
        except BaseExceptionGroup as group_error:
            refusals = [error for error in group_error.exceptions if isinstance(error, ApiError)]
            if len(refusals) < len(group_error.exceptions):
                raise
            raise refusals[0] from None
        return {key: task.result() for key, task in tasks.items()}

    async def _filled(self, part: InputFile | InputImage, param: str) -> InputFile | InputImage:
        assert self._remote is not None
        if isinstance(part, InputImage):
            found = await self._remote.fetch(part.image_url or "", IMAGE_TYPES.__contains__, param=param)
            return msgspec.structs.replace(part, image_url=data_url(found.media_type, found.data))
        url = part.file_url or ""
        found = await self._remote.fetch(url, is_text_type, param=param)
        name = part.filename or url.partition("?")[0].partition("#")[0].rstrip("/").rpartition("/")[2]
        filled = msgspec.structs.replace(part, file_data=data_url(found.media_type, found.data), filename=name[:255])
        await asyncio.to_thread(text_part, filled, param.removesuffix(".file_url"))
        return filled


def _with(item: Item, fetched: dict[int, InputFile | InputImage]) -> Item:
    if not any(id(part) in fetched for part in _parts(item)):
        return item
    parts = [fetched.get(id(part), part) for part in _parts(item)]
    return msgspec.structs.replace(item, **{"content" if isinstance(item, Message) else "output": parts})
