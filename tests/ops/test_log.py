"""The log: whole lines whatever is in them, numbers masked, and never a wait for who reads."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.ops.support import LONG

from callgate.net import log

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    log.close()


def lines(
    write: Callable[[log.Log], None], level: str = "info", full_numbers: bool = False
) -> list[dict[str, Any]]:
    """What comes out for what `write` logs."""
    out = io.BytesIO()
    log.configure(level, full_numbers, stream=out)
    write(log.get_logger())
    assert log.close(LONG)
    return [json.loads(line) for line in out.getvalue().decode().splitlines()]


def test_a_line_has_time_level_event_and_fields_in_that_order() -> None:
    [line] = lines(lambda logger: logger.warning("trunk down", trunk="carrier", value=3, since=None))
    assert list(line) == ["timestamp", "level", "event", "trunk", "value", "since"]
    assert line == line | {
        "level": "warning",
        "event": "trunk down",
        "trunk": "carrier",
        "value": 3,
        "since": None,
    }
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line["timestamp"])


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "1970-01-01T00:00:00.000000Z"),
        (1_700_000_000_000_001_999, "2023-11-14T22:13:20.000001Z"),
        (1_700_000_000_999_999_999, "2023-11-14T22:13:20.999999Z"),
        (1_700_000_001_000_000_000, "2023-11-14T22:13:21.000000Z"),
        (1_699_999_999_000_000_000, "2023-11-14T22:13:19.000000Z"),
    ],
)
def test_time_is_rfc_3339_utc_with_microseconds(ns: int, text: str) -> None:
    assert log._stamp(ns) == text


def test_the_level_decides_what_is_written() -> None:
    def write(logger: log.Log) -> None:
        for level in log.LEVELS:
            getattr(logger, level)(level)

    assert [line["level"] for line in lines(write, "warning")] == ["warning", "error", "critical"]
    assert len(lines(write, "debug")) == 5
    with pytest.raises(ValueError, match="log level 'loud': one of debug, info"):
        log.configure("loud", False)


def test_bound_fields_stand_on_every_line() -> None:
    def write(logger: log.Log) -> None:
        bound = logger.bind(key="acme")
        bound.info("one")
        bound.info("two", key="other")

    assert [line["key"] for line in lines(write)] == ["acme", "other"]


def test_an_exception_is_one_line() -> None:
    def write(logger: log.Log) -> None:
        try:
            raise RuntimeError("two\nlines")
        except RuntimeError:
            logger.exception("fault", call_id="x")

    [line] = lines(write)
    assert line["level"] == "error"
    assert "RuntimeError: two\nlines" in line["exception"]


def test_lines_of_libraries_come_in_the_same_form() -> None:
    def write(_: log.Log) -> None:
        logging.getLogger("asyncio").error("task %s", "failed", extra={})
        logging.getLogger("asyncio").debug("not this")

    [line] = lines(write)
    assert (line["level"], line["event"], line["logger"]) == ("error", "task failed", "asyncio")


@given(st.text(st.characters()), anything, anything)
def test_whatever_is_logged_is_one_line_that_parses(event: str, one: object, two: object) -> None:
    """Also by the line ends of Unicode, and in UTF-8 with half a surrogate pair inside."""
    rendered = log.render(None, "info", {"event": event, "one": one, "two": {"in": two}})
    text = rendered.decode("utf-8")
    assert text.endswith("\n")
    assert len(text.splitlines()) == 1
    assert json.loads(text)["event"] == event
    if isinstance(one, str | int):
        assert json.loads(text)["one"] in (one, str(one))


@pytest.mark.parametrize(
    "character", ["\n", "\r", "\x1b", "\x7f", "\x85", "\x9b", "\u2028", "\u202e", "\ud800"]
)
def test_control_characters_are_escaped(character: str) -> None:
    rendered = log.render(None, "info", {"event": f"a{character}b"})
    assert character not in rendered.decode()[:-1]
    assert json.loads(rendered)["event"] == f"a{character}b"


def test_what_can_t_be_shown_costs_no_line() -> None:
    class Unwilling:
        def __str__(self) -> str:
            raise RuntimeError

        __repr__ = __str__

    loop: list[object] = []
    loop.append(loop)
    for value in (Unwilling(), loop, float("nan"), {1: 2, (1, 2): 3}, {"a": Unwilling()}):
        line = json.loads(log.render(None, "info", {"event": "x", "value": value, "other": 1}))
        assert line["event"] == "x"


def test_a_line_that_would_be_too_long_is_cut_and_still_parses() -> None:
    event: dict[str, Any] = {"event": "x", "key": "acme", "raw": "1" * 65_535}
    rendered = log.render(None, "info", event | {f"more{n}": "\x00" * 65_535 for n in range(50)})
    line = json.loads(rendered)
    assert line["key"] == "acme"
    assert len(line["raw"]) == log.LONGEST_VALUE
    assert len(rendered) < 300_000


# Numbers


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("+81312345678", "…5678"),
        ("0312345678", "…5678"),
        ("03-1234-5678", "…5678"),
        ("184-03-1234-5678", "…5678"),
        ("０３１２３４５６７８", "…５６７８"),
        ("tel:+81-3-1234-5678;phone-context=+81", "…5678"),
        ("sip:0312345678@192.0.2.10:5060;user=phone", "…5678"),
        ("sip:0312345678;npdi@example.jp", "…5678"),
        ("sip:0312345678:9999secret@example.jp", "…5678"),
        ('"0312345678" <sip:0398765432@192.0.2.1>;tag=1234567', "…5432"),
        ('"0312345678" <sip:anonymous@example.jp>', "…"),
        ("%30312345678", "…5678"),
        ("12345", "…2345"),
        ("1234", "1234"),
        ("110", "110"),
        ("sip:110@gate", "sip:110@gate"),
        ("sip:110@192.0.2.10", "…110"),
        ("anonymous", "anonymous"),
        ("", ""),
    ],
)
def test_a_number_shows_its_last_four_digits(text: str, masked: str) -> None:
    assert log.mask_number(text) == masked


@given(
    st.sampled_from(["", "+", "tel:", "sip:", "<sip:", '"x" <tel:+', "184-", " "]),
    st.lists(st.text("0123456789０１２３４５６７８９", min_size=1), min_size=1),
    st.sampled_from("-. ()/"),
    st.sampled_from(["", "@host", "@192.0.2.1:5060", ">", ";ext=12345", "?x=99999"]),
)
def test_no_more_than_four_digits_are_ever_shown(head: str, groups: list[str], gap: str, tail: str) -> None:
    masked = log.mask_number(head + gap.join(groups) + tail)
    shown = [c for c in masked if c.isdigit()]
    assert len(shown) <= 4
    if masked.startswith("…"):
        assert "".join(shown) == "".join(c for c in head + "".join(groups) if c.isdigit())[-4:]


@given(st.text())
def test_no_text_shows_more_than_four_digits(text: str) -> None:
    assert sum(map(str.isdigit, log.mask_number(text))) <= 4


def test_the_fields_that_hold_numbers_are_masked_and_no_other() -> None:
    fields: dict[str, Any] = dict.fromkeys(log.NUMBER_FIELDS, "+81312345678")

    def write(logger: log.Log) -> None:
        logger.info("call", **fields, call_id="1234567890@host", value=123456789)
        logger.info("call", raw=b"0312345678", canonical=None, number=312345678, dialled=["0312345678"])

    first, second = lines(write)
    assert {first[name] for name in log.NUMBER_FIELDS} == {"…5678"}
    assert (first["call_id"], first["value"]) == ("1234567890@host", 123456789)
    assert (second["raw"], second["canonical"], second["number"], second["dialled"]) == (
        "…5678",
        None,
        "…5678",
        ["…5678"],
    )
    [full] = lines(lambda logger: logger.info("call", **fields), full_numbers=True)
    assert {full[name] for name in log.NUMBER_FIELDS} == {"+81312345678"}


# The writer


def test_a_reader_that_stands_still_stops_nobody_and_what_is_lost_is_counted() -> None:
    reading, writing = os.pipe()
    lost: list[int] = []
    writer = log.LineWriter(writing, bound=100_000, on_lost=lost.append)
    line = b"x" * 99 + b"\n"
    total = 20_000

    def flood() -> None:
        for _ in range(total):
            writer.put(line)

    caller = threading.Thread(target=flood, daemon=True)
    caller.start()
    caller.join(LONG)
    assert not caller.is_alive()
    # A pipe holds 64 KB and the writer 100 KB: far less than what was logged.
    assert sum(lost) > total / 2

    got = bytearray()

    def read() -> None:
        while data := os.read(reading, 65536):
            got.extend(data)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    assert writer.close(LONG)
    os.close(writing)
    reader.join(LONG)
    os.close(reading)
    assert bytes(got) == line * (len(got) // 100)
    assert len(got) // 100 + sum(lost) == total


async def test_the_loop_turns_on_while_nobody_reads_the_log() -> None:
    reading, writing = os.pipe()
    lost: list[int] = []
    log.configure("info", False, stream=writing, on_lost=lost.append)
    logger = log.get_logger()
    async with asyncio.timeout(LONG):
        while not lost:
            for _ in range(100):
                logger.info("call", filler="x" * 1000)
            await asyncio.sleep(0)
    assert not log.close(0.01)
    os.close(reading)  # the writer's wait ends with an error, which it takes calmly
    os.close(writing)


def test_a_reader_that_has_gone_is_no_error_to_who_logs() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    lost: list[int] = []
    log.configure("info", False, stream=writing, on_lost=lost.append)
    log.get_logger().info("one")
    assert log.close(LONG)
    os.close(writing)
    assert sum(lost) == 1
    log.get_logger().info("after the close: nowhere to go")


def test_a_stream_made_non_blocking_by_others_still_gets_every_line() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    writer = log.LineWriter(writing)
    for n in range(20_000):
        assert writer.put(b"%019d\n" % n)
    got = bytearray()

    def read() -> None:
        while data := os.read(reading, 65536):
            got.extend(data)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    assert writer.close(LONG)
    os.close(writing)
    reader.join(LONG)
    os.close(reading)
    assert bytes(got) == b"".join(b"%019d\n" % n for n in range(20_000))


def test_what_was_written_makes_room_again() -> None:
    reading, writing = os.pipe()
    lost: list[int] = []
    writer = log.LineWriter(writing, bound=1000, on_lost=lost.append)
    for _ in range(50):
        assert writer.put(b"x" * 200)
        assert os.read(reading, 200) == b"x" * 200
    assert writer.close(LONG)
    assert lost == []
    os.close(writing)
    os.close(reading)


def test_who_logs_from_within_the_writer_does_not_lock_it() -> None:
    """A finalizer can log from anywhere, also from inside `put` of the same thread."""
    out = io.BytesIO()
    writer = log.LineWriter(out)
    done = threading.Event()

    def both() -> None:
        with writer._lock:
            writer.put(b"within\n")
        done.set()

    threading.Thread(target=both, daemon=True).start()
    assert done.wait(LONG)
    assert writer.close(LONG)
    assert out.getvalue() == b"within\n"


PROGRAM = """
from callgate.net import log
log.configure("info", False)
logger = log.get_logger()
for n in range({lines}):
    logger.info("line", n=n, filler="x" * 200)
"""


def test_everything_is_out_when_the_process_ends() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(lines=3000)], capture_output=True, timeout=LONG
    )
    assert done.stderr == b""
    assert [json.loads(line)["n"] for line in done.stdout.splitlines()] == list(range(3000))


def test_a_process_whose_log_nobody_reads_ends_all_the_same() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(lines=3000)], stdout=subprocess.PIPE
    ) as process:
        assert process.wait(LONG) == 0
