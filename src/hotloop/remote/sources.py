"""Where content may be fetched from: the allow-list, entry by entry. Pure."""

import re

import httpx
import msgspec

_ENTRY = re.compile(
    r"(?:(?P<scheme>https?)://)?(?P<host>\*|(?:\*\.)?[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{1,5}))?/?\Z"
)
_DEFAULT_PORTS = {"https": 443, "http": 80}


class SourceProblem(ValueError):
    """Not an entry of an allow-list."""


class Source(msgspec.Struct, frozen=True):
    """`https` unless the entry says `http://`; `*.example.org` is every host below, `*` every host there is."""

    scheme: str
    host: str
    port: int

    @staticmethod
    def parse(entry: str) -> "Source":
        """An entry such as `files.example.org`, `*.example.org:8443` or `http://example.org`. Raises SourceProblem."""
        found = _ENTRY.match(entry.strip().lower())
        if found is None:
            raise SourceProblem(f"{entry!r} names no host")
        scheme = found["scheme"] or "https"
        port = int(found["port"]) if found["port"] else _DEFAULT_PORTS[scheme]
        if not 0 < port < 65536:
            raise SourceProblem(f"{entry!r} names no port")
        return Source(scheme, found["host"].strip("[]"), port)

    def allows(self, url: httpx.URL) -> bool:
        """The URL is one of this source's."""
        port = url.port or _DEFAULT_PORTS.get(url.scheme)
        if (url.scheme, port) != (self.scheme, self.port):
            return False
        host = url.raw_host.decode("ascii").rstrip(".")
        return self.host in ("*", host) or (self.host.startswith("*.") and host.endswith(self.host[1:]))
