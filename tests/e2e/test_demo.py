"""`callgate demo` as a user types it: the real gate, real sockets, the whole way."""

from __future__ import annotations

import re
import subprocess
import sys

LIMIT = 120  # seconds: a bound for a run that hangs


def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "callgate", "demo", *arguments],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )


def test_demo_keeps_the_contract_and_uses_it() -> None:
    done = demo("--seconds", "8")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\nbreaches: 0\n" in done.stdout
    found = re.search(r"\npassed: (\d+) of (\d+) allowed \((\d+\.\d) %\)\n", done.stdout)
    assert found is not None, done.stdout
    # Eight seconds at three calls per second, and the inbound ones beside them.
    assert int(found[1]) >= 0.97 * int(found[2]) > 18
    assert re.search(r"\nwaited for their turn: [1-9]", done.stdout)
    assert re.search(r"\nforwarded to telephone numbers \(302\): \d+ of [1-9]", done.stdout)
    assert re.search(r"\nkilled with -9 while [1-9]\d* calls were up; .* lost: 0\n", done.stdout)
    assert "\nfullest second at the carrier: 3 calls\n" in done.stdout
    for rule in ("V1", "I1", "K-X1", "K-X1+EMG", "K-X2", "K-X3"):
        assert re.search(rf"\n +\d+  {re.escape(rule)} ", done.stdout), f"{rule} refused nothing"
    assert "calls without an answer" not in done.stdout
    assert "noticed on the wire" not in done.stdout
    for command in ("check", "dial", "run"):
        assert re.search(rf"\n +callgate {command} +-c config/callgate\.yaml", done.stdout)


def test_demo_without_the_gate_gets_the_account_suspended_within_a_second() -> None:
    done = demo("--without-gate", "--seconds", "2")
    assert done.returncode == 1, done.stdout + done.stderr
    found = re.search(r"suspended the account (\d+\.\d+) s after the first call", done.stdout)
    assert found is not None, done.stdout
    assert float(found[1]) < 1.0
    assert "breaches: 0" not in done.stdout


def test_wrong_usage_is_exit_2() -> None:
    assert demo("--seconds", "1").returncode == 2
    assert demo("--seconds", "long").returncode == 2
