"""AES-256-GCM under the newest key of a ring; what older keys have sealed is opened as long as they are in it.

    hl1.  base64url( key id: 8 bytes  nonce: 12 bytes  ciphertext  tag: 16 bytes )

Tenant and use are authenticated beside the text. Nonces are random: one key may seal 2^32 texts (NIST SP 800-38D §8.3).
"""

import base64
import binascii
import hashlib
import os
from collections.abc import Callable, Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from hotloop.seams.sealer import SealedKind
from hotloop.session.principal import Tenant

PREFIX = "hl1."
KEY_BYTES = 32
_ID_BYTES = 8
_NONCE_BYTES = 12


def new_key() -> bytes:
    """A random key."""
    return os.urandom(KEY_BYTES)


class KeyRing:
    """Implements `seams.sealer.Sealer`.

    Args:
        keys: newest first; at least one.
        refresh: asked for the keys as they are now when one is not known; another process may have added it.
    """

    def __init__(self, keys: Sequence[bytes], refresh: Callable[[], Sequence[bytes]] | None = None) -> None:
        self._refresh = refresh
        self._take(keys)

    def seal(self, tenant: Tenant, kind: SealedKind, text: str) -> str:
        """See `Sealer.seal`."""
        nonce = os.urandom(_NONCE_BYTES)
        box = self._boxes[self._newest].encrypt(nonce, text.encode("utf-8", "surrogatepass"), _bound(tenant, kind))
        return PREFIX + base64.urlsafe_b64encode(self._newest + nonce + box).decode()

    def open(self, tenant: Tenant, kind: SealedKind, sealed: str) -> str | None:
        """See `Sealer.open`."""
        raw = _unpacked(sealed)
        if raw is None:
            return None
        key_id, nonce, box = raw[:_ID_BYTES], raw[_ID_BYTES:][:_NONCE_BYTES], raw[_ID_BYTES + _NONCE_BYTES :]
        if key_id not in self._boxes and self._refresh is not None:
            self._take(self._refresh())
        key = self._boxes.get(key_id)
        if key is None:
            return None
        try:
            return key.decrypt(nonce, box, _bound(tenant, kind)).decode("utf-8", "surrogatepass")
        except InvalidTag:
            return None

    def _take(self, keys: Sequence[bytes]) -> None:
        ids = [hashlib.blake2b(key, digest_size=_ID_BYTES, person=b"hotloop-key").digest() for key in keys]
        self._boxes = {key_id: AESGCM(key) for key_id, key in zip(ids, keys, strict=True)}
        self._newest = ids[0]


def _bound(tenant: Tenant, kind: SealedKind) -> bytes:
    return kind.encode() + b"\0" + tenant.encode("utf-8", "surrogatepass")


def _unpacked(sealed: str) -> bytes | None:
    if not sealed.startswith(PREFIX):
        return None
    try:
        raw = base64.b64decode(sealed[len(PREFIX) :], altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw if len(raw) > _ID_BYTES + _NONCE_BYTES else None
