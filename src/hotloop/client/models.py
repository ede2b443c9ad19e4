"""What models a server has: for a command that was not told which one to use."""

import httpx
import msgspec

from hotloop.client.errors import CannotConnect, ConnectionLost, RequestRefused
from hotloop.client.events import refusal_of_body, retry_after_s
from hotloop.client.transport import headers, uses_proxy

_TIMEOUT_S = 10.0
_OK = 200
_NOT_FOUND = 404


class _Model(msgspec.Struct, frozen=True):
    id: str


class _Models(msgspec.Struct, frozen=True):
    data: list[_Model]


async def list_models(url: str, *, api_key: str | None = None) -> list[str]:
    """Names of the models at this base URL, in the server's order.

    Raises:
        CannotConnect, RequestRefused, ConnectionLost: there is no such list to be had.
    """
    try:
        async with httpx.AsyncClient(timeout=_TIMEOUT_S, trust_env=uses_proxy(url)) as client:
            response = await client.get(f"{url.rstrip('/')}/models", headers=headers(api_key))
    except httpx.TransportError as error:
        raise CannotConnect(url, str(error) or type(error).__name__) from error
    if response.status_code != _OK:
        raise _refused(url, response)
    try:
        return [model.id for model in msgspec.json.decode(response.content, type=_Models).data]
    except msgspec.DecodeError as error:
        raise ConnectionLost(f"{url}/models did not answer with a list of models") from error


async def first_model(url: str, *, api_key: str | None = None) -> str:
    """The model that the server lists first: for a command that was not told which. Raises as `list_models` does."""
    models = await list_models(url, api_key=api_key)
    if not models:
        raise CannotConnect(url, "the server lists no model, name one with --model")
    return models[0]


def _refused(url: str, response: httpx.Response) -> RequestRefused | CannotConnect:
    if response.status_code == _NOT_FOUND:
        return CannotConnect(url, "there is no such API (GET /models got HTTP status 404)")
    return refusal_of_body(response.status_code, response.content, retry_after_s(dict(response.headers)))
