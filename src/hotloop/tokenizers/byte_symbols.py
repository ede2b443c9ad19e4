"""GPT-2's printable stand-ins for bytes, in which byte-level vocabularies are written."""

_PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_OTHERS = [byte for byte in range(256) if byte not in _PRINTABLE]
BYTES = {chr(byte): byte for byte in _PRINTABLE} | {chr(256 + n): byte for n, byte in enumerate(_OTHERS)}


def token_bytes(token: str) -> bytes | None:
    """The bytes a token stands for, or None if it is not written in stand-ins."""
    try:
        return bytes([BYTES[char] for char in token])
    except KeyError:
        return None
