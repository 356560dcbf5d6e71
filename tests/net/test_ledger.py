"""What a gate takes up from its journal: clocks that have stepped, long windows, damage."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from structlog.testing import capture_logs

from callgate.config import load_config
from callgate.net import ledger as module
from callgate.net.ledger import Ledger
from callgate.net.log import get_logger
from callgate.net.wiring import directory_of, listeners_of
from callgate.policy.claim import Claim, Distinct, Gap, Members, Part, Verdict, Window
from callgate.policy.more import Counted, More
from callgate.proxy.commands import Alert
from callgate.proxy.core import Core
from callgate.proxy.meters import Meters
from callgate.proxy.token import Signer
from callgate.store.frames import HEAD, MARK, SHORTEST
from callgate.store.journal import Journal
from callgate.store.memory import MemoryStore
from callgate.store.recall import ANY, FOLDER, Kept, Start, read_calls

CONFIG = """
state_dir: {state}
trunks: {{carrier: {{gateways: ["sip:127.0.0.1:5080"]}}}}
keys: {{acme: {{sources: ["127.0.0.1/32"], pbx: "sip:127.0.0.1:5070", trunk: carrier, limits: {{outbound_cps: 3}}}}}}
"""
MINUTE = Window("V2", "acme/minute", 10, 60.0)
REACH = Distinct("K1", "acme/reach", 5, 60.0, b"+81312345678")
REDIAL = Gap("K4", "acme/redial", 60.0, b"+81312345678")
LINES = Members("C2", "acme/outbound_calls", 5)
HOUR = 3600.0


class Process:
    """One start of a gate's ledger in a folder. `utc_offset`: what its clock lacks to UTC."""

    def __init__(
        self,
        folder: Path,
        state: str,
        utc_offset: float,
        more: tuple[Counted, ...] = (),
        more_in: tuple[Counted, ...] = (),
        inbound: tuple[Window, ...] = (),
        outbound: tuple[Window, ...] = (),
    ) -> None:
        file = folder / "callgate.yaml"
        file.write_text(CONFIG.format(state=state))
        config = load_config(file)
        directory = directory_of(config, listeners_of(config))
        key = directory.keys["acme"]
        key.outbound = (*key.outbound, MINUTE, *outbound)
        key.more_out, key.more_in = more, more_in
        key.inbound = (*key.inbound, *inbound)
        now = monotonic()
        self.core = Core(directory, Signer(b"s" * 32), Meters([0.0] * 4000), id(self), now)
        self.core.clock(utc_offset, now)
        self.store = MemoryStore(now)
        self.ledger = Ledger(config, self.core, self.store, get_logger(), lambda: None)
        self.loop = asyncio.new_event_loop()
        with capture_logs() as self.logs:
            self.ledger.begin(self.loop)

    def sends(self, *parts: Any) -> None:
        claim = Claim(self.core.next_id(), parts, monotonic() + 1.0, 60.0)
        verdict = self.ledger.granted(claim, self.store.claim(claim, monotonic()), monotonic())
        assert verdict.granted
        assert [rule for rule, _, _ in verdict.used] == [
            p.rule for p in parts if isinstance(p, Window | Members)
        ]
        self.store.sent(claim.id, monotonic())
        self.ledger.sent(claim.id, monotonic())
        self.ledger.released(claim.id)

    def used(self, part: Window) -> int:
        return self.store.used(part.name, monotonic())

    def stops(self) -> None:
        self.ledger.close()
        self.loop.close()


Starts = Callable[..., Process]


@pytest.fixture
def starts(tmp_path: Path) -> Iterator[Starts]:
    made: list[Process] = []

    def start(state: str = "./state", utc_offset: float = 1e9, **limits: Any) -> Process:
        made.append(Process(tmp_path, state, utc_offset, **limits))
        return made[-1]

    yield start
    for process in made:
        if not process.loop.is_closed():
            process.stops()


def written(tmp_path: Path, rows: int) -> None:
    for _ in range(1000):
        if len(read_calls(tmp_path / "state" / FOLDER)[0].sent) >= rows:
            return
        asyncio.run(asyncio.sleep(0.01))
    raise AssertionError("nothing was written")


@pytest.mark.parametrize("wall_clock", [-HOUR, 0.0, HOUR])
def test_what_was_sent_is_known_after_a_crash(tmp_path: Path, starts: Starts, wall_clock: float) -> None:
    """With what the last moments may have taken at most, whatever the wall clock has done in between."""
    one = starts()
    for _ in range(4):
        one.sends(MINUTE, REACH, LINES)
    written(tmp_path, 4)
    two = starts(utc_offset=1e9 + wall_clock)
    assert two.used(MINUTE) == 4 + 3
    refused = two.store.claim(
        Claim(1, (Distinct("K1", "acme/reach", 0, 60.0, b"other"),), 1e12, 1.0), monotonic()
    )
    assert not refused.granted
    two.sends(MINUTE)
    written(tmp_path, 8)
    three = starts(utc_offset=1e9)
    assert three.used(MINUTE) == 4 + 3 + 1 + 3


def test_the_copies_of_one_invite_are_one_call(tmp_path: Path, starts: Starts) -> None:
    one = starts()
    claim = Claim(one.core.next_id(), (MINUTE,), monotonic() + 1.0, 60.0)
    one.ledger.granted(claim, one.store.claim(claim, monotonic()), monotonic())
    for _ in range(3):
        one.ledger.sent(claim.id, monotonic())
    written(tmp_path, 3)
    assert starts().used(MINUTE) == 1 + 3


def test_the_redial_gap(tmp_path: Path, starts: Starts) -> None:
    one = starts()
    one.sends(REDIAL)
    written(tmp_path, 1)
    two = starts()
    again = two.store.claim(Claim(1, (REDIAL,), 1e12, 1.0), monotonic())
    assert (again.granted, again.rule) == (False, "K4")


def test_an_end_in_order_leaves_nothing_unknown(starts: Starts) -> None:
    one = starts()
    one.sends(MINUTE)
    one.stops()
    assert starts().used(MINUTE) == 1


def test_every_gap_in_the_journal_counts(tmp_path: Path, starts: Starts) -> None:
    """Nobody knows what stood there: it is taken for a token."""
    one = starts()
    one.sends(MINUTE)
    one.stops()
    path = max((tmp_path / "state" / FOLDER).glob("calls-*"))
    path.write_bytes(path.read_bytes().replace(HEAD, HEAD + b"rubbish in between"))
    two = starts()
    assert two.used(MINUTE) == 2
    alerts = [command for command in two.core.out if isinstance(command, Alert)]
    assert [alert.rule for alert in alerts] == ["journal"]
    assert "18 octets in 1 places" in alerts[0].text


def test_a_large_hole_counts_for_all_that_it_may_have_told_of(tmp_path: Path, starts: Starts) -> None:
    one = starts()
    one.sends(MINUTE)
    one.stops()
    path = max((tmp_path / "state" / FOLDER).glob("calls-*"))
    path.write_bytes(path.read_bytes().replace(HEAD, HEAD + bytes(4 * SHORTEST + 1)))
    assert starts().used(MINUTE) == 1 + 5


def test_a_hole_fills_no_window_beyond_its_limit(tmp_path: Path, starts: Starts) -> None:
    one = starts()
    one.sends(MINUTE)
    one.stops()
    path = max((tmp_path / "state" / FOLDER).glob("calls-*"))
    path.write_bytes(path.read_bytes() + MARK + bytes(1 << 20) + MARK)
    two = starts()
    assert two.used(MINUTE) == 1 + 10
    assert not two.store.claim(Claim(1, (MINUTE,), 1e12, 60.0), monotonic()).granted


def test_who_wrote_it_is_lost(tmp_path: Path, starts: Starts) -> None:
    """The first row of a journal is spoiled, and all others count as if this process had written them."""
    one = starts()
    one.sends(MINUTE)
    one.stops()
    path = max((tmp_path / "state" / FOLDER).glob("calls-*"))
    path.write_bytes(path.read_bytes().replace(b"start", b"sta?t"))
    found = read_calls(path.parent)[0]
    assert found.start is None
    assert starts().used(MINUTE) == 1 + found.untold


def test_a_folder_that_can_not_be_read(
    tmp_path: Path, starts: Starts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody knows what was sent: what is longer than a second is taken for full, and said to be."""
    lost = Kept([], [], None, float("-inf"), frozenset(), False, "it can't be read", ANY)
    monkeypatch.setattr(Journal, "load", lambda _: lost)
    two = starts()
    assert not two.store.claim(Claim(1, (MINUTE,), 1e12, 60.0), monotonic()).granted
    assert [command.rule for command in two.core.out if isinstance(command, Alert)] == ["journal"]


def test_no_state_dir(starts: Starts) -> None:
    one = starts("null")
    assert not one.core.journals
    assert any("state_dir is null" in line["event"] for line in one.logs)
    one.ledger.put(("U", 1, 1.0))


# -- the clock ---------------------------------------------------------------------------------------------------


def shift(process: Process, boot: str, utc_offset: float, last: float, now: float) -> float:
    start = Start(boot, utc_offset, (), ())
    kept = Kept([], [], start, last, frozenset(), False, "", 0)
    return process.ledger._shift(kept, start, now)


@pytest.mark.parametrize("wall_clock", [-HOUR, 0.0, HOUR])
def test_the_machine_has_run_on(starts: Starts, wall_clock: float) -> None:
    """Its monotonic clock has too."""
    process = starts(utc_offset=1e9 + wall_clock)
    assert shift(process, module._boot(), 1e9, last=990.0, now=1000.0) == 0.0


def test_the_machine_was_started_anew(starts: Starts) -> None:
    """The clock began at nought: UTC tells how long the gate was away."""
    process = starts(utc_offset=1e9 + 5000.0)
    assert shift(process, "another", 1e9, last=4990.0, now=10.0) == -5000.0  # 20 s ago


def test_and_the_clock_says_that_it_is_the_past(starts: Starts) -> None:
    """Then no time has passed: nothing comes free early."""
    process = starts(utc_offset=1e9 + 5000.0 - HOUR)
    assert 4990.0 + shift(process, "another", 1e9, last=4990.0, now=10.0) == 10.0


# -- windows of which each caller or day has one -----------------------------------------------------------------


def counted(process: Process, more: More, caller: str, utc: float) -> Window:
    part = Counted(more, "acme").part(caller, "+81312345678", "fixed", utc)
    assert isinstance(part, Window)
    return part


@pytest.mark.parametrize(
    "more",
    [
        More("X1", per="caller", calls=10, window_seconds=60.0),
        More("X2", per="key", calls=10, calendar="day"),
        More("X3", per="caller", calls=10, calendar="day"),
    ],
)
def test_windows_by_caller_and_day(tmp_path: Path, starts: Starts, more: More) -> None:
    """What was sent counts, and what may have been besides, for callers of whom nothing is known too; the next day owes
    nothing."""
    rules = (Counted(more, "acme"),)
    one = starts(more=rules)
    utc = monotonic() + 1e9
    for _ in range(2):
        one.sends(counted(one, more, "a", utc))
    written(tmp_path, 2)
    two = starts(more=rules)
    for caller, left in (("a", 10 - 2 - 3), ("b", 10 - 3)):
        if more.per == "key":
            left = 10 - 2 - 3 if caller == "a" else 0
        part = counted(two, more, caller, utc)
        for n in range(left + 1):
            claim = Claim(two.core.next_id(), (part,), 1e12, 600.0)
            assert two.store.claim(claim, monotonic()).granted is (n < left), (caller, n)
    if more.calendar:
        part = counted(two, more, "a", utc + 86_400.0)
        assert two.store.claim(Claim(two.core.next_id(), (part,), 1e12, 600.0), monotonic()).granted


BOTH = More("X1", direction="both", calls=30, window_seconds=60.0)
SECOND = Window("X0", "acme/second", 4)


def takes_in(process: Process, part: Part, most: int) -> int:
    """How many calls in pass."""
    claims = [Claim(process.core.next_id(), (part,), 1e12, 600.0) for _ in range(most)]
    return sum(process.store.claim(claim, monotonic()).granted for claim in claims)


@pytest.mark.parametrize("second", [True, False])
def test_a_window_of_calls_in_owes_its_last_moments_too(tmp_path: Path, starts: Starts, second: bool) -> None:
    """What its limit of a second lets pass at once; without one, all that a gate can take."""
    window = Window("X2", "acme/in", 20, 60.0)
    limits: dict[str, Any] = {"inbound": (window, SECOND) if second else (window,)}
    one = starts(**limits)
    one.sends(window)
    written(tmp_path, 1)
    two = starts(**limits)
    assert two.used(window) == (1 + 4 if second else 1 + 20)
    assert takes_in(two, window, 20) == (15 if second else 0)


def test_one_window_of_both_directions_owes_for_both(tmp_path: Path, starts: Starts) -> None:
    rule = Counted(BOTH, "acme")
    part = rule.fixed
    assert isinstance(part, Window)
    limits: dict[str, Any] = {"inbound": (part, SECOND), "outbound": (part,)}
    one = starts(**limits)
    one.sends(part)
    written(tmp_path, 1)
    assert starts(**limits).used(part) == 1 + 3 + 4


@pytest.mark.parametrize(
    "more",
    [
        More("X3", per="did", direction="inbound", calls=10, calendar="day"),
        More("X4", per="did", direction="inbound", calls=10, window_seconds=3600.0),
        More("X5", per="did", direction="inbound", numbers=10, window_seconds=3600.0),
        More("X6", direction="inbound", numbers=10, window_seconds=3600.0),
    ],
)
def test_windows_of_each_did_owe_it(tmp_path: Path, starts: Starts, more: More) -> None:
    limits: dict[str, Any] = {"more_in": (Counted(more, "acme"),), "inbound": (SECOND,)}
    one = starts(**limits)
    one.sends(LINES, MINUTE)
    written(tmp_path, 1)
    two = starts(**limits)
    passed = 0
    for n in range(11):
        part = Counted(more, "acme").part(f"+8131234567{n}", "+815012345678", "fixed", monotonic() + 1e9)
        assert part is not None
        passed += takes_in(two, part, 1)
    assert passed == 10 - 4


def test_what_was_sent_under_a_twin_counts(tmp_path: Path, starts: Starts) -> None:
    """A call in and its forward ask together."""
    one = starts()
    claim = Claim(one.core.next_id(), (LINES,), monotonic() + 1.0, 60.0)
    claim.twin = Claim(one.core.next_id(), (MINUTE,), monotonic() + 1.0, 60.0)
    one.ledger.granted(claim, one.store.claim(claim, monotonic()), monotonic())
    one.ledger.sent(claim.twin.id, monotonic())
    written(tmp_path, 1)
    assert starts().used(MINUTE) == 1 + 3


def test_what_shadow_mode_would_have_refused_is_still_told(starts: Starts) -> None:
    one = starts()
    claim = Claim(one.core.next_id(), (MINUTE,), monotonic() + 1.0, 60.0, force=True)
    verdict = one.ledger.granted(claim, Verdict(True, "V2", 11, 10, name="acme/minute"), monotonic())
    assert (verdict.rule, verdict.value, verdict.limit, verdict.name) == ("V2", 11, 10, "acme/minute")
