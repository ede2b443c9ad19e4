"""JSON answers and errors over HTTP."""

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from hotloop.errors import ApiError, InvalidRequest, MethodNotAllowed, NotFound, ServerFault
from hotloop.protocol.wire import error_body


def json_response(body: bytes, status: int = 200) -> Response:
    """A JSON body."""
    return Response(body, status, media_type="application/json")


def error_response(error: ApiError) -> Response:
    """The ordinary error body with its status."""
    response = json_response(error_body(error), error.status)
    if error.retry_after_s is not None:
        response.headers["retry-after"] = f"{error.retry_after_s:g}"
    if isinstance(error, MethodNotAllowed):
        response.headers["allow"] = ", ".join(error.allowed)
    return response


def on_api_error(request: Request, error: Exception) -> Response:
    """An ApiError raised by an endpoint."""
    assert isinstance(error, ApiError)
    return error_response(error)


def on_http_error(request: Request, error: Exception) -> Response:
    """A path or method that does not exist."""
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return error_response(NotFound(f"No such path: {request.url.path}."))
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        message = f"{request.method} is not possible on {request.url.path}."
        return error_response(MethodNotAllowed(message, allowed=allowed.split(", ")))
    return error_response(InvalidRequest(str(error.detail)))


def on_server_fault(request: Request, error: Exception) -> Response:
    """Anything unexpected: the client learns that it is our fault, the log learns the rest."""
    return error_response(ServerFault("Something went wrong on the server's side."))


def on_client_gone(request: Request, error: Exception) -> Response:
    """Nobody is left to answer; the server drops what is sent."""
    return Response(status_code=400)
