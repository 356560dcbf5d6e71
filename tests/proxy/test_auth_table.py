"""Who is let in as what: every combination of what a request shows and what a key requires, against the words of
interface.md ("How a call gets its key")."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.proxy.callers import HEADER, PASSWORD, REALM, SECRET, access_of, challenges, credentials
from tests.proxy.ladder import DIALLED, NUMBERS
from tests.proxy.text import Text

from callgate.policy.dial import DialRules
from callgate.proxy.commands import Send
from callgate.proxy.core import Core
from callgate.proxy.directory import Directory
from callgate.proxy.flow import Flow, Listener
from callgate.proxy.peers import Gateway, Key, Numbers, Trunk
from callgate.proxy.telemetry.meters import Meters
from callgate.proxy.token import Signer
from callgate.sip.message import parse
from callgate.sip.uri import parse_uri

UDP, TLS = Listener(0, b"UDP", "127.0.0.1", 5060), Listener(1, b"TLS", "127.0.0.1", 5061)
ACME, BETA, NOBODY, CARRIER = "192.0.2.1", "192.0.2.2", "203.0.113.66", "198.51.100.1"
URI = f"sip:{DIALLED}@127.0.0.1"
KINDS = ("source", "digest", "tls", "header")
SOURCES = {"acme": ACME, "beta": BETA, "nobody": NOBODY}
NAMES = {"none": (), "acme": ("acme.example",), "beta": ("beta.example",), "other": ("x.example",)}
HEADERS = {"none": "", "acme": SECRET, "beta": "the-secret-of-beta", "wrong": SECRET[:-1]}
DIGESTS = ("none", "acme", "beta", "wrong", "unknown", "stale")
SUBSETS = [frozenset(c) for n in range(len(KINDS) + 1) for c in itertools.combinations(KINDS, n)]


class Place:
    """A gate with two keys, `acme` with these requirements and `beta` without any, and the trunk."""

    def __init__(self, require: frozenset[str], *, users: bool = True) -> None:
        trunk = Trunk("carrier", networks=[ip_network("198.51.100.0/24")])
        trunk.gateways.append(
            Gateway(0, parse_uri(b"sip:198.51.100.1:5080"), Flow(UDP, CARRIER, 5080), trunk)
        )
        rules = DialRules(NUMBERS)
        acme = Key(
            "acme", trunk, rules, networks=[ip_network(ACME)], require=require, tls_names=["acme.example"]
        )
        beta = Key("beta", trunk, rules, networks=[ip_network(BETA)], tls_names=["beta.example"])
        access = access_of(
            {"bob": acme, "eve": beta} if users else {},
            [(HEADER, SECRET, acme), (HEADER, HEADERS["beta"], beta)],
            failures=100,
            block_seconds=0.0,
        )
        directory = Directory([UDP, TLS], [trunk], [acme, beta], Numbers(), access=access)
        self.core = Core(
            directory, Signer(b"the secret of the table, 32 octs"), Meters([0.0] * 4000), 1 << 40, 0.0
        )
        self.now = 1000.0
        self.nonces: dict[str, dict[str, str]] = {}

    def answer(self, source: str, names: tuple[str, ...] = (), *headers: str, port: int = 5070) -> str | Text:
        """The key (or `trunk`) that a MESSAGE is let in as, else what it was told."""
        flow = Flow(TLS if names else UDP, source, port, connection=7 if names else 0)
        flow.names = names
        lines = [
            f"MESSAGE {URI} SIP/2.0",
            f"Via: SIP/2.0/UDP {source}:{port};branch=z9hG4bK1",
            f"From: <sip:1@{source}>;tag=1",
            f"To: <{URI}>",
            "Call-ID: 1",
            "CSeq: 1 MESSAGE",
            *headers,
        ]
        request = parse("\r\n".join([*lines, "", ""]).encode())
        peer = self.core.auth.admit(request, flow, self.core.directory.identify(flow), self.now)
        sent = [Text(command.data) for command in self.core.out if isinstance(command, Send)]
        self.core.out.clear()
        self.now += 1.1  # each may be answered
        if peer is None:
            (text,) = sent
            return text
        assert not sent
        return peer.key.id if peer.key is not None else "trunk" if peer.trunk is not None else "?"

    def code(self, *what: str, port: int = 5070) -> str:
        """As `answer`, of what a request shows: source, certificate, header, digest."""
        source, name, header, digest = what
        address = SOURCES.get(source, source)
        lines = [f"{HEADER}: {HEADERS[header]}"] if header != "none" else []
        if digest != "none":
            lines.append(self._credentials(address, digest))
        told = self.answer(address, NAMES[name], *lines, port=port)
        return told if isinstance(told, str) else str(told.code)

    def _credentials(self, address: str, digest: str) -> str:
        if address not in self.nonces:
            told = self.answer(address, (), 'Proxy-Authorization: Digest realm="callgate"')
            self.nonces[address] = (
                challenges(told)[0]
                if isinstance(told, Text) and told.code == 407
                else {"realm": REALM, "nonce": "x"}
            )
        asked = dict(self.nonces[address])
        if digest == "stale":
            asked["nonce"] = "A" * 24
        user = {"beta": "eve", "unknown": "mallory"}.get(digest, "bob")
        return credentials(asked, "MESSAGE", URI, user=user, password="x" if digest == "wrong" else PASSWORD)


def expected(require: frozenset[str], source: str, name: str, header: str, digest: str) -> str:
    """interface.md in code: the strongest identity that is there decides, and `require` asks for all it names."""
    if digest in ("wrong", "unknown", "stale"):
        return "407"
    if digest != "none":
        key = digest
    elif name in ("acme", "beta"):
        key = name
    elif header != "none":
        key = header
    else:
        key = source
    shown = {"source": source, "digest": digest, "tls": name, "header": header}
    if key == "beta" or (key == "acme" and all(shown[what] == "acme" for what in require)):
        return key
    return "407"


def everything() -> Iterator[tuple[str, str, str, str]]:
    return itertools.product(SOURCES, NAMES, HEADERS, DIGESTS)


@pytest.mark.parametrize("require", SUBSETS, ids=lambda kinds: "+".join(sorted(kinds)) or "nothing")
def test_every_combination(require: frozenset[str]) -> None:
    place = Place(require)
    for shown in everything():
        assert place.code(*shown) == expected(require, *shown), (set(require), shown)


@pytest.mark.parametrize(
    "require", [r for r in SUBSETS if "digest" not in r], ids=lambda r: "+".join(sorted(r)) or "-"
)
def test_every_combination_without_digest_users(require: frozenset[str]) -> None:
    """403 then; and credentials for what would be our realm are nobody's."""
    place = Place(require, users=False)
    for source, name, header, digest in everything():
        wanted = expected(require, source, name, header, "none").replace("407", "403")
        assert place.code(source, name, header, digest) == wanted, (
            set(require),
            source,
            name,
            header,
            digest,
        )


# The same by name, for whoever wants to read it: what acme requires, what is shown (source, certificate, header,
# digest), who it is.
TABLE = [
    ("the source is enough where nothing else is shown", "", "acme none none none", "acme"),
    ("a right password from anywhere", "", "nobody none none acme", "acme"),
    ("a password is stronger than an address", "", "beta none none acme", "acme"),
    ("a password is stronger than a certificate", "", "beta beta none acme", "acme"),
    ("a certificate is stronger than a header", "", "nobody acme beta none", "acme"),
    ("a certificate is stronger than an address", "", "beta acme none none", "acme"),
    ("a header is stronger than an address", "", "beta none acme none", "acme"),
    ("a wrong password never falls through", "", "acme acme acme wrong", "407"),
    ("an unknown user never falls through", "", "acme none none unknown", "407"),
    ("an old nonce is asked again", "", "acme none none stale", "407"),
    ("a wrong header never falls through", "", "acme none wrong none", "407"),
    ("beside a stronger identity a header is not looked at", "", "nobody acme wrong none", "acme"),
    ("a certificate of nobody's is as if there were none", "", "acme other none none", "acme"),
    ("nothing at all", "", "nobody none none none", "407"),
    ("source and password agree", "source digest", "acme none none acme", "acme"),
    ("no password yet", "source digest", "acme none none none", "407"),
    ("a right password from elsewhere", "source digest", "nobody none none acme", "407"),
    ("a right password from another key's address", "source digest", "beta none none acme", "407"),
    ("another key's password", "source digest", "acme none none beta", "beta"),
    ("a certificate alone", "tls digest", "nobody acme none none", "407"),
    ("certificate and password", "tls digest", "nobody acme none acme", "acme"),
    ("a password over another's certificate", "tls digest", "nobody beta none acme", "407"),
    ("all of them", "source digest tls header", "acme acme acme acme", "acme"),
    ("all but the header", "source digest tls header", "acme acme none acme", "407"),
    ("all, the header wrong", "source digest tls header", "acme acme wrong acme", "407"),
]


@pytest.mark.parametrize(
    ("require", "shown", "who"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_by_name(require: str, shown: str, who: str) -> None:
    assert Place(frozenset(require.split())).code(*shown.split()) == who


# -- the trunk -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("digest", DIGESTS)
def test_a_gateway_s_own_address_is_the_trunk_whatever_it_shows(digest: str) -> None:
    place = Place(frozenset())
    for name, header in itertools.product(NAMES, HEADERS):
        assert place.code(CARRIER, name, header, digest, port=5080) == "trunk"


@pytest.mark.parametrize("source", [CARRIER, "198.51.100.77"])
def test_another_address_of_the_trunk_is_the_trunk_unless_it_shows_more(source: str) -> None:
    """A gateway's host at another port, and the trunk's `sources`; a header of that name there is the carrier's."""
    place = Place(frozenset())
    assert place.code(source, "none", "none", "none") == "trunk"
    assert place.code(source, "none", "wrong", "none") == "trunk"
    assert place.code(source, "none", "acme", "none") == "acme"
    assert place.code(source, "acme", "none", "none") == "acme"


def test_a_right_password_tells_nobody_more_than_a_wrong_one() -> None:
    """Where more is required, it looks the same: guessing in vain must not show that a guess was right."""
    place = Place(frozenset(("digest", "source")))
    lines = []
    for digest in ("acme", "wrong"):
        line = place._credentials(NOBODY, digest)
        told = place.answer(NOBODY, (), line)
        assert isinstance(told, Text)
        lines.append((told.start, [n for n, _ in told.headers], sorted(challenges(told)[0])))
    assert lines[0] == lines[1]


# -- two keys at one address ---------------------------------------------------------------------------


def test_a_stronger_identity_tells_two_keys_apart() -> None:
    """The same source at both: who requires a user is told by it, the other one by showing nothing."""
    trunk = Trunk("carrier")
    rules = DialRules(NUMBERS)
    acme = Key("acme", trunk, rules, networks=[ip_network(ACME)], require=["source", "digest"])
    beta = Key("beta", trunk, rules, networks=[ip_network(ACME)])
    place = Place(frozenset())
    place.core.directory = Directory(
        [UDP, TLS], [trunk], [acme, beta], Numbers(), access=access_of({"bob": acme, "eve": beta})
    )
    assert place.code("acme", "none", "none", "none") == "beta"
    assert place.code("acme", "none", "none", "acme") == "acme"
    assert place.code("acme", "none", "none", "beta") == "beta"
    assert place.code("nobody", "none", "none", "acme") == "407"


def test_of_two_keys_the_one_that_requires_more_and_gets_it() -> None:
    """One certificate for both; a header makes it the other one's."""
    trunk = Trunk("carrier")
    rules = DialRules(NUMBERS)
    acme = Key("acme", trunk, rules, tls_names=["acme.example"], require=["tls", "header"])
    beta = Key("beta", trunk, rules, tls_names=["acme.example"])
    place = Place(frozenset())
    place.core.directory = Directory(
        [UDP, TLS], [trunk], [acme, beta], Numbers(), access=access_of({}, [(HEADER, SECRET, acme)])
    )
    assert place.code("nobody", "acme", "none", "none") == "beta"
    assert place.code("nobody", "acme", "acme", "none") == "acme"
    assert place.code("nobody", "none", "acme", "none") == "403"


def test_keys_that_nothing_tells_apart_are_nobody() -> None:
    """The config refuses this; a reload in between must not guess either."""
    trunk = Trunk("carrier")
    rules = DialRules(NUMBERS)
    keys = [Key(name, trunk, rules, networks=[ip_network(ACME)]) for name in ("acme", "beta")]
    place = Place(frozenset())
    place.core.directory = Directory([UDP, TLS], [trunk], keys, Numbers())
    assert place.code("acme", "none", "none", "none") == "403"


# -- rubbish -------------------------------------------------------------------------------------------

_CHANGES = st.lists(
    st.tuples(st.integers(0, 400), st.sampled_from(list('",=\\ \tx0%*\x80'))), min_size=1, max_size=4
)


@given(_CHANGES, st.booleans(), st.sampled_from(["Proxy-Authorization", "authorization"]))
def test_no_credentials_are_too_odd(changes: list[tuple[int, str]], put: bool, name: str) -> None:
    """Good ones with octets changed or put in between: let in, or challenged; nothing else, and no error."""
    place = Place(frozenset())
    line = place._credentials(NOBODY, "acme").partition(": ")[2]
    for at, octet in changes:
        at %= len(line)
        line = line[:at] + octet + line[at if put else at + 1 :]
    told = place.answer(NOBODY, (), f"{name}: {line}")
    assert told == "acme" or (isinstance(told, Text) and told.code == 407)
