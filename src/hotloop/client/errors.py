"""Every way a run can end without an answer, and what each one knows.

AgentError
├── CannotConnect        nobody answers at the address
│   └── WebSocketBlocked     something answers, but no WebSocket comes through
├── ConnectionLost       the stream broke before the turn's last event
├── RequestRefused       an `error` event or an HTTP status: the turn never started or was cut by the server
├── ResponseFailed       `response.failed`
└── ResponseIncomplete   `response.incomplete`

Transports raise them for one attempt; `recovery` decides which of them a caller gets to see.
"""


class AgentError(Exception):
    """Base class. `code` is for programs, the message for people."""

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


class CannotConnect(AgentError):
    """No connection to the server; the message names the address and the reason."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"cannot connect to {url}: {reason}", code="cannot_connect")
        self.url = url
        self.reason = reason


class WebSocketBlocked(CannotConnect):
    """The host is there, the WebSocket handshake does not go through: plain HTTP may."""


class ConnectionLost(AgentError):
    """The connection went away, fell silent or sent what is not the protocol."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"connection lost: {reason}", code="connection_lost")


class RequestRefused(AgentError):
    """The server's error event, or its HTTP status with the same body.

    Args:
        status: HTTP status, on both transports.
        param: path of the offending request field, if the server names one.
        retry_after_s: how long the server asks to wait, if it does.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        code: str,
        param: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, code=code)
        self.status = status
        self.param = param
        self.retry_after_s = retry_after_s


class ResponseFailed(AgentError):
    """The turn had begun and failed on the server's side."""

    def __init__(self, message: str, *, code: str, retry_after_s: float | None = None) -> None:
        super().__init__(message, code=code)
        self.retry_after_s = retry_after_s


class ResponseIncomplete(AgentError):
    """The turn ended early; the code is the reason, such as `max_output_tokens`."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the response is incomplete: {reason}", code=reason)
