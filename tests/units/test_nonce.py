"""Nonces: good for a while, at one address, of one secret; everything else is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callgate.proxy.identity.nonce import AHEAD, Nonces

SECRET = b"the secret of these nonces"
NONCES = Nonces(SECRET)
SOURCE, WALL, SECONDS = "192.0.2.1", 1_800_000_000.0, 300.0


@pytest.mark.parametrize(
    ("later", "good"),
    [(0.0, True), (0.001, True), (299.999, True), (300.0, True), (300.002, False), (1e9, False)],
)
def test_how_long_it_is_good(later: float, good: bool) -> None:
    nonce = NONCES.make(SOURCE, WALL)
    assert NONCES.good(nonce, SOURCE, WALL + later, SECONDS) is good


@pytest.mark.parametrize(
    ("earlier", "good"), [(1.0, True), (AHEAD, True), (AHEAD + 0.01, False), (1e9, False)]
)
def test_a_clock_that_is_behind(earlier: float, good: bool) -> None:
    """Another gate's clock may be a little ahead of ours; more is no nonce of now."""
    nonce = NONCES.make(SOURCE, WALL)
    assert NONCES.good(nonce, SOURCE, WALL - earlier, SECONDS) is good


def test_it_is_good_at_one_address_and_for_one_secret() -> None:
    nonce = NONCES.make(SOURCE, WALL)
    assert Nonces(SECRET).good(nonce, SOURCE, WALL, SECONDS)
    assert not NONCES.good(nonce, "192.0.2.2", WALL, SECONDS)
    assert not NONCES.good(nonce, "2001:db8::1", WALL, SECONDS)
    assert not Nonces(SECRET + b"x").good(nonce, SOURCE, WALL, SECONDS)


@given(st.floats(0, 2**33), st.text(min_size=1, max_size=40), st.integers(0, 23), st.integers(1, 255))
def test_nobody_can_change_one(wall: float, source: str, place: int, by: int) -> None:
    nonce = NONCES.make(source, wall)
    assert NONCES.good(nonce, source, wall, 1.0)
    changed = bytearray(nonce)
    changed[place] ^= by
    assert not NONCES.good(bytes(changed), source, wall, 1e12)


@given(st.binary(max_size=60) | st.binary(min_size=24, max_size=24))
def test_rubbish_is_no_nonce(nonce: bytes) -> None:
    assert not NONCES.good(nonce, SOURCE, WALL, 1e12)


def test_it_can_stand_in_a_quoted_string() -> None:
    for n in range(200):
        nonce = NONCES.make(SOURCE, WALL + n)
        assert len(nonce) == 24
        assert not set(nonce) & set(b'"\\, \r\n')
