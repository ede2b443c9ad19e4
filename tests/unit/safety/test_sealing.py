import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotloop.safety.sealing import PREFIX, KeyRing, new_key
from hotloop.session.principal import Tenant

MINE, OTHER = Tenant("mine"), Tenant("other")
RING = KeyRing([new_key()])


@given(st.text(st.characters()))
def test_what_is_sealed_opens_to_the_same_text(text: str) -> None:
    sealed = RING.seal(MINE, "reasoning", text)
    assert RING.open(MINE, "reasoning", sealed) == text
    assert sealed.isascii()
    assert not set(sealed) & set('"\\')


@given(st.text(max_size=20), st.data())
def test_one_changed_bit_closes_it(text: str, data: st.DataObject) -> None:
    raw = bytearray(base64.urlsafe_b64decode(RING.seal(MINE, "reasoning", text)[len(PREFIX) :]))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert RING.open(MINE, "reasoning", PREFIX + base64.urlsafe_b64encode(raw).decode()) is None


def test_another_tenant_another_use_and_another_server_cannot_open_it() -> None:
    sealed = RING.seal(MINE, "reasoning", "thought")
    assert RING.open(OTHER, "reasoning", sealed) is None
    assert RING.open(MINE, "compaction", sealed) is None
    assert KeyRing([new_key()]).open(MINE, "reasoning", sealed) is None


@pytest.mark.parametrize("sealed", ["", "hl1.", "hl1.AAAA", "gAAAAABm", "hl1.€", "hl1." + "A" * 27, "hl1." + "A" * 200])
def test_what_was_never_sealed_does_not_open(sealed: str) -> None:
    assert RING.open(MINE, "reasoning", sealed) is None


def test_an_older_key_opens_and_the_newest_seals() -> None:
    old, new = new_key(), new_key()
    sealed = KeyRing([old]).seal(MINE, "reasoning", "a")
    both = KeyRing([new, old])
    assert both.open(MINE, "reasoning", sealed) == "a"
    assert KeyRing([new]).open(MINE, "reasoning", both.seal(MINE, "reasoning", "b")) == "b"
    assert KeyRing([new]).open(MINE, "reasoning", sealed) is None  # retired


def test_two_seals_of_one_text_differ() -> None:
    assert RING.seal(MINE, "reasoning", "a") != RING.seal(MINE, "reasoning", "a")
