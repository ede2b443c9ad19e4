"""`POST /v1/chat/completions` read as a `response.create`: the same turn under its older names.

Each message becomes one item or several; nothing is rendered here. What has no counterpart is refused by name, what has no
effect on the output is ignored.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from hotloop.errors import ApiError, InvalidRequest, UnsupportedParameter, UnsupportedValue
from hotloop.protocol.decoding import check_utf8, decode_as
from hotloop.protocol.items import (
    ContentPart,
    CustomToolCall,
    CustomToolCallOutput,
    FunctionCall,
    FunctionCallOutput,
    InputAudio,
    InputFile,
    InputImage,
    InputText,
    Item,
    Message,
    OutputText,
    Reasoning,
    ReasoningText,
    Refusal,
    ResultPart,
)
from hotloop.protocol.json_value import JsonValue
from hotloop.protocol.request import (
    Effort,
    Metadata,
    ResponseCreate,
    Seed,
    Text,
    TextJsonObject,
    TextJsonSchema,
    TextPlain,
    check_metadata,
)
from hotloop.protocol.request import Reasoning as ReasoningOptions
from hotloop.protocol.tools import Name, TextFormat
from hotloop.protocol.wire import json_bytes


class _TextPart(msgspec.Struct, tag_field="type", tag="text"):
    text: str


class _RefusalPart(msgspec.Struct, tag_field="type", tag="refusal"):
    refusal: str


class _ImageUrl(msgspec.Struct):
    url: str
    detail: str | None = None


class _ImagePart(msgspec.Struct, tag_field="type", tag="image_url"):
    image_url: _ImageUrl


class _AudioPart(msgspec.Struct, tag_field="type", tag="input_audio"):
    input_audio: Any


class _File(msgspec.Struct):
    file_id: str | None = None
    file_data: str | None = None
    filename: str | None = None


class _FilePart(msgspec.Struct, tag_field="type", tag="file"):
    file: _File


_Part = _TextPart | _RefusalPart | _ImagePart | _AudioPart | _FilePart
_Content = str | list[_Part]


class _CalledFunction(msgspec.Struct):
    name: str
    arguments: str


class _FunctionCallEntry(msgspec.Struct, tag_field="type", tag="function"):
    id: str
    function: _CalledFunction


class _CalledCustom(msgspec.Struct):
    name: str
    input: str


class _CustomCallEntry(msgspec.Struct, tag_field="type", tag="custom"):
    id: str
    custom: _CalledCustom


class _System(msgspec.Struct, tag_field="role", tag="system"):
    content: _Content


class _Developer(msgspec.Struct, tag_field="role", tag="developer"):
    content: _Content


class _User(msgspec.Struct, tag_field="role", tag="user"):
    content: _Content


class _Assistant(msgspec.Struct, tag_field="role", tag="assistant"):
    content: _Content | None = None
    refusal: str | None = None
    reasoning_content: str | None = None  # as this server shows it; clients that send it back keep the model's context
    tool_calls: list[_FunctionCallEntry | _CustomCallEntry] | None = None


class _Tool(msgspec.Struct, tag_field="role", tag="tool"):
    tool_call_id: str
    content: _Content


_ChatMessage = _System | _Developer | _User | _Assistant | _Tool


class _Function(msgspec.Struct):
    name: Name
    description: str | None = None
    parameters: msgspec.Raw = msgspec.Raw(b"null")
    strict: bool | None = None


class _FunctionTool(msgspec.Struct, tag_field="type", tag="function"):
    function: _Function


class _GrammarText(msgspec.Struct):
    syntax: Literal["lark", "regex"]
    definition: str


class _NestedGrammar(msgspec.Struct, tag_field="type", tag="grammar"):
    grammar: _GrammarText


class _Custom(msgspec.Struct):
    name: Name
    description: str | None = None
    format: TextFormat | _NestedGrammar | None = None


class _CustomTool(msgspec.Struct, tag_field="type", tag="custom"):
    custom: _Custom


class _NestedSchema(msgspec.Struct, tag_field="type", tag="json_schema"):
    json_schema: msgspec.Raw


class _Named(msgspec.Struct):
    name: str


class _ChooseFunction(msgspec.Struct, tag_field="type", tag="function"):
    function: _Named


class _ChooseCustom(msgspec.Struct, tag_field="type", tag="custom"):
    custom: _Named


class _Allowed(msgspec.Struct):
    mode: Literal["auto", "required"]
    tools: list[_ChooseFunction | _ChooseCustom]


class _ChooseAllowed(msgspec.Struct, tag_field="type", tag="allowed_tools"):
    allowed_tools: _Allowed


_Choice = str | _ChooseFunction | _ChooseCustom | _ChooseAllowed


class StreamOptions(msgspec.Struct):
    """Options of a chunk stream."""

    include_usage: bool | None = None


class ChatCreate(msgspec.Struct, kw_only=True):
    """A chat completion as asked for."""

    model: str | None = None
    messages: Annotated[list[_ChatMessage], Meta(min_length=1)]
    tools: list[_FunctionTool | _CustomTool] | None = None
    tool_choice: _Choice | None = None
    parallel_tool_calls: bool | None = None
    response_format: TextPlain | TextJsonObject | _NestedSchema | None = None
    verbosity: Literal["low", "medium", "high"] | None = None
    reasoning_effort: Effort | None = None
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Meta(ge=1)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    seed: Seed | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    metadata: Metadata | None = None
    prompt_cache_key: str | None = None
    safety_identifier: Annotated[str, Meta(max_length=128)] | None = None
    service_tier: str | None = None
    user: str | None = None
    n: int | None = None
    stop: str | list[str] | None = None
    logit_bias: dict[str, float] | None = None
    modalities: list[str] | None = None
    functions: Any = None
    function_call: Any = None


class ChatTurn(msgspec.Struct, frozen=True):
    """A chat completion as a turn. `origins` are, for each item of its input, the message it came from."""

    request: ResponseCreate
    origins: Sequence[int]
    includes_usage: bool
    wants_logprobs: bool


_decoder = msgspec.json.Decoder(ChatCreate)
_schema_decoder = msgspec.json.Decoder(TextJsonSchema)


def read_chat(body: bytes) -> ChatTurn:
    """The turn that a body asks for. Raises the ApiError that names what is wrong or not served."""
    chat = decode_chat(body)
    request, origins = as_create(chat)
    includes_usage = bool(chat.stream_options and chat.stream_options.include_usage)
    return ChatTurn(request, origins, includes_usage, bool(chat.logprobs))


def decode_chat(body: bytes) -> ChatCreate:
    """The request; raises the ApiError that names what is wrong or not served."""
    check_utf8(body)
    chat = decode_as(_decoder, body)
    check_metadata(chat.metadata)
    for name, value in (("stop", chat.stop), ("logit_bias", chat.logit_bias)):
        if value:
            raise UnsupportedParameter(f"'{name}' is not served here.", param=name)
    for name, value in (("functions", chat.functions), ("function_call", chat.function_call)):
        if value is not None:
            raise UnsupportedParameter(f"'{name}' is deprecated and not served here; use 'tools'.", param=name)
    if chat.n not in (None, 1):
        raise UnsupportedValue("One choice is made per request: 'n' must be 1.", param="n")
    if chat.modalities not in (None, ["text"]):
        raise UnsupportedValue("Only text is written here.", param="modalities")
    return chat


def as_create(chat: ChatCreate) -> tuple[ResponseCreate, list[int]]:
    """The turn it asks for, not stored; and for each item of its input the message it came from."""
    items, origins = _items(chat.messages)
    tools = [_tool(tool) for tool in chat.tools or ()]
    create = ResponseCreate(
        model=chat.model,
        input=msgspec.Raw(json_bytes(items)),
        tools=msgspec.Raw(json_bytes(tools)),
        tool_choice=_tool_choice(chat.tool_choice),
        parallel_tool_calls=chat.parallel_tool_calls,
        text=Text(format=_format(chat.response_format), verbosity=chat.verbosity),
        reasoning=ReasoningOptions(effort=chat.reasoning_effort) if chat.reasoning_effort is not None else None,
        max_output_tokens=chat.max_tokens if chat.max_completion_tokens is None else chat.max_completion_tokens,
        temperature=chat.temperature,
        top_p=chat.top_p,
        presence_penalty=chat.presence_penalty,
        frequency_penalty=chat.frequency_penalty,
        include=["message.output_text.logprobs"] if chat.logprobs else None,
        top_logprobs=chat.top_logprobs,
        seed=chat.seed,
        store=False,
        stream=chat.stream,
        metadata=chat.metadata,
        prompt_cache_key=chat.prompt_cache_key,
        safety_identifier=chat.safety_identifier,
        service_tier=chat.service_tier,
        user=chat.user,
    )
    return create, origins


def in_chat_terms(error: ApiError, origins: Sequence[int]) -> ApiError:
    """The same error with `param` naming the message instead of the item it became."""
    param = error.param
    if param is not None and param.startswith("input"):
        index, bracket, _ = param.removeprefix("input[").partition("]")
        is_indexed = bracket and index.isdigit() and int(index) < len(origins)
        error.param = f"messages[{origins[int(index)]}]" if is_indexed else "messages"
    return error


def _items(messages: Sequence[_ChatMessage]) -> tuple[list[Item], list[int]]:
    items: list[Item] = []
    origins: list[int] = []
    custom_calls: set[str] = set()
    for index, message in enumerate(messages):
        made = _items_of(message, custom_calls)
        custom_calls.update(item.call_id for item in made if isinstance(item, CustomToolCall))
        items += made
        origins += [index] * len(made)
    return items, origins


def _items_of(message: _ChatMessage, custom_calls: set[str]) -> list[Item]:
    match message:
        case _System(content=content):
            return [Message(role="system", content=_content(content))]
        case _Developer(content=content):
            return [Message(role="developer", content=_content(content))]
        case _User(content=content):
            return [Message(role="user", content=_content(content))]
        case _Tool(tool_call_id=call_id, content=content):
            kind = CustomToolCallOutput if call_id in custom_calls else FunctionCallOutput
            return [kind(call_id=call_id, output=_result(content))]
        case _Assistant():
            return _of_assistant(message)


def _of_assistant(message: _Assistant) -> list[Item]:
    items: list[Item] = []
    if message.reasoning_content:
        items.append(Reasoning(content=[ReasoningText(text=message.reasoning_content)]))
    parts = _written(message)
    if parts or not message.tool_calls:
        items.append(Message(role="assistant", content=parts))
    for call in message.tool_calls or ():
        match call:
            case _FunctionCallEntry(id=call_id, function=called):
                items.append(FunctionCall(call_id=call_id, name=called.name, arguments=called.arguments))
            case _CustomCallEntry(id=call_id, custom=called):
                items.append(CustomToolCall(call_id=call_id, name=called.name, input=called.input))
    return items


def _written(message: _Assistant) -> list[ContentPart]:
    parts: list[ContentPart] = []
    content = [_TextPart(message.content)] if isinstance(message.content, str) else message.content or ()
    for part in content:
        match part:
            case _TextPart(text=text):
                if text:
                    parts.append(OutputText(text=text))
            case _RefusalPart(refusal=refusal):
                parts.append(Refusal(refusal=refusal))
            case _:
                raise InvalidRequest("An assistant message has text and refusals only.", param="messages")
    if message.refusal:
        parts.append(Refusal(refusal=message.refusal))
    return parts


def _content(content: _Content) -> str | list[ContentPart]:
    return content if isinstance(content, str) else [_part(part) for part in content]


def _result(content: _Content) -> str | list[ResultPart]:
    if isinstance(content, str):
        return content
    parts: list[ResultPart] = []
    for part in content:
        if not isinstance(part, _TextPart):
            raise InvalidRequest("A tool message has text only.", param="messages")
        parts.append(InputText(text=part.text))
    return parts


def _part(part: _Part) -> ContentPart:
    match part:
        case _TextPart(text=text):
            return InputText(text=text)
        case _RefusalPart(refusal=refusal):
            return Refusal(refusal=refusal)
        case _ImagePart(image_url=image):
            return InputImage(image_url=image.url, detail=image.detail)
        case _AudioPart(input_audio=audio):
            return InputAudio(input_audio=None if audio is None else JsonValue(json_bytes(audio)))
        case _FilePart(file=file):
            return InputFile(file_id=file.file_id, file_data=file.file_data, filename=file.filename)


def _tool(tool: _FunctionTool | _CustomTool) -> dict[str, Any]:
    match tool:
        case _FunctionTool(function=function):
            return {"type": "function", **_given(function)}
        case _CustomTool(custom=custom):
            flat = {"type": "custom", **_given(custom)}
            if isinstance(custom.format, _NestedGrammar):
                flat["format"] = {"type": "grammar", **_given(custom.format.grammar)}
            return flat


def _given(struct: msgspec.Struct) -> dict[str, Any]:
    """The members that were given."""
    return {name: value for name, value in msgspec.structs.asdict(struct).items() if value is not None}


def _tool_choice(choice: _Choice | None) -> str | dict[str, Any] | None:
    """The same without the nesting."""
    match choice:
        case _ChooseFunction(function=named):
            return {"type": "function", "name": named.name}
        case _ChooseCustom(custom=named):
            return {"type": "custom", "name": named.name}
        case _ChooseAllowed(allowed_tools=allowed):
            tools = [_tool_choice(tool) for tool in allowed.tools]
            return {"type": "allowed_tools", "mode": allowed.mode, "tools": tools}
        case _:
            return choice


def _format(
    form: TextPlain | TextJsonObject | _NestedSchema | None,
) -> TextPlain | TextJsonObject | TextJsonSchema | None:
    if not isinstance(form, _NestedSchema):
        return form
    raw = bytes(form.json_schema)
    if not raw.startswith(b"{"):
        raise InvalidRequest("'response_format.json_schema' must be an object.", param="response_format.json_schema")
    comma = b"" if raw[1:].lstrip().startswith(b"}") else b","
    return decode_as(_schema_decoder, b'{"type":"json_schema"' + comma + raw[1:], "response_format.json_schema")
