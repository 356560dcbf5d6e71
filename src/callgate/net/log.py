"""The log: JSON lines on stdout, one per call and per change of state.

A line is made where it is logged and written by a thread, so that a reader who stops reading never stops a
call: what does not fit any more is counted and dropped. Numbers show their last four digits only.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import queue
import re
import select
import sys
import threading
import time
from collections.abc import Callable, Mapping, MutableMapping
from datetime import UTC, datetime
from typing import IO, Any, Final, Protocol, cast

import structlog

LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
NUMBER_FIELDS: Final = ("raw", "canonical", "caller", "caller_raw", "dialled", "number", "user")
QUEUE_BYTES: Final = 8 << 20
LONGEST_VALUE: Final = 2000
"""Characters of one value in a line that would be too long otherwise."""
LONGEST_LINE: Final = 32_000
GATHER_SECONDS: Final = 0.1
"""The writer lets lines gather this long: one wake-up and one write for all of them, not one each."""


class Log(Protocol):
    """What `get_logger` returns; fields are keyword arguments of any JSON type."""

    def debug(self, event: str, **fields: Any) -> Any: ...
    def info(self, event: str, **fields: Any) -> Any: ...
    def warning(self, event: str, **fields: Any) -> Any: ...
    def error(self, event: str, **fields: Any) -> Any: ...
    def critical(self, event: str, **fields: Any) -> Any: ...
    def exception(self, event: str, **fields: Any) -> Any: ...
    def bind(self, **fields: Any) -> Log: ...


class LineWriter:
    """Writes bytes to a stream from a thread of its own.

    `put` never waits: at most `bound` bytes are held for a slow reader, lines beyond are dropped and
    `on_lost(count)` is called (from the thread that dropped them).
    """

    def __init__(
        self, stream: IO[Any] | int, bound: int = QUEUE_BYTES, on_lost: Callable[[int], None] | None = None
    ) -> None:
        self._write = _writer_for(stream)
        self._bound = bound
        self._on_lost = on_lost
        # Both can be taken again by the thread that holds them: a finalizer may log from within `put`.
        self._lock = threading.RLock()
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._awake = False
        self._closed = False
        self._lines: list[bytes] = []
        self._held = 0  # bytes in `_lines` and in the batch being written
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def put(self, line: bytes) -> bool:
        """Hand over a line, its end included; False where it was dropped."""
        with self._lock:
            fits = self._held + len(line) <= self._bound and not self._closed
            if fits:
                self._lines.append(line)
                self._held += len(line)
                if not self._awake:
                    self._awake = True
                    self._wake.put(None)
        if not fits:
            self._lose(1)
        return fits

    def close(self, deadline: float = 2.0) -> bool:
        """Write what is held, for `deadline` seconds at most; True where all of it went out."""
        with self._lock:
            self._closed = True
            self._wake.put(None)
        self._thread.join(deadline)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            self._wake.get()
            if not self._closed:
                time.sleep(GATHER_SECONDS)
            with self._lock:
                closed = self._closed
                self._awake = False
                lines, self._lines = self._lines, []
            if lines:
                batch = b"".join(lines)
                try:
                    self._write(batch)
                except Exception:  # the reader is gone, the disk is full, the stream was closed
                    self._lose(len(lines))
                with self._lock:
                    self._held -= len(batch)
            if closed:  # and nothing was taken in since
                return

    def _lose(self, count: int) -> None:
        if self._on_lost is not None:
            self._on_lost(count)


def _writer_for(stream: IO[Any] | int) -> Callable[[bytes], None]:
    """How to write bytes to a descriptor, a file, or an object that only looks like one (in tests)."""
    try:
        fd = stream if isinstance(stream, int) else stream.fileno()
    except (OSError, AttributeError):
        return _to_object(cast("IO[Any]", stream))

    def to_fd(data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(fd, rest) :]
            except BlockingIOError:  # someone who shares the stream made it non-blocking
                select.select((), (fd,), ())

    return to_fd


def _to_object(stream: IO[Any]) -> Callable[[bytes], None]:
    def write(data: bytes) -> None:
        try:
            stream.write(data.decode())
        except TypeError:
            stream.write(data)
        with contextlib.suppress(AttributeError):
            stream.flush()

    return write


# Numbers


def mask_number(text: str) -> str:
    """The last four digits of a number: `+81312345678` → `…5678`; also out of `tel:` and `sip:` URIs.

    What has four digits or less, or none, is no one's number and stays as it is.
    """
    if _plain_number(text):
        return "…" + text[-4:]
    user = text.partition("<")[2] if "<" in text else text
    user = _END_OF_USER.split(_SCHEME.sub("", user, count=1), maxsplit=1)[0]
    digits = "".join(filter(str.isdigit, user))
    # Digits elsewhere (a display name, a host) may be a number too: they are left out, not shown.
    if len(digits) <= 4 and sum(map(str.isdigit, text)) <= 4:
        return text
    return "…" + digits[-4:]


_plain_number = re.compile(r"\+?[0-9]{5,}").fullmatch
_SCHEME = re.compile(r"\s*[A-Za-z][A-Za-z0-9+.-]*:")
_END_OF_USER = re.compile(r"[@;:?>]")


def mask_numbers(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """structlog processor: `mask_number` on the fields of `NUMBER_FIELDS`."""
    for field in NUMBER_FIELDS:
        if field in event:
            event[field] = _masked(event[field])
    return event


def _masked(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, list | tuple):
        return [_masked(v) for v in value]
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return mask_number(str(value))


# Lines


class _Stamp:
    """Wall-clock time as RFC 3339, UTC, microseconds; the part above a second is made once per second."""

    __slots__ = ("_second", "_text")

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def __call__(self, ns: int) -> str:
        second, rest = divmod(ns, 1_000_000_000)
        if second != self._second:
            self._text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S.")
            self._second = second
        return f"{self._text}{rest // 1000:06d}Z"


_stamp = _Stamp()
utc: Final[Callable[[int], str]] = _Stamp()
"""Nanoseconds since 1970 as RFC 3339: `2026-01-31T12:00:00.000000Z`."""
_encode = json.JSONEncoder(
    ensure_ascii=False, separators=(",", ":"), allow_nan=False, check_circular=False, default=str
).encode
# JSON escapes the control characters of ASCII. These are left: line ends and terminal controls of Unicode,
# the marks that turn the direction of text, and lone surrogates, which UTF-8 can't write.
_unsafe = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def render(_logger: object, method: str, event: MutableMapping[str, Any]) -> bytes:
    """structlog processor, the last one: the event as one line of UTF-8. Never raises."""
    line = {
        "timestamp": _stamp(time.time_ns()),
        "level": "error" if method == "exception" else method,
        "event": event.pop("event", ""),
        **event,
    }
    try:
        text = _encode(line)
    except Exception:  # a loop, a NaN, a key or a value that JSON has no form for
        text = _encode({str(name): _plain(value) for name, value in line.items()})
    if len(text) > LONGEST_LINE:
        text = _shortened(line)
    if not text.isascii() or "\x7f" in text:
        text = _unsafe.sub(_escaped, text)
    return text.encode() + b"\n"


def _shortened(line: Mapping[str, Any]) -> str:
    """Values cut, and fields left out from the one on that would be too much."""
    kept: dict[str, str] = {}
    room = LONGEST_LINE
    for name, value in line.items():
        name, value = str(name)[:LONGEST_VALUE], _plain(value)[:LONGEST_VALUE]
        room -= len(name) + len(value)
        if room < 0:
            break
        kept[name] = value
    return _encode(kept)


def _plain(value: Any) -> str:
    try:
        return str(value)
    except Exception as error:  # a value that can't show itself must not cost the line
        return f"({type(value).__name__}: {type(error).__name__})"


def _escaped(match: re.Match[str]) -> str:
    return f"\\u{ord(match.group()):04x}"


class _Sink:
    """Where finished lines go. It stays the same object over `configure`, so that loggers made before keep
    working."""

    def __init__(self) -> None:
        self.writer: LineWriter | None = None

    def write(self, line: bytes) -> None:
        if self.writer is not None:
            self.writer.put(line)

    debug = info = warning = error = critical = exception = msg = write


_sink = _Sink()


class _FromLogging(logging.Handler):
    """Lines of libraries (asyncio's among them) in the same form."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            event: dict[str, Any] = {"event": record.getMessage(), "logger": record.name}
            if record.exc_info:
                event["exception"] = logging.Formatter().formatException(record.exc_info)
            level = record.levelname.lower()
            _sink.write(render(None, level if level in LEVELS else "error", event))
        except Exception:
            self.handleError(record)


def configure(
    level: str,
    full_numbers: bool,
    stream: IO[Any] | int | None = None,
    on_lost: Callable[[int], None] | None = None,
) -> None:
    """Set up the log of this process: `level` of `LEVELS`, numbers masked unless `full_numbers`, to `stream`
    (stdout). `on_lost(count)` hears of lines that nobody read in time. ValueError for an unknown level."""
    if level not in LEVELS:
        raise ValueError(f"log level {level!r}: one of {', '.join(LEVELS)}")
    close()
    _sink.writer = LineWriter(sys.stdout if stream is None else stream, on_lost=on_lost)
    processors: list[Any] = [structlog.processors.format_exc_info, render]
    if not full_numbers:
        processors.insert(0, mask_numbers)
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=lambda *_: _sink,
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    for handler in [h for h in root.handlers if isinstance(h, _FromLogging)]:
        root.removeHandler(handler)
    root.addHandler(_FromLogging(logging.WARNING))


def get_logger(**fields: Any) -> Log:
    """A logger; `fields` stand on each of its lines. One made before `configure` takes its settings at its
    first line, one made after it has them from the start, which is a little faster."""
    logger = structlog.get_logger(**fields)
    return cast("Log", logger.bind() if structlog.is_configured() else logger)


def close(deadline: float = 2.0) -> bool:
    """Write what is still held, for `deadline` seconds at most (also done at exit)."""
    writer, _sink.writer = _sink.writer, None
    return writer is None or writer.close(deadline)


atexit.register(close)
