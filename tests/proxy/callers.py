"""Callers who show who they are: digest users, secret headers, certificates; and the gate that knows them.

The digest here is written anew from RFC 7616, so that the program's is not its own witness.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from ipaddress import ip_network

from tests.proxy.agent import Agent
from tests.proxy.ladder import DID, World
from tests.proxy.text import Text

from callgate.proxy.directory import Directory
from callgate.proxy.identity.access import Access, User
from callgate.proxy.peers import Key, Numbers
from callgate.sip.digest import ALGORITHMS, SHA_256, Algorithm, ha1

REALM = "callgate"
PASSWORD = "zanzibar"
HEADER = "X-Api-Key"
SECRET = "a-secret-of-acme's"
HASHES = {"MD5": "md5", "SHA-256": "sha256", "SHA-512-256": "sha512_256"}
_PARAM = re.compile(r'([a-z]+)=(?:"([^"]*)"|([^",\s]+))')


def access_of(
    users: Mapping[str, Key],
    headers: Iterable[tuple[str, str, Key]] = (),
    algorithms: Iterable[Algorithm] = (SHA_256,),
    **numbers: float,
) -> Access:
    """Every user has the same password."""
    algorithms = list(algorithms)
    made = []
    for name, key in users.items():
        hashes = {a.name: ha1(a, name.encode(), REALM.encode(), PASSWORD.encode()) for a in algorithms}
        made.append(User(name, key, hashes))
    coded = [(name.encode(), value.encode(), key) for name, value, key in headers]
    return Access(REALM.encode(), algorithms, made, coded, **numbers)  # type: ignore[arg-type]


def knows(
    world: World,
    *,
    users: Iterable[str] = ("bob",),
    header: bool = False,
    require: Iterable[str] = (),
    tls_names: Iterable[str] = (),
    sources: Iterable[str] = (),
    others: Mapping[str, Key] | None = None,
    algorithms: Iterable[str] = ("SHA-256",),
    **numbers: float,
) -> World:
    """From here on the key `acme` has these users, this header, …; `sources` are all its addresses. `others` are
    further users, of other keys. `numbers`: nonce_seconds, failures, per_seconds, block_seconds."""
    key = world.key
    key.networks = [ip_network(source) for source in sources]
    key.require = frozenset(require)
    key.tls_names = tuple(name.lower() for name in tls_names)
    others = others or {}
    users = {**dict.fromkeys(users, key), **others}
    headers = [(HEADER, SECRET, key)] if header else []
    offered = [ALGORITHMS[name.encode()] for name in algorithms]
    access = access_of(users, headers, offered, **numbers) if users or headers else None
    names = Numbers()
    names.add(DID, DID, key)
    keys = dict.fromkeys([key, *others.values()])
    world.secret_headers = (HEADER,) if header else ()
    world.realm = REALM
    world.directory = Directory(
        world.listeners, [world.trunk], keys, names, access=access, secret_headers=world.secret_headers
    )
    world.core.directory = world.directory
    world.core.counts.prepare(world.directory)
    return world


def other_key(world: World, name: str = "beta", *sources: str) -> Key:
    """A second customer on the same trunk, without limits."""
    return Key(name, world.trunk, world.key.dial, networks=[ip_network(source) for source in sources])


def params(value: str) -> dict[str, str]:
    return {found[1]: found[2] if found[2] is not None else found[3] for found in _PARAM.finditer(value)}


def challenges(text: Text) -> list[dict[str, str]]:
    """What a 401 or 407 asks for, in its order."""
    name = "www-authenticate" if text.code == 401 else "proxy-authenticate"
    assert all(value.startswith("Digest ") for value in text.all(name)), "never Basic (RFC 8760 §2.3)"
    return [params(value) for value in text.all(name)]


def credentials(
    asked: Text | Mapping[str, str],
    method: str,
    uri: str,
    *,
    user: str = "bob",
    password: str = PASSWORD,
    name: str = "",
    **change: str,
) -> str:
    """The header line that answers a challenge (the first one of a response). `change` replaces parameters after
    all is computed; an empty one goes."""
    if isinstance(asked, Text):
        name = name or ("Authorization" if asked.code == 401 else "Proxy-Authorization")
        asked = challenges(asked)[0]
    algorithm = asked.get("algorithm", "MD5")

    def h(text: str) -> str:
        return hashlib.new(HASHES[algorithm.removesuffix("-sess")], text.encode()).hexdigest()

    nonce, nc, cnonce = asked["nonce"], "00000001", "0a4f113b"
    first, second = h(f"{user}:{asked['realm']}:{password}"), h(f"{method}:{uri}")
    if algorithm.endswith("-sess"):
        first = h(f"{first}:{nonce}:{cnonce}")
    middle = f"{nonce}:{nc}:{cnonce}:auth" if "qop" in asked else nonce
    shown = {
        "username": user,
        "realm": asked["realm"],
        "nonce": nonce,
        "uri": uri,
        "response": h(f"{first}:{middle}:{second}"),
        "algorithm": algorithm,
    }
    if "qop" in asked:
        shown |= {"qop": "auth", "nc": nc, "cnonce": cnonce}
    shown |= change
    bare = ("algorithm", "qop", "nc")
    written = [f"{n}={v}" if n in bare else f'{n}="{v}"' for n, v in shown.items() if v or n not in change]
    return f"{name or 'Proxy-Authorization'}: Digest {', '.join(written)}"


def again(agent: Agent, first: Text, *headers: str, number: int = 2, uri: str = "", call: str = "") -> Text:
    """The same request once more, as after a challenge (RFC 3261 §22.2): Call-ID, From and To stay, CSeq goes up."""
    change = {
        "call-id": first.call_id,
        "from": first.get("from"),
        "to": first.get("to"),
        "cseq": f"{number} {first.method}",
    }
    return agent.sends(
        first.method, call=call, uri=uri or first.uri, headers=headers, change=change, inside=False
    )


def answers(agent: Agent, first: Text, challenge: str = "407", *headers: str, **how: str) -> Text:
    """Take the challenge, acknowledge it, and send the request once more with credentials."""
    asked = agent.gets(challenge)
    if first.method == "INVITE":
        agent.sends("ACK")
    line = credentials(asked, first.method, first.uri, **how)
    return again(agent, first, line, *headers, number=first.cseq + 1)


def calls(world: World, agent: Agent, **how: str) -> Text:
    """A call from INVITE to ACK by whoever has to show a password first; the INVITE that the carrier got."""
    agent_invite = agent.sends("INVITE")
    answers(agent, agent_invite, **how)
    agent.gets("100")
    got = world.carrier.gets("INVITE")
    world.carrier.sends("200")
    agent.gets("200")
    agent.sends("ACK")
    world.carrier.gets("ACK")
    return got
