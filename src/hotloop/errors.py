"""Every error a client can be shown, and how each looks on the wire (docs/protocol.md §10).

ApiError
├── InvalidRequest                    400  invalid_request_error  invalid_value
│   ├── InvalidJson                                               invalid_json
│   ├── InvalidEvent                                              invalid_request
│   ├── InvalidType                                               invalid_type
│   ├── MissingParameter                                          missing_required_parameter
│   ├── UnsupportedParameter                                      unsupported_parameter
│   ├── UnsupportedValue                                          unsupported_value
│   ├── PreviousResponseNotFound                                  previous_response_not_found
│   ├── InvalidStreamId                                           invalid_stream_id
│   ├── StreamLimitReached                                        websocket_stream_limit_reached
│   ├── ConnectionLimitReached                                    websocket_connection_limit_reached
│   ├── ContextLengthExceeded                                     context_length_exceeded
│   ├── SchemaTooComplex                                          schema_too_complex
│   ├── InvalidEncryptedContent                                   invalid_encrypted_content
│   ├── ContentBlocked                                            content_policy_violation
│   ├── RemoteUrlNotAllowed                                       remote_url_not_allowed
│   ├── RemoteFetchFailed                                         remote_fetch_failed
│   ├── RemoteFetchTimeout                                        remote_fetch_timeout
│   ├── RemoteContentTooLarge                                     remote_content_too_large
│   ├── InvalidApiKey                 401                         invalid_api_key
│   ├── Forbidden                     403  permission_error       forbidden
│   ├── NotFound                      404                         not_found
│   │   ├── ModelNotFound                                         model_not_found
│   │   ├── ResponseNotFound                                      response_not_found
│   │   ├── ConversationNotFound                                  conversation_not_found
│   │   └── ItemNotFound                                          item_not_found
│   ├── MethodNotAllowed              405                         method_not_allowed
│   ├── ConversationLocked            409                         conversation_locked
│   ├── IdempotencyKeyReused          409                         idempotency_key_reused
│   ├── PayloadTooLarge               413                         payload_too_large
│   └── UnsupportedEncoding           415                         unsupported_content_encoding
├── RateLimited                       429  rate_limit_error       rate_limit_exceeded
└── ServerFault                       500  server_error           server_error
    ├── Overloaded                    503  service_unavailable_error  server_is_overloaded
    ├── StorageUnavailable            503                         storage_unavailable
    ├── EngineUnavailable             503                         engine_unavailable
    ├── EngineTimeout                 504                         engine_timeout
    └── CompactionFailed              500                         server_error
"""

from collections.abc import Sequence
from typing import ClassVar


class ApiError(Exception):
    """Base class. The message is shown to the client: never put prompt text or secrets in it.

    Args:
        message: what was wrong and what to do next.
        param: path of the offending request field, such as `input[2].call_id`.
        retry_after_s: when trying again makes sense; sent as the `retry-after` header.
    """

    status: ClassVar[int] = 500  # HTTP status; repeated in WebSocket error events
    type: ClassVar[str] = "server_error"
    code: ClassVar[str] = "server_error"

    def __init__(self, message: str, *, param: str | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s


class InvalidRequest(ApiError):
    """The request cannot be served as it stands."""

    status, type, code = 400, "invalid_request_error", "invalid_value"


class InvalidJson(InvalidRequest):
    """The message or body is not JSON."""

    code = "invalid_json"


class InvalidEvent(InvalidRequest):
    """The message is JSON but no client event that the protocol knows."""

    code = "invalid_request"


class InvalidType(InvalidRequest):
    """A field has the wrong JSON type."""

    code = "invalid_type"


class MissingParameter(InvalidRequest):
    """A field that must be there is not."""

    code = "missing_required_parameter"

    def __init__(self, param: str) -> None:
        super().__init__(f"Missing required parameter: '{param}'.", param=param)


class UnsupportedParameter(InvalidRequest):
    """The field exists in the protocol but not on this transport or server."""

    code = "unsupported_parameter"


class UnsupportedValue(InvalidRequest):
    """The field is known, this value of it is not served."""

    code = "unsupported_value"


class PreviousResponseNotFound(InvalidRequest):
    """The id is in neither this connection's cache nor the store."""

    code = "previous_response_not_found"

    def __init__(self, response_id: str) -> None:
        super().__init__(f"Previous response with id '{response_id}' not found.", param="previous_response_id")


class InvalidStreamId(InvalidRequest):
    """The lane's name breaks the rule."""

    code = "invalid_stream_id"

    def __init__(self) -> None:
        super().__init__(
            "stream_id must be a non-empty string of at most 256 characters: only letters, numbers, underscores, "
            "hyphens and periods.",
            param="stream_id",
        )


class StreamLimitReached(InvalidRequest):
    """One lane name more than a connection may use."""

    code = "websocket_stream_limit_reached"

    def __init__(self, limit: int) -> None:
        super().__init__(f"This connection already uses {limit} different stream_ids.", param="stream_id")


class ConnectionLimitReached(InvalidRequest):
    """The connection is as old as it may get."""

    code = "websocket_connection_limit_reached"

    def __init__(self, limit_s: float) -> None:
        super().__init__(
            f"Responses websocket connection limit reached ({limit_s / 60:g} minutes). "
            "Create a new websocket connection to continue."
        )


class ContextLengthExceeded(InvalidRequest):
    """Prompt and history do not fit the model's context."""

    code = "context_length_exceeded"

    def __init__(self, prompt_tokens: int, limit_tokens: int) -> None:
        super().__init__(
            f"The input is {prompt_tokens} tokens long; this model's context holds {limit_tokens}.", param="input"
        )
        self.prompt_tokens = prompt_tokens


class SchemaTooComplex(InvalidRequest):
    """A JSON schema or grammar goes over the limits of constrained decoding."""

    code = "schema_too_complex"


class InvalidEncryptedContent(InvalidRequest):
    """Sealed content that this server did not seal for this tenant, that was changed, or whose key is retired."""

    code = "invalid_encrypted_content"

    def __init__(self, place: str) -> None:
        super().__init__(
            f"The encrypted content of {place} cannot be opened: it was changed, comes from elsewhere, or its key is "
            "retired. Leave the item out.",
            param="input",
        )


class ContentBlocked(InvalidRequest):
    """The safety policy refuses the content."""

    code = "content_policy_violation"


class RemoteUrlNotAllowed(InvalidRequest):
    """A URL that this server does not fetch: of another host than it may, at no public address, or fetching is off."""

    code = "remote_url_not_allowed"

    def __init__(self, reason: str, *, param: str) -> None:
        super().__init__(f"The URL cannot be fetched: {reason}. Send the content itself, as a data URL.", param=param)


class RemoteFetchFailed(InvalidRequest):
    """The URL may be fetched, and nothing came of it."""

    code = "remote_fetch_failed"

    def __init__(self, reason: str, *, param: str) -> None:
        super().__init__(f"Fetching the URL failed: {reason}.", param=param)


class RemoteFetchTimeout(InvalidRequest):
    """What the URL names did not come in time."""

    code = "remote_fetch_timeout"

    def __init__(self, limit_s: float, *, param: str) -> None:
        super().__init__(f"Fetching the URL took longer than {limit_s:g} seconds.", param=param)


class RemoteContentTooLarge(InvalidRequest):
    """What the URL names is larger than this server fetches."""

    code = "remote_content_too_large"

    def __init__(self, limit_bytes: int, *, param: str) -> None:
        super().__init__(f"What is at the URL is larger than {limit_bytes} bytes.", param=param)


class InvalidApiKey(InvalidRequest):
    """No key or a wrong one."""

    status, code = 401, "invalid_api_key"


class Forbidden(InvalidRequest):
    """The caller may not do this, such as a browser page of a foreign origin."""

    status, type, code = 403, "permission_error", "forbidden"


class NotFound(InvalidRequest):
    """No such thing."""

    status, code = 404, "not_found"


class ModelNotFound(NotFound):
    """The model's name is not served here."""

    code = "model_not_found"

    def __init__(self, model: str) -> None:
        super().__init__(f"The model '{model}' does not exist. GET /v1/models lists what is served.", param="model")


class ResponseNotFound(NotFound):
    """No stored response has this id."""

    code = "response_not_found"

    def __init__(self, response_id: str) -> None:
        super().__init__(f"Response with id '{response_id}' not found.")


class ConversationNotFound(NotFound):
    """No conversation has this id."""

    code = "conversation_not_found"

    def __init__(self, conversation_id: str) -> None:
        super().__init__(f"Conversation with id '{conversation_id}' not found.", param="conversation")


class ItemNotFound(NotFound):
    """No stored item has this id."""

    code = "item_not_found"

    def __init__(self, item_id: str, *, param: str | None = None) -> None:
        super().__init__(f"Item with id '{item_id}' not found.", param=param)


class MethodNotAllowed(InvalidRequest):
    """The path exists, the method does not."""

    status, code = 405, "method_not_allowed"

    def __init__(self, message: str, *, allowed: Sequence[str]) -> None:
        super().__init__(message)
        self.allowed = allowed  # sent as the `allow` header


class ConversationLocked(InvalidRequest):
    """Another response is being written into the conversation."""

    status, code = 409, "conversation_locked"

    def __init__(self) -> None:
        super().__init__(
            "Another response is being written into this conversation. Try again when it is over.",
            param="conversation",
            retry_after_s=1,
        )


class IdempotencyKeyReused(InvalidRequest):
    """The key was given before, with another request."""

    status, code = 409, "idempotency_key_reused"


class PayloadTooLarge(InvalidRequest):
    """The message is over the size limit. On WebSocket the connection is closed with 1009 instead."""

    status, code = 413, "payload_too_large"


class UnsupportedEncoding(InvalidRequest):
    """The body is compressed in a way this server does not read."""

    status, code = 415, "unsupported_content_encoding"


class RateLimited(ApiError):
    """Too much at once from this caller."""

    status, type, code = 429, "rate_limit_error", "rate_limit_exceeded"


class ServerFault(ApiError):
    """Something failed on this side. Base of all 5xx and, as itself, the unspecific one."""


class Overloaded(ServerFault):
    """No room for one more turn."""

    status, type, code = 503, "service_unavailable_error", "server_is_overloaded"


class StorageUnavailable(ServerFault):
    """`store: true` could not be made good."""

    status, code = 503, "storage_unavailable"


class EngineUnavailable(ServerFault):
    """The engine died, was restarted or cannot be reached."""

    status, code = 503, "engine_unavailable"


class EngineTimeout(ServerFault):
    """The engine did not answer in time."""

    status, code = 504, "engine_timeout"


class CompactionFailed(ServerFault):
    """The model gave no summary. The conversation is as it was."""
