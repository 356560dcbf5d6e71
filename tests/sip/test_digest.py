"""Digest (RFC 3261 §22, RFC 7616, RFC 8760): what others wrote, what we write, and the arithmetic of both."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sip.support import HEAD, message

from callgate.sip.digest import (
    ALGORITHMS,
    MD5,
    SHA_256,
    SHA_512_256,
    Algorithm,
    Challenge,
    authorization,
    challenge_value,
    challenges_of,
    choose,
    ha1,
    parse_challenges,
    parse_credentials,
    quoted,
    realms_of,
    response_of,
    verify,
)
from callgate.sip.errors import Malformed
from callgate.sip.message import header_value, parse

# -- arithmetic ----------------------------------------------------------------------------------------

_MUFASA = b"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v"
_CNONCE = b"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"


@pytest.mark.parametrize(
    ("algorithm", "user", "realm", "password", "uri", "nonce", "cnonce", "response"),
    [
        pytest.param(
            MD5,
            b"Mufasa",
            b"http-auth@example.org",
            b"Circle of Life",
            b"/dir/index.html",
            _MUFASA,
            _CNONCE,
            b"8ca523f5e9506fed4657c9700eebdbec",
            id="RFC 7616 3.9.1 MD5",
        ),
        pytest.param(
            SHA_256,
            b"Mufasa",
            b"http-auth@example.org",
            b"Circle of Life",
            b"/dir/index.html",
            _MUFASA,
            _CNONCE,
            b"753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
            id="RFC 7616 3.9.1 SHA-256",
        ),
        pytest.param(
            SHA_512_256,
            "Jäsøn Doe".encode(),
            b"api@example.org",
            b"Secret, or not?",
            b"/doe.json",
            b"5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK",
            b"NTg6RKcb9boFIAS3KrFK9BGeh+iDa/sm6jUMp2wds69v",
            b"3798d4131c277846293534c3edc11bd8a5e4cdcbff78b05db9d95eeb1cec68a5",
            id="RFC 7616 3.9.2 SHA-512-256 (erratum 4897)",
        ),
        pytest.param(
            MD5,
            b"Mufasa",
            b"testrealm@host.com",
            b"Circle Of Life",
            b"/dir/index.html",
            b"dcd98b7102dd2f0e8b11d0f600bfb0c093",
            b"0a4f113b",
            b"6629fae49393a05397450978507c4ef1",
            id="RFC 2617 3.5",
        ),
    ],
)
def test_the_response_of_the_rfcs(
    algorithm: Algorithm,
    user: bytes,
    realm: bytes,
    password: bytes,
    uri: bytes,
    nonce: bytes,
    cnonce: bytes,
    response: bytes,
) -> None:
    key = ha1(algorithm, user, realm, password)
    made = response_of(algorithm, key, b"GET", uri, nonce, qop=b"auth", nc=b"00000001", cnonce=cnonce)
    assert made == response
    assert len(key) == len(made) == algorithm.digits


def test_the_userhash_of_rfc_7616() -> None:
    """§3.4.4 with erratum 4897: H(username:realm)."""
    name = SHA_512_256.hex("Jäsøn Doe:api@example.org".encode())
    assert name == b"793263caabb707a56211940d90411ea4a575adeccb7e360aeb624ed06ece9b0b"


def test_without_qop_the_response_is_that_of_rfc_2069() -> None:
    """§2.4, with erratum 749."""
    key = ha1(MD5, b"Mufasa", b"testrealm@host.com", b"CircleOfLife")
    made = response_of(MD5, key, b"GET", b"/dir/index.html", b"dcd98b7102dd2f0e8b11d0f600bfb0c093")
    assert made == b"1949323746fe6a43ef61f9606e7febea"


def test_a_session_key_is_the_hash_of_the_key_with_nonce_and_cnonce() -> None:
    """RFC 7616 §3.4.2."""
    key = ha1(SHA_256, b"bob", b"example.jp", b"zanzibar")
    session = SHA_256.hex(key + b":n1:c1")
    ha2 = SHA_256.hex(b"INVITE:sip:1@example.jp")
    expected = SHA_256.hex(session + b":n1:00000001:c1:auth:" + ha2)
    made = response_of(
        SHA_256,
        key,
        b"INVITE",
        b"sip:1@example.jp",
        b"n1",
        qop=b"auth",
        nc=b"00000001",
        cnonce=b"c1",
        sess=True,
    )
    assert made == expected


def test_algorithms_stand_from_the_strongest_to_the_weakest() -> None:
    assert list(ALGORITHMS) == [b"SHA-512-256", b"SHA-256", b"MD5"]
    strengths = [a.strength for a in ALGORITHMS.values()]
    assert strengths == sorted(strengths, reverse=True)


# -- challenges ----------------------------------------------------------------------------------------


def _challenges(*values: bytes) -> list[Challenge]:
    return parse_challenges(values, proxy=True)


def test_a_challenge_is_read() -> None:
    (c,) = _challenges(
        b'Digest realm="atlanta.example.com", domain="sip:ss1.carrier.example.com", qop="auth",'
        b' nonce="f84f1cec41e6cbe5aea9c8e88d359", opaque="", stale=FALSE, algorithm=MD5'
    )
    assert (c.realm, c.nonce, c.opaque) == (b"atlanta.example.com", b"f84f1cec41e6cbe5aea9c8e88d359", b"")
    assert (c.algorithm, c.hash, c.sess, c.qop, c.stale) == (b"MD5", MD5, False, (b"auth",), False)
    assert c.answerable


@pytest.mark.parametrize(
    "value",
    [
        b'Digest realm="r",nonce="n",stale="true",qop="auth,auth-int",algorithm="sha-256"',
        b'digest  REALM = "r" , Nonce= "n" ,, stale=TRUE, qop="auth-int , AUTH" , algorithm = SHA-256 ,',
        b"Digest\trealm=r, nonce=n, stale=true, qop=auth, algorithm=Sha-256",
        b', Digest realm="\\r", nonce="n", stale=true, qop="auth", algorithm=SHA-256',
    ],
)
def test_a_challenge_is_read_however_it_is_written(value: bytes) -> None:
    (c,) = _challenges(value)
    assert (c.realm, c.nonce, c.hash, c.stale, c.answerable) == (b"r", b"n", SHA_256, True, True)


@pytest.mark.parametrize(
    ("algorithm", "hashed", "sess"),
    [
        (b"", MD5, False),
        (b"MD5", MD5, False),
        (b"md5-sess", MD5, True),
        (b"SHA-256-sess", SHA_256, True),
        (b"SHA-512-256", SHA_512_256, False),
        (b"SHA-512-256-sess", SHA_512_256, True),
        (b"SHA-512", None, False),
        (b"AKAv1-MD5", None, False),
        (b"-sess", None, True),
    ],
)
def test_the_algorithm_of_a_challenge(algorithm: bytes, hashed: Algorithm | None, sess: bool) -> None:
    given = b", algorithm=" + algorithm if algorithm else b""
    (c,) = _challenges(b'Digest realm="r", nonce="n", qop="auth"' + given)
    assert (c.hash, c.sess, c.answerable) == (hashed, sess, hashed is not None)


def test_several_challenges_are_read_from_one_line_and_from_several() -> None:
    """SIP wants a line for each (RFC 3261 §7.3.1), HTTP libraries join them."""
    one = b'Digest realm="a, Digest b", nonce="1", algorithm=SHA-256'
    two = b'Digest realm="b", nonce="2"'
    for values in ([one, two], [one + b", " + two], [b'Basic realm="c", ' + one, two + b', Basic realm="d"']):
        assert [(c.realm, c.nonce) for c in _challenges(*values)] == [(b"a, Digest b", b"1"), (b"b", b"2")]


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"Digest",
        b"Digest ",
        b'Basic realm="r", nonce="n"',
        b'Digest realm="r"',
        b'Digest nonce="n"',
        b'Digest realm="r", realm="s", nonce="n"',
        b'realm="r", nonce="n"',
        b'Digest realm="r, nonce="n"',
        b'Digest realm="r", rubbish, nonce="n"',
        b"Negotiate abc==",
        b'"Digest" realm="r", nonce="n"',
        b'Digest realm="r", nonce="n',
    ],
)
def test_what_is_no_whole_digest_challenge_is_left_out(value: bytes) -> None:
    good = b'Digest realm="good", nonce="1"'
    assert _challenges(value) == []
    assert [c.realm for c in _challenges(value, good)] == [b"good"]


def test_rubbish_on_a_line_takes_only_its_own_challenge_along() -> None:
    value = b'Negotiate abc==, Digest realm="a", nonce="1", ???, nonce="2", Digest realm="b", nonce="3"'
    assert [(c.realm, c.nonce) for c in _challenges(value)] == [(b"a", b"1"), (b"b", b"3")]


def test_the_challenges_of_a_response_know_which_header_they_came_in() -> None:
    response = parse(
        message(
            b"SIP/2.0 407 Proxy Authentication Required",
            b'proxy-authenticate : Digest realm="a",\r\n nonce="1"',
            b'WWW-Authenticate: Digest realm="b", nonce="2"',
            b'Proxy-Authenticate: Digest realm="c", nonce="3"',
            head=HEAD,
        )
    )
    found = {c.realm: c.proxy for c in challenges_of(response)}
    assert found == {b"a": True, b"b": False, b"c": True}


def test_the_strongest_challenge_that_we_can_answer_is_chosen() -> None:
    challenges = _challenges(
        b'Digest realm="r", nonce="1", qop="auth"',
        b'Digest realm="r", nonce="2", qop="auth", algorithm=SHA-256',
        b'Digest realm="r", nonce="3", qop="auth-int", algorithm=SHA-512-256',
        b'Digest realm="r", nonce="4", qop="auth", algorithm=SHA-512',
        b'Digest realm="r", nonce="5", qop="auth", algorithm=SHA-256',
        b'Digest realm="R", nonce="6", qop="auth", algorithm=SHA-512-256',
    )
    chosen = choose(challenges, b"r")
    assert chosen is not None
    assert chosen.nonce == b"2"
    chosen = choose(challenges)
    assert chosen is not None
    assert chosen.nonce == b"6"
    assert choose(challenges, b"other") is None
    assert choose(challenges[3:4]) is None


# -- credentials ---------------------------------------------------------------------------------------

_WHOLE = b'Digest username="bob", realm="r", nonce="n", uri="sip:1@h", response="00ff"'


@pytest.mark.parametrize(
    "value",
    [
        _WHOLE + b', algorithm=SHA-256, cnonce="c", qop=auth, nc=0000000a, opaque="o"',
        b'DIGEST username = bob,realm=r,,nonce="\\n",uri=sip:1@h,response=00FF,algorithm="sha-256",'
        b'CNONCE=c,qop="AUTH",nc="0000000a",opaque=o,',
    ],
)
def test_credentials_are_read_however_they_are_written(value: bytes) -> None:
    c = parse_credentials(value)
    assert c is not None
    assert (c.username, c.realm, c.nonce, c.uri, c.response) == (b"bob", b"r", b"n", b"sip:1@h", b"00ff")
    assert (c.hash, c.sess, c.cnonce, c.qop, c.nc, c.opaque) == (
        SHA_256,
        False,
        b"c",
        b"auth",
        b"0000000a",
        b"o",
    )
    assert not c.userhash


@pytest.mark.parametrize(
    "value",
    [
        b"Digest",
        b"Digest ",
        b"Digest x",
        b'Digest realm="r", nonce="n", uri="sip:1@h", response="00"',
        _WHOLE.replace(b'realm="r", ', b""),
        _WHOLE.replace(b'nonce="n", ', b""),
        _WHOLE.replace(b'uri="sip:1@h", ', b""),
        _WHOLE.replace(b', response="00ff"', b""),
        _WHOLE + b', username="eve"',
        _WHOLE + b', USERNAME="eve"',
        _WHOLE + b", username*=UTF-8''eve",
        _WHOLE + b', realm="s"',
        _WHOLE + b", x=1, x=1",
        _WHOLE + b", rubbish",
        _WHOLE + b'"',
        _WHOLE + b', a="',
        _WHOLE + b', Digest username="eve"',
        _WHOLE.replace(b", ", b" "),
        _WHOLE + b", qop=auth",
        _WHOLE + b', qop=auth, cnonce="c"',
        _WHOLE + b", qop=auth, nc=00000001",
        _WHOLE + b', qop=auth, nc=1, cnonce="c"',
        _WHOLE + b', qop=auth, nc=0000000g, cnonce="c"',
        _WHOLE.replace(b'username="bob"', b"username*=latin-1''bob"),
        _WHOLE.replace(b'username="bob"', b"username*=UTF-8''%zz"),
        _WHOLE.replace(b'username="bob"', b"username*=bob"),
    ],
)
def test_credentials_that_could_be_read_two_ways_are_malformed(value: bytes) -> None:
    with pytest.raises(Malformed):
        parse_credentials(value)


@pytest.mark.parametrize("value", [b"", b"Basic Ym9iOnB3", b"Bearer x", b"Digestusername=bob", b"Negotiate"])
def test_other_schemes_are_nothing(value: bytes) -> None:
    assert parse_credentials(value) is None


def test_a_username_may_be_written_with_percents() -> None:
    """RFC 7616 §3.4, RFC 8187."""
    c = parse_credentials(_WHOLE.replace(b'username="bob"', b"username*=utf-8'de'J%C3%A4s%C3%B8n%20Doe"))
    assert c is not None
    assert c.username == "Jäsøn Doe".encode()


def test_a_hashed_username_says_so() -> None:
    c = parse_credentials(_WHOLE + b", userhash=true")
    assert c is not None
    assert c.userhash


def test_every_realm_that_credentials_name_is_found() -> None:
    assert realms_of(_WHOLE) == [b"r"]
    assert realms_of(b'Digest realm="a", rubbish "x", Digest username="b", realm=c, realm="d"') == [
        b"a",
        b"c",
        b"d",
    ]
    assert realms_of(b"Bearer x") == []


# -- both sides ----------------------------------------------------------------------------------------

_value = st.binary(max_size=12).map(lambda b: bytes(x for x in b if x not in b"\r\n"))
_some = _value.filter(bool)


@given(
    st.sampled_from([b"", *ALGORITHMS, b"md5-sess", b"SHA-256-sess"]),
    st.sampled_from([b"", b', qop="auth"', b', qop="auth-int,auth"', b", qop=auth"]),
    st.sampled_from([b"INVITE", b"REGISTER", b"MESSAGE"]),
    _value,
    _value,
    _some,
    _value,
    _value,
    st.one_of(st.none(), _value),
    st.integers(1, 0xFFFFFFFF),
    st.booleans(),
)
def test_what_a_client_answers_a_server_verifies(
    algorithm: bytes,
    qop: bytes,
    method: bytes,
    user: bytes,
    realm: bytes,
    nonce: bytes,
    password: bytes,
    cnonce: bytes,
    opaque: bytes | None,
    nc: int,
    proxy: bool,
) -> None:
    """Whatever quotes, backslashes, commas and octets stand in the values; and nothing else is right."""
    value = b"Digest realm=%b, nonce=%b%b" % (quoted(realm), quoted(nonce), qop)
    if algorithm:
        value += b", algorithm=" + algorithm
    if opaque is not None:
        value += b", opaque=" + quoted(opaque)
    (challenge,) = parse_challenges([value], proxy=proxy)
    uri = b"sip:09012345678@192.0.2.1;user=phone"
    line = authorization(challenge, user, password, method, uri, cnonce=cnonce, nc=nc)
    assert line.partition(b": ")[0] == (b"Proxy-Authorization" if proxy else b"Authorization")
    c = parse_credentials(header_value(line))
    assert c is not None
    assert (c.username, c.realm, c.nonce, c.uri) == (user, realm, nonce, uri)
    assert c.opaque == (opaque or b"")
    assert c.algorithm == challenge.algorithm
    assert c.nc == (b"%08x" % nc if qop else b"")
    assert challenge.hash is not None
    key = ha1(challenge.hash, user, realm, password)
    assert verify(c, key, method)
    assert not verify(c, key, b"OPTIONS")
    assert not verify(c, ha1(challenge.hash, user, realm, password + b"x"), method)
    c.response = b""
    assert not verify(c, key, method)


@given(_value, _value.filter(bool), st.sampled_from(list(ALGORITHMS.values())), st.booleans())
def test_our_challenge_is_read_as_it_was_meant(
    realm: bytes, nonce: bytes, algorithm: Algorithm, stale: bool
) -> None:
    (c,) = parse_challenges([challenge_value(realm, nonce, algorithm, stale=stale)], proxy=True)
    assert (c.realm, c.nonce, c.hash, c.stale, c.qop) == (realm, nonce, algorithm, stale, (b"auth",))
    assert c.opaque is None
    assert c.answerable


def test_auth_int_and_unknown_algorithms_verify_nothing() -> None:
    for extra in (b", algorithm=SHA-512", b', qop=auth-int, nc=00000001, cnonce="c"'):
        c = parse_credentials(_WHOLE + extra)
        assert c is not None
        key = ha1(MD5, b"bob", b"r", b"pw")
        c.response = response_of(MD5, key, b"INVITE", b"sip:1@h", b"n", qop=c.qop, nc=c.nc, cnonce=c.cnonce)
        assert not verify(c, key, b"INVITE")


def test_a_challenge_that_cant_be_answered_is_not() -> None:
    (c,) = _challenges(b'Digest realm="r", nonce="n", algorithm=SHA-512')
    with pytest.raises(ValueError, match="can't be answered"):
        authorization(c, b"u", b"p", b"INVITE", b"sip:1@h", cnonce=b"c")


# -- rubbish -------------------------------------------------------------------------------------------

_rubbish = st.text('Digest realm="\\r", nonce=,\t;<>@:x', max_size=60).map(str.encode) | st.binary(
    max_size=40
)


@given(_rubbish)
def test_rubbish_is_read_or_malformed(value: bytes) -> None:
    for c in _challenges(value):
        assert isinstance(c.realm, bytes)
    realms_of(value)
    try:
        found = parse_credentials(b"Digest " + value)
    except Malformed:
        return
    assert found is not None
    assert verify(found, b"0" * 32, b"INVITE") in (True, False)


@pytest.mark.parametrize(
    "unit",
    [b",", b" ", b'"', b"\\", b'a="', b"a=,", b"a ", b'"a" ', b"a=b ", b"Digest a=1, ", b'x="\\', b"=="],
)
def test_no_input_makes_reading_slow(unit: bytes) -> None:
    """As many steps for each octet, however long the line is: a megabyte in this test's time or never."""
    value = b'Digest realm="r", ' + unit * (1_000_000 // len(unit))
    _challenges(value)
    assert b"r" in realms_of(value)
    with suppress(Malformed):
        parse_credentials(value)
