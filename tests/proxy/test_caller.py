"""I19: what a key's calls may show, in every disguise, and in a dialog too. New calls: `test_edge`."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from tests.proxy.agent import Agent
from tests.proxy.conftest import Ladder
from tests.proxy.ladder import DID, NUMBERS, World
from tests.proxy.text import Text

from callgate.policy.dial import DialRules
from callgate.proxy.identity.caller import Shown, own_again, shown, without_others
from callgate.proxy.peers import Key, Numbers, Trunk

ALLOWED = ("+815012345678", "+81312345600-+81312345699")
GOOD = "<sip:05012345678@pbx>"
BAD = "<sip:+819012345678@pbx>"
PAI = "P-Asserted-Identity: "


def numbers() -> Numbers:
    key = Key("acme", Trunk("carrier"), DialRules(NUMBERS, "japan"))
    found = Numbers()
    for one in ALLOWED:
        first, _, last = one.partition("-")
        found.add(first, last or first, key)
    return found


# -- names and numbers -----------------------------------------------------------------------------------------------

NAMES = [
    "<sip:anonymous@anonymous.invalid>",
    '"Anonymous" <sip:anonymous@anonymous.invalid>;tag=1',
    '"+819012345678" <sip:anonymous@anonymous.invalid>',  # what a display says is not judged
    '"<tel:+819012345678>" <sip:alice@pbx>',
    "sip:asterisk@192.0.2.10",
    "<sip:ext1001@pbx>",
    "<sip:trunk2026@pbx>",
    "<sip:pbx-tokyo_3.front@pbx>",
    "<sip:%E6%9D%B1%E4%BA%AC@pbx>",
    "<sip:pbx.example>",
    "<sip:pbx.example.>",
    "<sip:192.0.2.10>",
    "<sip:192.0.2.10:5070;transport=tcp>",
    "<sip:[2001:db8::10]>",
    "<sips:ip-10-20-30-40.cloud.example>",
]
ALLOWED_NUMBERS = [
    "<tel:+815012345678>",
    "<tel:050-1234-5678>",
    "tel:050-1234-5678;phone-context=+81;tag=1",
    "tel:05012345678 ; tag=1",
    "sip:05012345678@pbx;tag=1",
    "<sip:%30%35%30%31%32%33%34%35%36%37%38@pbx>",
    "<sip:\uff10\uff15\uff10\uff11\uff12\uff13\uff14\uff15\uff16\uff17\uff18@pbx>",  # 05012345678, full width
    "<sip:+81(50)1234.5678@pbx;user=phone>",
    "<sip:05012345678;npdi@pbx>",
    '"+819012345678" <tel:+815012345678>',
]
DISGUISES = [
    # digits with letters
    "<sip:+819012345678x@pbx>",
    "<sip:+8190x12345678@pbx>",
    "<sip:09012345678x@pbx>",
    "<sip:x09012345678@pbx>",
    "<sip:x-090-1234-5678@pbx>",
    "<sip:tel+819012345678@pbx>",
    "<sip:09012345678;x@pbx;user=phone>",
    "<sip:0120flowers@pbx>",
    "<sip:110x@pbx>",
    "<sip:a1b2c3d4e5f6g7@pbx>",
    "<sip:O9OI2345678@pbx>",
    # behind a name
    "<sip:alice;phone-context=+819012345678@pbx>",
    "<sip:alice:09012345678@pbx>",
    "<sip:alice;isub=09012345678@pbx>",
    "<sip:alice@09012345678@pbx>",
    "<sip:alice%4009012345678@pbx>",
    "<sip:alice%2C09012345678@pbx>",
    # of a carrier
    "<sip:003305012345678@pbx>",
    # escapes
    "<sip:%2B819012345678x@pbx>",
    "<sip:%252B819012345678@pbx>",
    "<sip:%2B8190%31%32345678x@pbx>",
    "<sip:alice%00@pbx>",
    "<sip:alice%@pbx>",
    # other digits
    "<sip:\uff10\uff19\uff10\uff11\uff12\uff13\uff14\uff15\uff16\uff17\uff18x@pbx>",
    "<sip:x\uff10\uff19\uff10\uff11\uff12\uff13\uff14\uff15\uff16\uff17\uff18@pbx>",
    "<sip:\u0660\u0669\u0660\u0661\u0662\u0663\u0664\u0665@pbx>",
    "<sip:\u4e5d\u4e00\u4e8c\u4e09\u56db\u4e94\u516d\u4e03\u516b@pbx>",
    "<sip:\u200bx@pbx>",
    # where no user is
    "<sip:09012345678>",
    "<sip:+819012345678>",
    "<sip:@09012345678>",
    "<sip:09012345678x>",
    "<sip:090.1234.5678>",
    "sip:09012345678;tag=1",
    # tel: and other schemes
    "<tel:+819012345678>",
    "<tel:alice>",
    "<tel:5012345678;phone-context=+81;phone-context=+8190>",
    "tel:5012345678;phone-context=+8190;tag=1",
    "tel:+819012345678;tag=1",
    "<mailto:09012345678@pbx>",
    "<im:09012345678@pbx>",
    "<urn:service:sos>",
    "<+819012345678>",
    "+819012345678",
    "<09012345678@pbx>",
    # several in one, brackets and quotes that two readers see differently
    "<sip:05012345678@pbx> <tel:+819012345678>",
    "<sip:05012345678@pbx>;x=<tel:+819012345678>",
    "<sip:05012345678@pbx>, <tel:+819012345678>",
    "sip:05012345678@pbx <tel:+819012345678>",
    "a, <tel:+819012345678> <sip:05012345678@pbx>",
    '"x <sip:05012345678@pbx>',
    "<sip:050 12345678@pbx>",
    "<sip:alice@pbx",
    "<>",
    "",
]


@pytest.mark.parametrize("value", NAMES)
def test_a_name_shows_no_number(value: str) -> None:
    assert shown(value.encode(), numbers()) is Shown.NAME


@pytest.mark.parametrize("value", ALLOWED_NUMBERS)
def test_a_number_of_the_list(value: str) -> None:
    assert shown(value.encode(), numbers()) is Shown.ALLOWED


@pytest.mark.parametrize("value", DISGUISES)
def test_a_number_is_no_name_in_any_disguise(value: str) -> None:
    assert shown(value.encode(), numbers()) is Shown.WRONG


@pytest.mark.parametrize("value", DISGUISES)
def test_no_disguise_gets_a_call_out(ladder: Ladder, value: str) -> None:
    """In From, and in P-Asserted-Identity beside a number that is allowed."""
    world = ladder(caller_ids=ALLOWED)
    written = value.encode().decode("latin-1")
    for caller, asserted in ((written, GOOD), (GOOD, written or BAD)):
        world.pbx.sends("INVITE", headers=[PAI + asserted], change={"from": f"{caller};tag=x"})
        world.pbx.gets("400" if world.pbx.inbox[0][1].code == 400 else "403")
        world.carrier.gets_nothing()
        world.pbx.sends("ACK")


# -- in a dialog -----------------------------------------------------------------------------------------------------

OTHERS = [
    f"P-Preferred-Identity: {BAD}",
    f"Remote-Party-ID: {BAD};party=calling",
    f"remote-party-id : {BAD}",
    f"P-Preferred-Identity:\r\n {BAD}",
]
LINES = [
    ([PAI + GOOD], [GOOD]),
    ([PAI + "<tel:+81312345601>"], ["<tel:+81312345601>"]),
    ([PAI + "<sip:alice@pbx>"], ["<sip:alice@pbx>"]),
    ([PAI + BAD], []),
    ([PAI + "<sip:+8190x@pbx>"], []),
    ([PAI + f"{GOOD}, {BAD}"], [GOOD]),
    ([PAI + f"{BAD},\r\n {GOOD}"], [GOOD]),
    ([PAI + f"\r\n {BAD}"], []),
    ([PAI + GOOD, f"p-asserted-identity : {BAD}"], [GOOD]),
    ([PAI + BAD, PAI + BAD], []),
    ([PAI + '"unclosed <tel:1'], []),
    (OTHERS, []),
]


def goes(world: World, a: Agent, b: Agent, what: str, headers: Iterable[str], **change: str) -> Text:
    """A request inside the dialog, and its answer; what arrived."""
    a.sends(what, headers=headers, change=change, inside=True)
    if what == "re-INVITE":
        a.gets("100")
    got = b.gets(what)
    b.sends(f"200 {what}")
    back = a.gets(f"200 {what}")
    if change:
        assert back.get("from") == change["from"], "who asked finds its own From in the answer (§8.2.6.2)"
    if what == "re-INVITE":
        a.sends("ACK", change=change)
        ack = b.gets("ACK")
        assert ack.get("from") == got.get("from")
    return got


@pytest.mark.parametrize(("sent", "left"), LINES)
@pytest.mark.parametrize("what", ["UPDATE", "re-INVITE", "INFO", "MESSAGE"])
@pytest.mark.parametrize("caller", ["pbx", "carrier"])
def test_in_a_dialog_what_may_not_be_shown_goes_off(
    ladder: Ladder, sent: list[str], left: list[str], what: str, caller: str
) -> None:
    """The dialog goes on: nothing is refused. It makes no difference who called."""
    world = ladder(caller_ids=ALLOWED)
    shows = {"from": f"{GOOD};tag=a"} if caller == "pbx" else {}
    world.talks(getattr(world, caller), change=shows)
    got = goes(world, world.pbx, world.carrier, what, sent)
    assert got.all("p-asserted-identity") == left
    for name in ("p-preferred-identity", "remote-party-id"):
        assert not got.has(name)
    world.hangs_up()


@pytest.mark.parametrize(("sent", "left"), LINES)
def test_in_answers_too(ladder: Ladder, sent: list[str], left: list[str]) -> None:
    """RFC 3325 lets a callee show who it is, RFC 4916 whoever has taken the call over."""
    world = ladder(caller_ids=ALLOWED)
    carrier, pbx = world.carrier, world.pbx
    carrier.sends("INVITE")
    carrier.gets("100")
    pbx.gets("INVITE")
    pbx.sends("180", headers=sent)
    assert carrier.gets("180").all("p-asserted-identity") == left
    pbx.sends("200", headers=sent)
    assert carrier.gets("200").all("p-asserted-identity") == left
    carrier.sends("ACK")
    pbx.gets("ACK")
    carrier.sends("UPDATE")
    pbx.gets("UPDATE")
    pbx.sends("200 UPDATE", headers=sent)
    assert carrier.gets("200 UPDATE").all("p-asserted-identity") == left
    world.hangs_up()


def test_what_the_trunk_shows_passes(ladder: Ladder) -> None:
    world = ladder(caller_ids=ALLOWED)
    world.talks(world.carrier, headers=[PAI + BAD])
    got = goes(world, world.carrier, world.pbx, "UPDATE", [PAI + BAD])
    assert got.all("p-asserted-identity") == [BAD]
    world.hangs_up()


@pytest.mark.parametrize(
    ("begins", "becomes", "leaves"),
    [
        (GOOD, BAD, "<sip:05012345678@pbx>"),
        (GOOD, "<sip:+8190x@pbx>", "<sip:05012345678@pbx>"),
        (GOOD, "<tel:+81312345601>", "<tel:+81312345601>"),
        (GOOD, '"Bob" <sip:05012345678@pbx>', '"Bob" <sip:05012345678@pbx>'),
        ('"A" <sip:alice@pbx>', BAD, "<sip:alice@pbx>"),
        ('"A" <sip:alice@pbx>', "<sip:anonymous@anonymous.invalid>", "<sip:anonymous@anonymous.invalid>"),
    ],
)
@pytest.mark.parametrize("what", ["UPDATE", "re-INVITE", "INFO"])
def test_a_from_that_changes(ladder: Ladder, begins: str, becomes: str, leaves: str, what: str) -> None:
    """RFC 4916 §4.4: From and To may change in a dialog, their tags do not. To a number that may not be shown it does
    not: the dialog goes on as it began."""
    world = ladder(caller_ids=ALLOWED)
    world.talks(change={"from": f"{begins};tag=a"}, headers=[PAI + GOOD])
    got = goes(world, world.pbx, world.carrier, what, [], **{"from": f"{becomes};tag=a"})
    assert got.get("from") == f"{leaves};tag=a"
    world.hangs_up()


def test_a_from_that_changes_before_the_answer(ladder: Ladder) -> None:
    world = ladder(caller_ids=ALLOWED)
    pbx, carrier = world.pbx, world.carrier
    pbx.sends("INVITE", change={"from": f"{GOOD};tag=a"})
    pbx.gets("100")
    carrier.gets("INVITE")
    carrier.sends("183")
    pbx.gets("183")
    got = goes(world, pbx, carrier, "UPDATE", [], **{"from": f"{BAD};tag=a"})
    assert got.get("from") == "<sip:05012345678@pbx>;tag=a"
    carrier.sends("486")
    carrier.gets("ACK")
    pbx.gets("486")
    pbx.sends("ACK")


def test_the_callee_keeps_the_name_that_it_was_called_by(ladder: Ladder) -> None:
    """Of a call in, the PBX's From is what the trunk wrote into To, in the list or not; another one is judged."""
    world = ladder(caller_ids=("+81312345600",))
    world.talks(world.carrier)
    got = goes(world, world.pbx, world.carrier, "UPDATE", [])
    mine = got.get("from")
    uri, tag = mine.rpartition(";tag=")[::2]
    assert DID in uri
    got = goes(world, world.pbx, world.carrier, "UPDATE", [], **{"from": f"{BAD};tag={tag}"})
    assert got.get("from") == mine
    got = goes(world, world.pbx, world.carrier, "re-INVITE", [], **{"from": f"<tel:0312345600>;tag={tag}"})
    assert got.get("from") == f"<tel:0312345600>;tag={tag}"
    world.hangs_up()


def test_without_a_list_nothing_changes(world: World) -> None:
    world.talks()
    own = goes(world, world.pbx, world.carrier, "UPDATE", [PAI + BAD])
    assert own.all("p-asserted-identity") == [BAD]
    tag = own.get("from").rpartition(";tag=")[2]
    got = goes(world, world.pbx, world.carrier, "UPDATE", [], **{"from": f"{BAD};tag={tag}"})
    assert got.get("from") == f"{BAD};tag={tag}"
    world.hangs_up()


# -- the pieces ------------------------------------------------------------------------------------------------------


def test_a_line_without_the_others() -> None:
    allowed = numbers()
    line = b"p-asserted-IDENTITY :  <tel:050-1234-5678>"
    assert without_others(line, allowed) is line, "as it was, byte for byte"
    assert without_others(b"P-Asserted-Identity: <tel:1>, <tel:05012345678>", allowed) == (
        b"P-Asserted-Identity: <tel:05012345678>"
    )
    assert without_others(b"P-Asserted-Identity: <tel:1>", allowed) is None


def test_a_from_that_nothing_can_replace() -> None:
    """The dialog began with what can't be read: it stays as it is, for it has passed so before."""
    line = b"From: <sip:+819012345678@pbx>;tag=1"
    assert own_again(line, b'"', b"1", numbers()) is line
