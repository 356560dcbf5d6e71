"""The token in our Via and Record-Route: what went in comes out, and nobody else can make one."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from ipaddress import IPv4Address, IPv6Address
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callgate.proxy import token as token_module
from callgate.proxy.token import INBOUND, OUTBOUND, Signer, Token, key_tag

SECRET = b"0123456789abcdef"
SIGNER = Signer(SECRET)
CALL_ID, TAG = b"1-abc@pbx.example.jp", b"from-tag"

octet = st.integers(0, 255)
hosts = st.one_of(
    st.integers(0, 2**32 - 1).map(lambda n: str(IPv4Address(n))),
    st.integers(0, 2**128 - 1).map(lambda n: str(IPv6Address(n))),
)
tokens = st.builds(
    Token,
    st.sampled_from([OUTBOUND, INBOUND]),
    st.binary(min_size=4, max_size=4),
    st.integers(0, 2**64 - 1),
    octet,
    octet,
    octet,
    hosts,
    st.integers(0, 65535),
    st.integers(0, 100),
)
words = st.binary(max_size=40)


def fields(token: Token) -> list[object]:
    return [getattr(token, name) for name in Token.__slots__]


def sample(host: str = "192.0.2.1") -> Token:
    return Token(OUTBOUND, key_tag("acme"), 0x0123456789ABCDEF, 1, 2, 3, host, 5061)


SAMPLES = [sample(), sample("2001:db8::1")]


@given(tokens, words, words)
def test_what_goes_in_comes_out(token: Token, call_id: bytes, tag: bytes) -> None:
    text = SIGNER.make(token, call_id, tag)
    found = SIGNER.read(text, call_id, tag)
    assert found is not None
    assert fields(found) == fields(token)


@pytest.mark.parametrize("token", SAMPLES)
def test_a_token_can_stand_in_a_branch_and_in_a_uri(token: Token) -> None:
    """RFC 3261 §25.1: of the signs of a token, so that it needs no quoting, and case counts there."""
    text = SIGNER.make(token, CALL_ID, TAG)
    assert text.translate(None, b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") == b""
    assert len(text) == (40 if "." in token.pbx_host else 56)


@given(tokens, st.data())
def test_any_flipped_bit_is_refused(token: Token, data: st.DataObject) -> None:
    text = SIGNER.make(token, CALL_ID, TAG)
    octets = bytearray(urlsafe_b64decode(text))
    at = data.draw(st.integers(0, len(octets) * 8 - 1))
    octets[at // 8] ^= 1 << at % 8
    assert SIGNER.read(urlsafe_b64encode(octets), CALL_ID, TAG) is None


@pytest.mark.parametrize("token", SAMPLES)
def test_any_other_sign_in_its_text_is_refused(token: Token) -> None:
    """Every place, every octet: there is one way only to write a token."""
    text = SIGNER.make(token, CALL_ID, TAG)
    for at in range(len(text)):
        for octet in range(256):
            if octet != text[at]:
                assert SIGNER.read(text[:at] + bytes([octet]) + text[at + 1 :], CALL_ID, TAG) is None


@pytest.mark.parametrize("token", SAMPLES)
def test_a_token_of_another_length_is_refused(token: Token) -> None:
    text = SIGNER.make(token, CALL_ID, TAG)
    for other in (
        *(text[:n] for n in range(len(text))),
        text + b"A",
        text + b"AAAA",
        text + b"=",
        text * 2,
        text * 50,
    ):
        assert SIGNER.read(other, CALL_ID, TAG) is None
    for other in (b" " + text, text + b"\n", b"\n" + text, text + b"\0"):
        assert SIGNER.read(other, CALL_ID, TAG) is None


@given(st.one_of(st.binary(max_size=90), st.text("ABCab01-_=+/", min_size=30, max_size=90).map(str.encode)))
def test_any_bytes_are_no_token(text: bytes) -> None:
    assert SIGNER.read(text, CALL_ID, TAG) is None


@given(words, words)
def test_it_holds_for_one_dialog_only(call_id: bytes, tag: bytes) -> None:
    text = SIGNER.make(SAMPLES[0], CALL_ID, TAG)
    same = (call_id, tag) == (CALL_ID, TAG)
    assert (SIGNER.read(text, call_id, tag) is not None) == same


@pytest.mark.parametrize(
    ("call_id", "tag"),
    [
        (CALL_ID + TAG, b""),
        (b"", CALL_ID + TAG),
        (CALL_ID[:-1], CALL_ID[-1:] + TAG),
        (CALL_ID + TAG[:1], TAG[1:]),
        (CALL_ID.upper(), TAG),
        (CALL_ID, TAG.upper()),
        (TAG, CALL_ID),
        (CALL_ID, b""),
    ],
)
def test_call_id_and_tag_are_told_apart(call_id: bytes, tag: bytes) -> None:
    text = SIGNER.make(SAMPLES[0], CALL_ID, TAG)
    assert SIGNER.read(text, call_id, tag) is None


def test_no_part_of_a_call_id_can_pass_for_an_address() -> None:
    """A caller chooses its Call-ID: twelve octets of it moved into the token would make an IPv4 address an IPv6 one
    of its choice."""
    call_id = bytes(range(65, 77)) + b"rest"
    octets = urlsafe_b64decode(SIGNER.make(SAMPLES[0], call_id, TAG))
    longer = octets[:-8] + call_id[:12] + octets[-8:]
    assert SIGNER.read(urlsafe_b64encode(longer), call_id[12:], TAG) is None
    octets = urlsafe_b64decode(SIGNER.make(SAMPLES[1], b"rest", TAG))
    shorter = octets[:22] + octets[-8:]
    assert SIGNER.read(urlsafe_b64encode(shorter), octets[22:34] + b"rest", TAG) is None


def test_a_to_tag_is_no_token_s_signature() -> None:
    """The gate puts `tag` over texts of the other side's choice into its answers: that must sign no token."""
    octets = urlsafe_b64decode(SIGNER.make(SAMPLES[0], CALL_ID, TAG))
    payload, mac = octets[:-8], octets[-8:]
    for before in (b"", bytes([len(payload)])):
        assert SIGNER.tag(before + payload + CALL_ID, TAG) != b"cg" + mac.hex().encode()


def test_another_secret_s_token_is_refused() -> None:
    text = Signer(b"another secret, also long").make(SAMPLES[0], CALL_ID, TAG)
    assert SIGNER.read(text, CALL_ID, TAG) is None


def test_the_same_secret_reads_it_after_a_restart_and_on_another_gate() -> None:
    found = Signer(SECRET).read(Signer(SECRET).make(SAMPLES[1], CALL_ID, TAG), CALL_ID, TAG)
    assert found is not None
    assert fields(found) == fields(SAMPLES[1])


def test_another_version_is_refused() -> None:
    with patch.object(token_module, "VERSION", 2):
        text = SIGNER.make(SAMPLES[0], CALL_ID, TAG)
        assert SIGNER.read(text, CALL_ID, TAG) is not None
    assert SIGNER.read(text, CALL_ID, TAG) is None


@pytest.mark.parametrize("secret", [b"", b"x" * 15])
def test_a_short_secret_is_refused(secret: bytes) -> None:
    with pytest.raises(ValueError, match="16 octets"):
        Signer(secret)


def test_long_secrets_count_whole() -> None:
    """blake2s takes 32 octets for a key; what stands behind them counts all the same."""
    one, two = Signer(b"x" * 40 + b"1"), Signer(b"x" * 40 + b"2")
    assert two.read(one.make(SAMPLES[0], CALL_ID, TAG), CALL_ID, TAG) is None


def test_a_leg_beyond_64_bits_is_cut() -> None:
    token = sample()
    token.leg = 2**64 + 5
    found = SIGNER.read(SIGNER.make(token, CALL_ID, TAG), CALL_ID, TAG)
    assert found is not None
    assert found.leg == 5


def test_addresses_made_up_by_strangers_do_not_fill_the_memory() -> None:
    signer = Signer(SECRET)
    for n in range(10_000):
        signer.make(sample(str(IPv4Address(n))), CALL_ID, TAG)
    assert len(signer._packed) <= 4097
    assert signer.read(signer.make(sample("198.51.100.7"), CALL_ID, TAG), CALL_ID, TAG) is not None


def test_a_to_tag_is_the_same_for_the_same_request() -> None:
    """RFC 3261 §8.2.7, and RFC 3261 §19.3: a token, 32 random bits at least."""
    tag = SIGNER.tag(b"call-id", b"from", b"via")
    assert tag == SIGNER.tag(b"call-id", b"from", b"via") == Signer(SECRET).tag(b"call-id", b"from", b"via")
    others = [
        (b"call-idf", b"rom", b"via"),
        (b"call-id", b"from"),
        (b"Call-id", b"from", b"via"),
        (b"from", b"call-id", b"via"),
    ]
    assert tag not in [SIGNER.tag(*parts) for parts in others]
    assert tag != Signer(b"another secret, also long").tag(b"call-id", b"from", b"via")
    assert tag.isalnum()
    assert len(tag) >= 2 + 16


def test_a_key_is_four_octets_on_the_wire() -> None:
    """Its id is nobody else's business."""
    assert len(key_tag("acme")) == 4
    assert key_tag("acme") == key_tag("acme") != key_tag("acme2")
    assert b"acme" not in urlsafe_b64decode(SIGNER.make(sample(), CALL_ID, TAG))
