"""The registry of series: places that stay, and a bound on what strangers can make it hold."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callgate.proxy.telemetry.meters import (
    ABSENT,
    METRICS,
    OPEN_LABELS,
    OTHER,
    RESERVED,
    SCRAP,
    Meters,
    width,
)

Layout = list[tuple[int, str, tuple[str, ...]]]


def made(values: list[float] | None = None) -> tuple[Meters, Layout]:
    layout: Layout = []
    return Meters([] if values is None else values, lambda *series: layout.append(series)), layout


def test_a_series_keeps_its_place_and_is_told_once() -> None:
    meters, layout = made()
    first = meters.series("calls_active", "acme", "inbound")
    second = meters.series("calls_active", "other", "inbound")
    assert first != second
    meters.values[first] += 2
    assert meters.series("calls_active", "acme", "inbound") == first
    assert meters.values[first] == 2
    assert [s for s in layout if s[1] == "calls_active"] == [
        (first, "calls_active", ("acme", "inbound")),
        (second, "calls_active", ("other", "inbound")),
    ]


def test_no_two_series_share_a_place() -> None:
    meters, layout = made()
    for n in range(50):
        meters.declare_key(f"key{n}", ["V1", "K-X2"], {"rate_window_limit": 3})
        meters.histogram("setup_added_seconds")
    taken = [place for index, name, _ in layout for place in range(index, index + width(METRICS[name]))]
    assert len(taken) == len(set(taken))
    assert min(taken) >= RESERVED


def test_metrics_without_labels_are_there_from_the_start() -> None:
    _, layout = made()
    assert {name for _, name, _ in layout} == {name for name, metric in METRICS.items() if not metric.labels}


def test_a_key_has_its_series_before_its_first_call() -> None:
    meters, layout = made()
    meters.declare_key("acme", ["V1"], {"rate_window_limit": 3.0, "calls_limit": None})
    series = {(name, *labels): index for index, name, labels in layout}
    assert meters.values[series["rate_window_limit", "acme"]] == 3.0
    assert series["calls_total", "acme", "outbound", "answered", ""]
    assert series["calls_total", "acme", "inbound", "refused", "V1"]
    assert series["calls_active", "acme", "outbound"]
    assert series["emergency_calls_total", "acme", "refused"]
    assert ("calls_limit", "acme") not in series
    zeros = [index for (name, *_), index in series.items() if name != "rate_window_limit"]
    assert all(meters.values[index] == 0 for index in zeros)


def test_a_limit_that_becomes_null_vanishes_and_comes_back() -> None:
    meters, _ = made()
    meters.declare_key("acme", [], {"calls_limit": 2.0})
    at = meters.series("calls_limit", "acme")
    meters.declare_key("acme", [], {"calls_limit": None})
    assert math.isnan(meters.values[at])
    meters.declare_key("acme", [], {"calls_limit": 4.0})
    assert meters.values[at] == 4.0
    assert math.isnan(ABSENT)


def test_a_wrong_use_says_what_is_wrong() -> None:
    meters, _ = made()
    with pytest.raises(KeyError, match="no metric 'calls'"):
        meters.series("calls", "acme")
    with pytest.raises(ValueError, match=r"calls_active has the labels \('key', 'direction'\)"):
        meters.series("calls_active", "acme")
    with pytest.raises(ValueError, match="room for more than"):
        Meters(memoryview(bytearray(8)).cast("d"))


def test_labels_of_every_metric_are_known_to_the_bound() -> None:
    open_labels = {label for metric in METRICS.values() for label in metric.labels} & set(OPEN_LABELS)
    assert open_labels == set(OPEN_LABELS)


def test_words_from_strangers_share_one_series_beyond_the_bound() -> None:
    meters, layout = made()
    for n in range(5000):
        meters.values[meters.series("sip_messages_total", "in", f"JUNK{n}", "")] += 1
    mine = [(index, labels[1]) for index, name, labels in layout if name == "sip_messages_total"]
    assert len(mine) == OPEN_LABELS["method"][1] + 1
    counts = {method: meters.values[index] for index, method in mine}
    assert counts[OTHER] == 5000 - OPEN_LABELS["method"][1]
    # What is known has its own series, also when strangers came first.
    meters.series("sip_messages_total", "in", "INVITE", "")
    assert layout[-1][2] == ("in", "INVITE", "")


@given(st.lists(st.text(), max_size=40), st.lists(st.text(), max_size=40))
def test_whatever_comes_in_the_series_are_bounded_and_printable(methods: list[str], codes: list[str]) -> None:
    meters, layout = made()
    for method in methods:
        for code in codes:
            meters.series("sip_messages_total", "in", method, code)
    words = {labels[1] for _, name, labels in layout if name == "sip_messages_total"}
    assert len(words) <= len(OPEN_LABELS["method"][0]) + OPEN_LABELS["method"][1] + 1
    assert all(word.isascii() and word.isprintable() and 0 < len(word) <= 32 for word in words)
    assert len(meters._at) == len(layout)


def test_a_full_memory_goes_on_counting_and_says_what_is_lost() -> None:
    room = sum(width(m) for m in METRICS.values() if not m.labels) + RESERVED + 2
    meters = Meters(memoryview(bytearray(room * 8)).cast("d"))
    places = [meters.series("calls_active", f"key{n}", "inbound") for n in range(5)]
    assert places[0] != places[1] != SCRAP
    assert places[2:] == [SCRAP] * 3
    assert [meters.series("calls_active", f"key{n}", "inbound") for n in range(5)] == places
    assert meters.values[meters.series("series_lost_total")] == 3


@given(st.lists(st.floats(min_value=0, max_value=100, allow_nan=False), max_size=200))
def test_a_histogram_counts_each_observation_in_its_bucket(seconds: list[float]) -> None:
    meters, _ = made()
    at = meters.series("setup_added_seconds")
    histogram = meters.histogram("setup_added_seconds")
    for value in seconds:
        histogram.observe(value)
    bounds = METRICS["setup_added_seconds"].buckets
    counts = [meters.values[at + n] for n in range(len(bounds) + 1)]
    for n, bound in enumerate(bounds):
        assert sum(counts[: n + 1]) == sum(value <= bound for value in seconds)
    assert sum(counts) == len(seconds)
    assert meters.values[at + len(bounds) + 1] == pytest.approx(sum(seconds))
