"""`callgate explain`: a call's life in words, from what its ladder has written down."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.proxy import stores
from tests.proxy.agent import SDP
from tests.proxy.conftest import Ladder, make_ladders
from tests.proxy.ladder import World
from typer.testing import CliRunner, Result

from callgate.cli import build
from callgate.proxy.restart.journal import RECORD
from callgate.store.journal import Journal
from callgate.store.recall import Start, find

CONFIG = """
state_dir: ./state
trunks: {carrier: {gateways: ["sip:198.51.100.1:5080"]}}
keys: {acme: {sources: ["192.0.2.10/32"], pbx: "sip:192.0.2.10:5070", trunk: carrier}}
"""
Explains = Callable[..., Result]


@pytest.fixture
def ladder(request: pytest.FixtureRequest) -> Ladder:
    return make_ladders(request, stores.SAME_TURN)


@pytest.fixture
def explains(tmp_path: Path) -> Explains:
    """Writes a world's journal to a folder as the gate does, and asks for a call."""
    (tmp_path / "callgate.yaml").write_text(CONFIG)

    def explain(world: World, call_id: str, *options: str) -> Result:
        journal = Journal(tmp_path / "state", pytest.fail)
        journal.load()
        names = tuple([listener.name for listener in world.listeners])
        journal.start(Start("boot", 1_700_000_000.0, names, RECORD))
        for _, row in world.journal:
            journal.put(row)
        journal.close()
        arguments = ["explain", call_id, "-c", str(tmp_path / "callgate.yaml"), *options]
        result = CliRunner().invoke(build(arguments), arguments)
        gc.collect()  # a command leaves cycles; a world may not
        gc.freeze()
        return result

    return explain


def in_order(text: str, *wanted: str) -> None:
    at = 0
    for words in wanted:
        found = text.find(words, at)
        assert found >= 0, f"no {words!r} behind {text[:at]!r} in:\n{text}"
        at = found + len(words)


def test_a_call_that_was_answered(ladder: Ladder, explains: Explains) -> None:
    world = ladder(gateways=2)
    call_id = world.pbx.sends("INVITE").call_id
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.carrier.sends("503")
    world.carrier.gets("ACK")
    two = world.gateways[1]
    two.gets("INVITE")
    two.sends("180")
    world.pbx.gets("180")
    world.after(3.0)
    two.sends("200")
    world.pbx.gets("200")
    world.pbx.sends("ACK")
    two.gets("ACK")
    world.after(10.0)
    world.pbx.sends("BYE")
    two.gets("BYE")
    two.sends("200 BYE")
    world.pbx.gets("200 BYE")
    done = explains(world, call_id)
    assert done.exit_code == 0
    in_order(
        done.output,
        "outbound call of acme over carrier, 1001 to 0312345678",
        "INVITE has come",
        "asks V1 outbound_cps (at most 50 in 1 s), C2 outbound_calls (at most 20), K6 calls (at most 40)",
        "INVITE to sip:198.51.100.1:5080",
        "sip:198.51.100.1:5080 answers 503",
        "INVITE to sip:198.51.100.2:5080",
        "rings (180)",
        "answered",
        "ended by caller",
        "outcome: answered, 10.0 s",
    )


def test_a_call_that_was_refused(ladder: Ladder, explains: Explains) -> None:
    world = ladder(outbound_calls=0)
    call_id = world.pbx.sends("INVITE").call_id
    world.pbx.gets("100")
    world.pbx.gets("503")
    world.pbx.sends("ACK")
    done = explains(world, call_id, "--json")
    (call,) = json.loads(done.output)["calls"]
    assert (call["state"], call["verdict"], call["rule"], call["value"], call["limit"]) == (
        "ended",
        "refused",
        "C2",
        1,
        0,
    )
    assert [step["what"] for step in call["steps"]] == ["invite", "asks", "refused", "ended"]
    assert call["invite_at"].endswith("Z")


def test_a_call_that_is_up(ladder: Ladder, explains: Explains) -> None:
    world = ladder()
    world.talks()
    done = explains(world, world.pbx.current)
    in_order(done.output, "rings", "answered", "it is up; holds C2 acme/outbound_calls: 1, K6 acme/calls: 1")
    world.hangs_up()


def test_a_call_that_rings_and_came_over_a_crash(ladder: Ladder, explains: Explains) -> None:
    world = ladder()
    world.carrier.sends("INVITE")
    world.carrier.gets("100")
    world.pbx.gets("INVITE")
    world.pbx.sends("180")
    world.carrier.gets("180")
    assert "it is ringing" in explains(world, world.carrier.current).output
    world.crashes()
    world.carrier.sends("CANCEL")
    world.carrier.gets("200 CANCEL")
    world.pbx.gets("CANCEL")
    world.pbx.sends("200 CANCEL")
    world.pbx.sends("487 INVITE")
    world.pbx.gets("ACK")
    world.carrier.gets("487")
    world.carrier.sends("ACK")
    done = explains(world, world.carrier.current)
    in_order(
        done.output,
        "rings",
        "started anew",
        "the caller gives up",
        "ended by caller, 487",
        "outcome: cancelled",
    )


def test_a_call_that_nobody_knows(ladder: Ladder, explains: Explains) -> None:
    """Not by a part of its name either."""
    world = ladder()
    call_id = world.pbx.sends("INVITE").call_id
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.carrier.sends("404")
    world.carrier.gets("ACK")
    world.pbx.gets("404")
    world.pbx.sends("ACK")
    for unknown in ("nobody", call_id[:-1], call_id[1:]):
        done = explains(world, unknown)
        assert done.exit_code == 1
        assert "no call" in done.output


def test_stories_are_found_among_many(tmp_path: Path) -> None:
    journal = Journal(tmp_path, pytest.fail)
    journal.load()
    journal.start(Start("boot", 0.0, (), RECORD))
    for leg in range(9000):
        journal.put(("E", leg, 1.0, b"call-%05d" % leg, (), ()))
    journal.close()
    began = time.monotonic()
    assert [row[2] for _, row in find(tmp_path, b"call-07777")] == [7777]
    assert time.monotonic() - began < 5.0


def test_a_call_that_waited_in_the_queue(ladder: Ladder, explains: Explains) -> None:
    """While it waits, and when its turn has come: why, and for how long."""
    world = ladder(cps=1, queue_seconds=5.0)
    world.talks(call="a")
    world.pbx.sends("INVITE", call="b")
    world.pbx.gets("100", call="b")
    text = explains(world, world.labels["b"]).output
    in_order(text, "asks ", "V1 outbound_cps", "waits in the queue: V1 would have been 2/1", "it is queued")
    world.after(1.1)
    world.carrier.gets("INVITE", call="b")
    world.carrier.sends("486", call="b")
    world.carrier.gets("ACK", call="b")
    world.pbx.gets("486", call="b")
    world.pbx.sends("ACK", call="b")
    text = explains(world, world.labels["b"]).output
    in_order(
        text, "waits in the queue", "leaves the queue after 1.020 s", "passes", "INVITE to", "outcome: busy"
    )
    world.hangs_up(call="a")


def test_a_call_that_the_gate_died_with_while_it_waited(ladder: Ladder, explains: Explains) -> None:
    world = ladder(cps=1, queue_seconds=5.0)
    world.pbx.sends("INVITE", call="a")
    world.pbx.gets("100", call="a")
    world.pbx.sends("INVITE", call="b")
    world.pbx.gets("100", call="b")
    world.crashes()
    world.pbx.gets("503", call="b")
    world.pbx.sends("ACK", call="b")
    text = explains(world, world.labels["b"]).output
    in_order(text, "waits in the queue", "not sent any more", "refused by V1", "ended by crash, 503")
    world.carrier.gets("INVITE", call="a")
    world.carrier.sends("486", call="a")
    world.carrier.gets("ACK", call="a")
    world.pbx.gets("486", call="a")
    world.pbx.sends("ACK", call="a")


def test_a_recording(ladder: Ladder, explains: Explains) -> None:
    """What was said of it, by whom, and what became of that."""
    world = ladder(recordings=1)
    on = SDP + b"a=record:on\r\n"
    call_id = world.pbx.sends("INVITE", call="a", headers=("X-Record: yes",), body=on).call_id
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.carrier.sends("200")
    world.pbx.gets("200")
    world.pbx.sends("ACK")
    world.carrier.gets("ACK")
    world.talks(call="b")
    world.pbx.sends("re-INVITE", call="b", body=on)
    world.pbx.gets("488", call="b")
    world.pbx.sends("ACK", call="b")
    for call in "ab":
        world.hangs_up(call=call)
    in_order(
        explains(world, call_id).stdout,
        "INVITE has come",
        "recording: said by X-Record, caller",
        "asks V1",
        "outcome: answered",
    )
    in_order(
        explains(world, world.labels["b"]).stdout,
        "recording: said by caller",
        "recording would start by this offer: 488, I1 would be 2/1",
        "outcome: answered",
    )


def test_a_ladder_needs_a_running_gate(ladder: Ladder, explains: Explains) -> None:
    """What the journal knows is told all the same; a program gets all or nothing."""
    world = ladder(outbound_calls=0)
    call_id = world.pbx.sends("INVITE").call_id
    world.pbx.gets("100")
    world.pbx.gets("503")
    world.pbx.sends("ACK")
    done = explains(world, call_id, "--sip")
    assert done.exit_code == 1
    in_order(done.output, "refused by C2", "no gate is running with this config")
    done = explains(world, call_id, "--sip", "--json")
    assert done.exit_code == 1
    assert not done.stdout
    assert "no gate is running" in done.stderr
