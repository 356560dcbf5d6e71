"""What must hold of every message that leaves the gate, in every ladder: checked as it leaves.

A request carries our Via on top and none of our Routes; a response goes where its Via says, and one that the other
side wrote leaves as it came but for our Via; the trunk never learns why the gate refuses; the gate adds no
Retry-After.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import TYPE_CHECKING

from tests.proxy.text import Text, sent_by, via_param

from callgate.proxy.commands import Send

if TYPE_CHECKING:
    from tests.proxy.agent import Agent
    from tests.proxy.ladder import World

_STAMP = re.compile(r";\s*(received|rport)\s*(=[^;,]*)?(?=;|$)", re.IGNORECASE)
_OVERLOAD = re.compile(r';\s*oc(?:-[a-z]+)?\s*(?:=[^;"]*(?:"[^"]*")?)?(?=;|$)|("[^"]*")', re.IGNORECASE)
HOP_BY_HOP = frozenset(("via", "max-forwards", "route", "record-route", "max-breadth"))
TAKEN_OFF = frozenset(
    (
        *("p-preferred-identity", "remote-party-id", "x-inbound-call-id", "x-record", "x-record-of"),
        "x-callgate-verdict",
    )
)
"""What goes off at the edge, both ways, in every spelling."""
NUMBERS = frozenset(("cseq", "rack"))
OWN_TAG = "cg"
"""How the gate's own To tags begin."""
THEIRS = " Answer"
"""The phrase of every answer that a side of the ladder writes; the gate has other ones."""


def check(world: World, send: Send, text: Text, receiver: Agent) -> None:
    """Raises AssertionError with the rule that was broken."""
    assert len(text.all("content-length")) <= 1, "more than one Content-Length"
    length = text.get("content-length")
    assert not length or int(length) == len(text.body), "Content-Length is not the body's"
    if receiver in world.gateways:
        told = [v for v in text.all("warning") if "callgate" in v] or text.all("x-callgate-verdict")
        assert not told, "the trunk is told why the gate refuses"
    if text.code:
        _response(world, send, text, receiver)
    else:
        _request(world, send, text, receiver)


def _request(world: World, send: Send, text: Text, receiver: Agent) -> None:
    listener = send.flow.listener
    via = text.via
    assert via.startswith(f"SIP/2.0/{listener.transport.decode()} "), f"Via {via} on {listener.transport!r}"
    assert sent_by(via) == listener.sent_by.decode(), f"Via {via} of another listener"
    branch = text.branch
    assert branch.startswith("z9hG4bK"), "a branch without the magic cookie (§8.1.1.7)"
    assert 0 <= int(text.get("max-forwards", "-1")) <= 255, "Max-Forwards"
    first = "".join(text.all("route")[:1])
    token = branch.removeprefix("z9hG4bK").partition(".")[0]
    assert ";cg=" not in first or f";cg={token}>" not in first, "our own Route goes out (§16.4)"
    assert ";cg=" not in first or text.to_tag, "a Route of ours goes out in a new request"
    if send.flow.listener.reliable:
        assert text.has("content-length"), "no Content-Length on a stream (§16.6 step 9)"
    if text.is_copy_of_the_calls_first:
        again = any('username="gate"' in value for _, value in text.headers)  # the carrier has seen it
        wanted = receiver in world.gateways and not again
        assert bool(send.claim) == wanted, "a new call leaves without its claim"
    first = world.by_branch.setdefault((branch, text.method), text)
    world.branches.add(branch)
    assert first.data == text.data, "one branch, two requests (§8.1.1.7)"
    for method in ("INVITE", "ACK", "CANCEL"):
        twin = world.by_branch.get((branch, method))
        shared = {twin.method if twin else "", text.method}
        assert twin is None or twin is first or shared <= {"INVITE", "ACK", "CANCEL"}, "a branch used twice"
    if 'username="gate"' in text.start + str(text.headers):
        assert receiver in world.gateways, "the gate's credentials leave for somebody else"
    vias = text.all("via")
    if len(vias) == 1:
        return  # made by the gate: CANCEL, ACK of a failure, BYE at the end of the longest call
    origin = world.arrived.get((text.call_id, text.get("cseq"), *_came(vias[1])))
    if world.trunk.account is not None and receiver is not world.pbx:
        origin = _raised(world, text, vias[1])
    assert origin is not None, f"{text!r} comes from nowhere"
    _same(world, origin, text)
    hops = origin.get("max-forwards")
    assert text.get("max-forwards") == (str(int(hops) - 1) if hops else "70"), "Max-Forwards (§16.6 step 3)"
    ours = len(text.all("record-route")) - len(origin.all("record-route"))
    assert 0 <= ours <= 2, "Record-Route values were lost, or too many put on"
    assert text.all("record-route")[ours:] == origin.all("record-route"), "others' Record-Route changed"
    client, *behind = [_unstamped(v) for v in origin.all("via")]
    client = _OVERLOAD.sub(lambda found: found[1] or "", client)  # RFC 7339 §5.6
    assert [_unstamped(v) for v in vias[1:]] == [client, *behind], "others' Via changed"


def _raised(world: World, text: Text, via: str) -> Text | None:
    """What arrived, where the gate has raised its CSeq."""
    place = (text.call_id, *_came(via))
    found = [t for (call, _, *came), t in world.arrived.items() if (call, *came) == place]
    return next((t for t in found if t.method == text.method), None)


def _unstamped(via: str) -> str:
    """A Via without what the gate writes into it (RFC 3581 §4)."""
    return _STAMP.sub("", via)


def _came(via: str) -> tuple[str, str]:
    return sent_by(via), via_param(via, "branch")


def _response(world: World, send: Send, text: Text, receiver: Agent) -> None:
    via, top = text.via, text.branch
    assert (send.flow.host, send.flow.port) in receiver.addresses or send.flow.connection, "goes elsewhere"
    assert top not in world.branches, f"our own Via goes up: {via}"
    if text.code == 100:
        assert not text.to_tag or world.is_inside(text), "a 100 with a To tag (§8.2.6.2)"
        return
    assert text.to_tag or not text.has("to"), "an answer without a To tag (§8.2.6.2)"
    where = (text.call_id, text.get("cseq"))
    own = text.to_tag.startswith(OWN_TAG) or text.start.endswith(THEIRS)
    mapped = text.code == 500 and (*where, 503) in world.answers and not own
    code = 503 if mapped else text.code  # §16.7 step 6
    if not mapped and not text.start.endswith(THEIRS):
        assert text.code >= 200, "a provisional answer of the gate's own with a To tag"
        assert not text.has("to") or text.to_tag.startswith(OWN_TAG) or world.is_inside(text), "another's tag"
        assert not text.has("retry-after"), "a Retry-After of the gate's own (RFC 3261 §21.5.4)"
        return
    answers = world.answers.get((*where, code), [])
    if world.trunk.account is not None:
        answers = [
            o for (call, _, c), found in world.answers.items() for o in found if (call, c) == (where[0], code)
        ]
        answers = [o for o in answers if o.method == text.method]
    candidates = [o for o in answers if o.all("via")[1:] == text.all("via") and o.to_tag == text.to_tag]
    assert candidates, f"{text!r} comes from nowhere, or its Vias changed"
    others = set()  # challenges of other phones go up along with its own (§16.7 step 7)
    if any(name.endswith("-authenticate") for name, _ in text.headers):
        others = {
            header
            for (*place, _), answers in world.answers.items()
            for answer in answers
            for header in answer.headers
            if tuple(place) == where and answer is not candidates[-1] and header[0].endswith("-authenticate")
        }
    _same(world, candidates[-1], text, others - set(candidates[-1].headers))
    assert candidates[-1].all("record-route") == text.all("record-route"), "Record-Route of an answer changed"


def _same(world: World, came: Text, left: Text, added: Collection[tuple[str, str]] = ()) -> None:
    """What no rule names is the same, byte for byte, in its order (§16.6 step 1, §16.7). Where the gate has credentials
    of its own, CSeq, RAck and these are for the ladder to check."""
    body = came.body
    if world.key.unrecorded and left.body != body:  # I1: the wish to be recorded goes off, and nothing else
        body = re.sub(rb"a=recordpref:[ \t]*on\r\n", b"", body, flags=re.IGNORECASE)
    assert left.body == body, "the body changed"
    off = TAKEN_OFF.union(name.lower() for name in world.secret_headers)
    told = off.intersection(name for name, _ in left.headers)
    assert not told, f"passes the edge: {told}"
    aside = off | HOP_BY_HOP | ({"p-asserted-identity"} if not world.key.trusted else set())
    if world.key.caller_ids is not None and (came.code or came.to_tag):
        # I19: what may not be shown in a dialog; `test_caller` checks it.
        aside |= {"p-asserted-identity", "from"}
    if world.trunk.account is not None:
        aside |= NUMBERS
        added = [h for h in left.headers if 'username="gate"' in h[1]]
    ours = re.compile(rf'\brealm\s*=\s*"?{re.escape(world.realm)}"?\s*(,|$)') if world.realm else None
    before = [h for h in came.headers if h[0] not in aside and not _own_credentials(h, ours)]
    theirs = [h for h in left.headers if h not in added]
    assert not any(_own_credentials(h, ours) for h in theirs), "our own credentials go on (§22.3)"
    after = [h for h in left.headers if h[0] not in aside and h not in added]
    if not came.has("p-called-party-id"):  # a call to a registered contact says what it was
        after = [h for h in after if h != ("p-called-party-id", f"<{came.uri}>")]
    if body != came.body or ("content-length", str(len(came.body))) not in before:
        before = [h for h in before if h[0] != "content-length"]
        after = [h for h in after if h[0] != "content-length"]
    assert after == before, f"headers changed:\n{before}\n{after}"


def _own_credentials(header: tuple[str, str], ours: re.Pattern[str] | None) -> bool:
    if ours is None or header[0] not in ("authorization", "proxy-authorization"):
        return False
    return ours.search(header[1]) is not None
