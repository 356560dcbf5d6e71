"""The memory between gate and ops: what one writes, the other reads."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from callgate.net.shared import CAPACITY, Shared
from callgate.ops.view import View
from callgate.proxy.telemetry.meters import METRICS


@pytest.fixture
def view(shared: Shared) -> Iterator[View]:
    looking = View(*shared.fds)
    yield looking
    looking.close()


def places(view: View, metric: str) -> list[tuple[dict[str, str], float]]:
    view.refresh()
    return [(labels, view.values[at]) for labels, at in dict(view.series())[metric]]


def test_series_made_after_the_reader_came_are_seen(shared: Shared, view: View) -> None:
    assert places(view, "calls_active") == []
    at = shared.meters.series("calls_active", "acme", "inbound")
    shared.meters.values[at] = 7
    assert places(view, "calls_active") == [({"key": "acme", "direction": "inbound"}, 7.0)]
    shared.meters.series("calls_active", "é\n\"'", "outbound")
    assert places(view, "calls_active")[1][0] == {"key": "é\n\"'", "direction": "outbound"}
    assert len(places(view, "calls_active")) == 2


def test_the_reader_does_not_move_the_writer(shared: Shared, view: View) -> None:
    """They share the open file, and with it a position that neither may rely on."""
    for n in range(300):
        shared.meters.series("calls_active", f"key{n}", "inbound")
        view.refresh()
    assert [labels["key"] for labels, _ in places(view, "calls_active")] == [f"key{n}" for n in range(300)]


def test_half_a_line_waits_for_its_rest(shared: Shared, view: View) -> None:
    view.refresh()
    end = shared._layout_end
    os.pwrite(shared.fds[1], b'[40,"calls_active",["ac', end)
    assert places(view, "calls_active") == []
    os.pwrite(shared.fds[1], b'[40,"calls_active",["acme","inbound"]]\n', end)
    assert len(places(view, "calls_active")) == 1


def test_a_layout_that_can_t_be_written_now_is_written_later(
    shared: Shared, view: View, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.pwrite

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    shared.meters.series("calls_active", "one", "inbound")
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: real(fd, data[:5], at))
    shared.meters.series("calls_active", "two", "inbound")
    monkeypatch.setattr(os, "pwrite", real)
    shared.meters.series("calls_active", "three", "inbound")
    assert [labels["key"] for labels, _ in places(view, "calls_active")] == ["one", "two", "three"]


def test_what_this_program_does_not_know_is_left_out(shared: Shared, view: View) -> None:
    """A gate that was upgraded on disk while it runs starts a newer ops."""
    shared.publish(40, "a_metric_of_tomorrow", ())
    shared.publish(41, "calls_active", ("one label",))
    shared.publish(1 << 40, "calls_active", ("acme", "inbound"))
    assert places(view, "calls_active") == []


def test_state_heartbeat_and_listeners(shared: Shared, view: View) -> None:
    assert (view.state, view.listeners, view.store_up, view.database_up) == ("starting", 0, True, True)
    shared.state("draining")
    shared.listeners(2)
    shared.beat(time.monotonic() + 100)
    assert (view.state, view.listeners, view.age) == ("draining", 2, 0.0)
    with pytest.raises(ValueError):
        shared.state("gone")


def test_the_reader_can_t_write(view: View) -> None:
    with pytest.raises(TypeError):
        view.values[20] = 1.0


def test_without_memfd_a_nameless_file_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> int:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(os, "memfd_create", refused)
    memory = Shared(4096)
    view = View(*memory.fds)
    memory.meters.series("calls_active", "acme", "inbound")
    assert places(view, "calls_active") == [({"key": "acme", "direction": "inbound"}, 0.0)]
    assert os.fstat(memory.fds[0]).st_nlink == 0
    view.close()
    memory.close()


def test_it_takes_only_the_memory_it_touches(shared: Shared) -> None:
    stat = os.fstat(shared.fds[0])
    assert stat.st_size == CAPACITY * 8
    assert stat.st_blocks * 512 < 1 << 20


def test_close_gives_the_descriptors_back() -> None:
    memory = Shared(4096)
    fds = memory.fds
    memory.close()
    for fd in fds:
        with pytest.raises(OSError):
            os.fstat(fd)


def test_every_metric_of_the_table_can_be_made(shared: Shared, view: View) -> None:
    for name, metric in METRICS.items():
        shared.meters.series(name, *(["x"] * len(metric.labels)))
    view.refresh()
    assert all(series for _, series in view.series())
