"""Items: what goes into a turn and what comes out of it (docs/protocol.md §4).

Items travel both ways, so one struct serves input and output. Unknown fields are ignored; optional fields without a value
are left out when encoded, never null. Item types that only some other server executes are kept whole as `OpaqueItem`.
"""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from hotloop.protocol.hosted_calls import ApprovalRequest, ApprovalResponse, HostedCall
from hotloop.protocol.json_value import EMPTY_ARRAY, JsonArray, JsonText, JsonValue, NullableArray, readable

MAX_PARTS = 16_384  # ours: of one item, which is parsed without a break; as many take some 5 ms
_FEW: Final = Meta(max_length=MAX_PARTS)

ItemStatus = Literal["in_progress", "completed", "incomplete"]
Role = Literal["user", "assistant", "system", "developer"]


class Part(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", omit_defaults=True):
    """Base of the content parts."""


class InputText(Part, frozen=True, tag="input_text"):
    """Text from the user, the developer or a tool."""

    text: str


class InputImage(Part, frozen=True, tag="input_image"):
    """An image, by URL (data URLs included) or uploaded file."""

    image_url: str | None = None
    file_id: str | None = None
    detail: str | None = None


class InputFile(Part, frozen=True, tag="input_file"):
    """A file, inline or by reference."""

    file_id: str | None = None
    file_url: str | None = None
    file_data: str | None = None
    filename: str | None = None


class InputAudio(Part, frozen=True, tag="input_audio"):
    """Audio; no format here takes it."""

    input_audio: JsonValue | None = None


class InputVideo(Part, frozen=True, tag="input_video"):
    """Video; no format here takes it."""

    video_url: str | None = None


class OutputText(Part, frozen=True, tag="output_text"):
    """Text written by the model."""

    text: str
    annotations: JsonArray = EMPTY_ARRAY
    logprobs: NullableArray | None = None


class Refusal(Part, frozen=True, tag="refusal"):
    """The model's refusal."""

    refusal: str


class ReasoningText(Part, frozen=True, tag="reasoning_text"):
    """Raw reasoning."""

    text: str


class SummaryText(Part, frozen=True, tag="summary_text"):
    """Summary of reasoning."""

    text: str


class PlainText(Part, frozen=True, tag="text"):
    """Text under the name some clients use for it."""

    text: str


UNKNOWN_PART = "hotloop:unknown"


class UnknownPart(Part, frozen=True, tag=UNKNOWN_PART):
    """A part of a type that nothing here knows, shown to the model as its JSON, which is `json`."""

    json: JsonText


ContentPart = (
    InputText
    | InputImage
    | InputFile
    | InputAudio
    | InputVideo
    | OutputText
    | Refusal
    | ReasoningText
    | SummaryText
    | PlainText
    | UnknownPart
)
ResultPart = InputText | InputImage | InputFile | InputVideo | OutputText | PlainText | UnknownPart


class _Item(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", omit_defaults=True):
    """Base of the items."""

    id: str | None = None
    status: ItemStatus | None = None


class Message(_Item, frozen=True, tag="message"):
    """A message of any role. `content` is a text or parts."""

    role: Role
    content: str | Annotated[list[ContentPart], _FEW]
    phase: str | None = None


class FunctionCall(_Item, frozen=True, tag="function_call"):
    """The model asks for a function. `arguments` is JSON text, verbatim as sampled."""

    call_id: str
    name: str
    arguments: str
    namespace: str | None = None
    is_async: bool | None = msgspec.field(default=None, name="async")  # its output may come later, or never


class FunctionCallOutput(_Item, frozen=True, tag="function_call_output"):
    """What the function returned."""

    call_id: str
    output: str | Annotated[list[ResultPart], _FEW]


class CustomToolCall(_Item, frozen=True, tag="custom_tool_call"):
    """The model calls a tool that takes free text."""

    call_id: str
    name: str
    input: str
    namespace: str | None = None
    is_async: bool | None = msgspec.field(default=None, name="async")  # its output may come later, or never


class CustomToolCallOutput(_Item, frozen=True, tag="custom_tool_call_output"):
    """What the custom tool returned."""

    call_id: str
    output: str | Annotated[list[ResultPart], _FEW]


class Reasoning(_Item, frozen=True, tag="reasoning"):
    """The model's reasoning: raw `content`, a `summary`, or sealed."""

    summary: Annotated[list[SummaryText], _FEW] = []
    content: Annotated[list[ReasoningText], _FEW] | None = None
    encrypted_content: str | None = None


class ItemReference(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="item_reference"):
    """Stands for a stored item."""

    id: str


class ItemFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was read of a long item where it was decoded, so that nobody has to read its JSON again."""

    digest: bytes | None = None  # canonical
    id: str | None = None
    shown: str = ""  # what a model is shown of it
    tools: bytes | None = None  # that it brings, or lists
    label: str = ""  # of the server whose tools those are
    refusal: tuple[bool, str] | None = None  # why those cannot be used: a schema is too complex, what is wrong
    update: bytes | None = None  # what it sets, as short JSON
    output: FunctionCallOutput | CustomToolCallOutput | None = None  # its `call_id` is empty: the item names no call
    call: HostedCall | None = None
    request: ApprovalRequest | None = None
    response: ApprovalResponse | None = None


class OpaqueItem(msgspec.Struct, frozen=True, tag_field="type", tag="opaque"):
    """An item type that is carried and shown but not interpreted. `raw` is its JSON."""

    kind: str
    raw: bytes
    facts: ItemFacts | None = None  # of a long one


class SettingItem(OpaqueItem, frozen=True, tag="setting"):
    """Says nothing to the model: it changes what the chain's later responses start from (docs/protocol.md §4.2)."""


class UnpairedOutput(OpaqueItem, frozen=True, tag="unpaired_output"):
    """An output that names no call. It answers the one that is open, if exactly one is (docs/protocol.md §4.4)."""


class HostedItem(OpaqueItem, frozen=True, tag="hosted"):
    """A call that this server runs, or the consent to one: `protocol.hosted_items` reads it."""


class SealedItem(OpaqueItem, frozen=True, tag="sealed"):
    """A `compaction` whose content was not opened yet."""


class TypedCall(FunctionCall, frozen=True, kw_only=True, tag="typed_call"):
    """A call of a tool with item types of its own, as the function call that the model wrote. `raw` is the item's JSON."""

    kind: str
    raw: bytes
    facts: ItemFacts | None = None  # of a long one


class TypedCallOutput(FunctionCallOutput, frozen=True, kw_only=True, tag="typed_call_output"):
    """What such a tool gave back, as text for the model. `raw` is the item's JSON."""

    kind: str
    raw: bytes
    facts: ItemFacts | None = None  # of a long one


class CompactionTrigger(Message, frozen=True, kw_only=True, tag="compaction_trigger"):
    """Asks for a summary instead of an answer; `content` is how the model is asked. `raw` is the item's JSON."""

    raw: bytes


class Compaction(Message, frozen=True, kw_only=True, tag="compaction"):
    """Stands for the items that a summary replaced; `content` is the summary. `raw` is the item's JSON, sealed."""

    raw: bytes


Item = (
    Message
    | FunctionCall
    | FunctionCallOutput
    | CustomToolCall
    | CustomToolCallOutput
    | Reasoning
    | ItemReference
    | OpaqueItem
)
RawItem = OpaqueItem | TypedCall | TypedCallOutput | CompactionTrigger | Compaction  # shown as they travel
CallItem = FunctionCall | CustomToolCall
OwedItem = FunctionCall | CustomToolCall | HostedItem  # a client owes an output, or its consent
CallOutputItem = FunctionCallOutput | CustomToolCallOutput

STRUCT_BY_TYPE: dict[str, type[msgspec.Struct]] = {
    "message": Message,
    "function_call": FunctionCall,
    "function_call_output": FunctionCallOutput,
    "custom_tool_call": CustomToolCall,
    "custom_tool_call_output": CustomToolCallOutput,
    "reasoning": Reasoning,
    "item_reference": ItemReference,
}


def text_of(content: "str | list[ContentPart] | list[ResultPart] | list[ReasoningText] | list[SummaryText]") -> str:
    """The text of a content field; parts without text count as nothing."""
    if isinstance(content, str):
        return content
    if len(content) == 1:
        only = content[0]
        if type(only) is InputText or type(only) is OutputText:
            return only.text
    pieces: list[str] = []
    for part in content:
        match part:
            case Refusal():
                pieces.append(part.refusal)
            case InputText() | OutputText() | ReasoningText() | SummaryText() | PlainText():
                pieces.append(part.text)
            case UnknownPart():
                pieces.append(part.json.shown)
            case _:
                pass
    return "".join(pieces)


def opaque_text(item: OpaqueItem) -> str:
    """An opaque item as a model is shown it: its JSON, without what no model can read."""
    if item.facts is not None:
        return item.facts.shown
    if item.kind == "image_generation_call":
        return readable(item.raw, ("encrypted_content", "result"))
    return readable(item.raw)
