"""Who may talk to the server. Every door calls `authenticate` before it reads anything else."""

import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from hotloop.errors import Forbidden, InvalidApiKey
from hotloop.session.principal import LOCAL, Principal

Headers = Iterable[tuple[bytes, bytes]]  # as ASGI gives them: lower-case names


@dataclass(frozen=True, slots=True)
class AccessPolicy:
    """`api_key` empty: no key is asked for, and only loopback names are answered to (against DNS rebinding)."""

    api_key: str = ""
    allow_origins: frozenset[str] = frozenset()


def authenticate(policy: AccessPolicy, headers: Headers) -> Principal:
    """The caller. Raises InvalidApiKey, or Forbidden for a web page of a foreign origin."""
    found = {name: value.decode("latin-1") for name, value in headers if name in _READ}
    _check_origin(policy, found)
    if not policy.api_key:
        return Principal()
    given = found.get(b"authorization", "").removeprefix("Bearer ").strip() or found.get(b"api-key", "")
    if not hmac.compare_digest(given.encode(), policy.api_key.encode()):
        raise InvalidApiKey("Give the server's API key as 'Authorization: Bearer KEY'.")
    return Principal(tenant=LOCAL, key_id="default")


def wants_timing(headers: Headers) -> bool:
    """The client asks for `hotloop:timing` events."""
    return any(name == b"hotloop-timing" and value == b"1" for name, value in headers)


_READ = frozenset({b"authorization", b"api-key", b"origin", b"host"})


def _check_origin(policy: AccessPolicy, headers: dict[bytes, str]) -> None:
    origin = headers.get(b"origin")
    if origin is not None and origin not in policy.allow_origins and not _is_local_origin(origin):
        raise Forbidden("Pages of this origin may not use the server. --allow-origin lets one in.")
    host = _host_of("//" + headers.get(b"host", "localhost"))
    if not policy.api_key and not is_loopback(host):
        raise Forbidden("Without an API key this server answers to loopback names only.")


def is_loopback(host: str) -> bool:
    """The host name or address stays on this machine."""
    if host == "localhost":
        return True
    try:  # by value: `127.example.org` is a name that anybody can point anywhere
        return ip_address(host.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return False


def _is_local_origin(origin: str) -> bool:
    return is_loopback(_host_of(origin))


def _host_of(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
