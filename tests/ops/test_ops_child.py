"""The watching of ops: started, ready, started anew, ended. On every loop that the gate can run on."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.ops.support import LONG, LOOPS, Heard, gone, pidfd_open, run

from callgate.net.ops_child import LONGEST_LINE, Backoff, OpsChild
from callgate.net.shared import Shared

Loop = Callable[[], asyncio.AbstractEventLoop]
NOWHERE = "http://127.0.0.1:0"


def program(tmp_path: Path, text: str) -> tuple[str, ...]:
    """A program that stands in for ops."""
    file = tmp_path / "ops.py"
    # Ends by itself in time, also where a fault keeps the test from ending it.
    file.write_text(f"import signal\nsignal.alarm({LONG:.0f})\n{text}")
    return (sys.executable, "-u", str(file))


def test_backoff_doubles_to_the_top_and_starts_again_after_a_steady_run() -> None:
    backoff = Backoff()
    assert [backoff.after(0.5) for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]
    assert [backoff.after(59.9), backoff.after(60), backoff.after(0)] == [30, 1, 2]


@given(st.lists(st.floats(min_value=0, max_value=1e6)))
def test_backoff_stays_within_its_bounds(runs: list[float]) -> None:
    backoff = Backoff()
    assert all(1 <= backoff.after(ran) <= 30 for ran in runs)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_killed_ops_is_started_anew_and_serves_the_same_counts(loop: Loop, shared: Shared) -> None:
    async def main() -> None:
        heard = Heard()
        shared.beat(time.monotonic())
        at = shared.meters.series("calls_active", "acme", "inbound")
        shared.meters.values[at] = 4
        child = OpsChild(NOWHERE, shared.fds, backoff=Backoff(first=0.01))
        child.on_change(heard)
        assert await child.start(LONG)
        first = child.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        ended = await heard.until("ops ended")
        assert (ended["pid"], ended["exit_code"], ended["retry_seconds"]) == (first, -9, 0.01)
        shared.meters.values[at] += 1
        ready = await heard.until("ops ready", 2)
        assert ready["restarts"] == 1
        assert child.pid == ready["pid"] != first
        async with httpx.AsyncClient(base_url=ready["address"]) as http:
            assert (
                'callgate_calls_active{direction="inbound",key="acme"} 5.0'
                in (await http.get("/metrics")).text
            )
        await child.stop()
        assert child.pid is None
        assert child.address is None

    run(loop, main())


@pytest.mark.parametrize("loop", LOOPS)
def test_stop_ends_ops_by_closing_its_pipe(loop: Loop, shared: Shared) -> None:
    async def main() -> None:
        heard = Heard()
        child = OpsChild(NOWHERE, shared.fds)
        child.on_change(heard)
        assert await child.start(LONG)
        assert child.pid is not None
        pidfd = pidfd_open(child.pid)
        # Ctrl-C and hang-up of the group are not for ops: it serves on until the gate lets go.
        os.kill(child.pid, signal.SIGINT)
        os.kill(child.pid, signal.SIGHUP)
        async with httpx.AsyncClient(base_url=child.address or "") as http:
            assert (await http.get("/readyz")).status_code == 503
        await child.stop()
        assert gone(pidfd, 0)
        os.close(pidfd)
        assert [event for event, _ in heard.events] == ["ops ready"]
        await child.stop()

    run(loop, main())


@pytest.mark.parametrize("loop", LOOPS)
def test_stop_lets_ops_end_by_itself(loop: Loop, shared: Shared, tmp_path: Path) -> None:
    ended = tmp_path / "ended"
    gentle = program(
        tmp_path, f"import sys\nprint('ready http://x')\nsys.stdin.read()\nopen({str(ended)!r}, 'w')\n"
    )

    async def main() -> None:
        child = OpsChild(NOWHERE, shared.fds, program=gentle)
        assert await child.start(LONG)
        await child.stop()

    run(loop, main())
    assert ended.exists()


@pytest.mark.parametrize("loop", LOOPS)
def test_an_ops_that_does_not_end_is_killed(loop: Loop, shared: Shared, tmp_path: Path) -> None:
    stubborn = program(tmp_path, "print('ready http://x')\nwhile True: signal.pause()\n")

    async def main() -> None:
        child = OpsChild(NOWHERE, shared.fds, program=stubborn)
        assert await child.start(LONG)
        assert child.pid is not None
        pidfd = pidfd_open(child.pid)
        await child.stop()
        assert gone(pidfd, 0)
        os.close(pidfd)

    run(loop, main())


@pytest.mark.parametrize("loop", LOOPS)
def test_an_ops_that_falls_silent_is_killed_and_started_anew(
    loop: Loop, shared: Shared, tmp_path: Path
) -> None:
    hangs = program(tmp_path, "print('ready http://x')\nsignal.pause()\n")

    async def main() -> None:
        heard = Heard()
        child = OpsChild(
            NOWHERE, shared.fds, program=hangs, backoff=Backoff(first=0.01, top=0.02), silent_seconds=0.5
        )
        child.on_change(heard)
        await child.start(LONG)
        silent = await heard.until("ops silent")
        ended = await heard.until("ops ended")
        assert ended["exit_code"] == -9
        assert ended["pid"] == silent["pid"]
        assert (await heard.until("ops ended", 2))["pid"] != silent["pid"]
        await child.stop()

    run(loop, main())


@pytest.mark.parametrize("loop", LOOPS)
def test_one_that_dies_at_once_is_tried_on_and_its_last_words_are_told(
    loop: Loop, shared: Shared, tmp_path: Path
) -> None:
    dies = program(tmp_path, "import sys\nsys.stderr.write('first\\nwhy it died')\nsys.exit(3)\n")
    errors: list[bytes] = []

    async def main() -> None:
        heard = Heard()
        child = OpsChild(
            NOWHERE, shared.fds, program=dies, backoff=Backoff(first=0.01, top=0.02), errors=errors.append
        )
        child.on_change(heard)
        assert not await child.start(0.01)
        third = await heard.until("ops ended", 3)
        assert (third["exit_code"], third["said"], third["retry_seconds"]) == (
            3,
            ["first", "why it died"],
            0.02,
        )
        await child.stop()

    run(loop, main())
    assert errors[:4] == [b"first\n", b"why it died\n"] * 2


@pytest.mark.parametrize("loop", LOOPS)
def test_a_program_that_can_t_be_started_is_told_and_tried_again(loop: Loop, shared: Shared) -> None:
    async def main() -> None:
        heard = Heard()
        child = OpsChild(
            NOWHERE, shared.fds, program=("/nonexistent/python",), backoff=Backoff(first=0.01, top=0.02)
        )
        child.on_change(heard)
        assert not await child.start(0.01)
        assert "No such file" in (await heard.until("ops not started", 2))["error"]
        await child.stop()

    run(loop, main())


@pytest.mark.parametrize("loop", LOOPS)
def test_a_flood_of_errors_is_read_in_bounded_lines_and_does_not_stop_the_watching(
    loop: Loop, shared: Shared, tmp_path: Path
) -> None:
    floods = program(
        tmp_path,
        "import sys\nsys.stderr.write('x' * 1_000_000)\nsys.stdout.write('y' * 1_000_000)\nsys.exit(4)\n",
    )
    errors: list[bytes] = []

    async def main() -> None:
        heard = Heard()
        child = OpsChild(NOWHERE, shared.fds, program=floods, errors=errors.append)
        child.on_change(heard)
        await child.start(0.01)
        assert (await heard.until("ops ended"))["exit_code"] == 4
        await child.stop()

    run(loop, main())
    assert sum(line.count(b"x") for line in errors) == 1_000_000
    assert max(map(len, errors)) <= LONGEST_LINE + 1


@pytest.mark.parametrize("loop", LOOPS)
def test_a_callback_that_fails_does_not_end_the_watching(loop: Loop, shared: Shared, tmp_path: Path) -> None:
    dies = program(tmp_path, "raise SystemExit(1)\n")
    faults: list[dict[str, object]] = []

    def fails(event: str, fields: dict[str, object]) -> None:
        raise RuntimeError(event)

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
        heard = Heard()
        child = OpsChild(NOWHERE, shared.fds, program=dies, backoff=Backoff(first=0.01))
        child.on_change(fails)
        child.on_change(heard)
        await child.start(0.01)
        await heard.until("ops ended", 2)
        await child.stop()

    run(loop, main())
    assert "ops ended" in str(faults[0]["message"])


async def test_ops_serves_on_ipv6_too(shared: Shared) -> None:
    child = OpsChild("http://[::1]:0", shared.fds)
    assert await child.start(LONG)
    assert (child.address or "").startswith("http://[::1]:")
    await child.stop()
