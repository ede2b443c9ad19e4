"""Which URLs a request may have this server connect to. Pure.

An entry of the allow-list allows its own origin and everything at or under its path. Nothing is resolved here: a name on the
list is trusted wherever it leads, and only names on the list are.
"""

from urllib.parse import SplitResult, urlsplit

import msgspec

_DEFAULT_PORTS = {"https": 443, "http": 80}


class UrlProblem(Exception):
    """Not a URL that can be used. The message does not repeat it."""


class AllowedUrl(msgspec.Struct, frozen=True):
    """An entry. `http` is allowed only by an entry that says so."""

    scheme: str
    host: str
    port: int
    path: str  # without a slash at its end

    @staticmethod
    def parse(url: str) -> "AllowedUrl":
        """Raises UrlProblem."""
        parts, port = _split(url)
        if parts.query:
            raise UrlProblem("an entry has no query")
        assert parts.hostname is not None
        return AllowedUrl(parts.scheme, parts.hostname, port, parts.path.rstrip("/"))

    def allows(self, url: str) -> bool:
        """The URL has this origin and lies at or under this path. Raises UrlProblem for what is no URL."""
        parts, port = _split(url)
        if (parts.scheme, parts.hostname, port) != (self.scheme, self.host, self.port):
            return False
        return parts.path.rstrip("/") == self.path or parts.path.startswith(f"{self.path}/")


def _split(url: str) -> tuple[SplitResult, int]:
    """The URL's parts and its port, if there is only one way to read it."""
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise UrlProblem("a URL consists of printable ASCII characters")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise UrlProblem("not a URL") from None
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        raise UrlProblem("an MCP server's URL begins with https:// and names a host")
    if parts.username is not None or parts.password is not None:
        raise UrlProblem("a URL must not hold a user name or password")
    if parts.fragment:
        raise UrlProblem("a URL must not have a fragment")
    # What two readers of a path could take for different paths is no path to allow anything by.
    lowered = parts.path.lower()
    if any(text in lowered for text in ("%2e", "%2f", "%5c", "//")) or {".", ".."} & set(lowered.split("/")):
        raise UrlProblem("a URL's path must be plain: no dots, no encoded slashes")
    return parts, port if port is not None else _DEFAULT_PORTS[parts.scheme]
