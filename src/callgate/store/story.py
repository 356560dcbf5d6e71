"""The life of a call in words and as data, from the journal, whether the gate runs or not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from callgate.proxy.journal import OVER, QUEUED, RINGS, TRYING, UP, Row, pack, record_of, unpack
from callgate.proxy.record import CallRecord
from callgate.store.recall import FOLDER, Start, find, read_calls

NONE = pack(())
PLACES = {QUEUED: (0, 8, 9), TRYING: (18, 20, 21), UP: (14, 16, 18)}
"""Where in a row the lines that it holds (0: none), the record and the story are."""
STATES = {TRYING: "trying", RINGS: "ringing", QUEUED: "queued", OVER: "ended"}


class Life(NamedTuple):
    """What is known of one leg. Times are the gate's; `utc` is what they lack to UTC."""

    leg: int
    call_id: str
    state: str
    record: CallRecord
    story: Sequence[tuple[Any, ...]]
    lines: bytes
    utc: float


def lives_of(state_dir: Path, call_id: str) -> list[Life]:
    """Every leg with that Call-ID, oldest first. Raises OSError where none is found and not all could be read."""
    wanted = call_id.encode("utf-8", "surrogateescape")
    found: dict[int, Life] = {}
    fault: OSError | None = None
    try:
        for start, row in find(state_dir, wanted):
            if start is not None and len(row) == 7 and row[1] == OVER and row[4] == wanted:
                _, _, leg, _, _, record, story = row
                found[leg] = Life(
                    leg, call_id, "ended", record_of(record, start.fields), story, NONE, start.utc_offset
                )
    except OSError as error:
        fault = error
    kept, _, _ = read_calls(state_dir / FOLDER)
    if kept.start is not None:
        for life in _live(kept.calls, kept.start, wanted):
            found.setdefault(life.leg, life)
    if fault is not None and not found:
        raise fault
    return sorted(found.values(), key=lambda life: life.leg)


def _live(rows: Sequence[Row], start: Start, wanted: bytes) -> Iterator[Life]:
    """The calls that are not over."""
    found: dict[int, Life] = {}
    for row in rows:
        kind, leg = row[0], row[1]
        if kind == RINGS:
            if leg in found:
                life = found[leg]
                life.record.ringing_at = row[5]
                story = [*life.story, (row[5], "rings", 180)] if row[5] else life.story
                found[leg] = life._replace(state="ringing" if row[5] else life.state, story=story)
            continue
        lines_at, record_at, story_at = PLACES.get(kind, PLACES[UP])
        if len(row) <= story_at:
            continue  # damaged, or another program's
        call_id, record, story = row[5], row[record_at], row[story_at]
        lines = row[lines_at] if lines_at else NONE
        if call_id == wanted:
            name = call_id.decode("utf-8", "surrogateescape")
            state = STATES.get(kind, "up")
            known = record_of(record, start.fields)
            found[leg] = Life(leg, name, state, known, story, lines, start.utc_offset)
    yield from found.values()


# -- words -----------------------------------------------------------------------------------------------------


def _asks(packed: bytes) -> str:
    rules = unpack(packed)
    if not rules:
        return "no limit is asked"
    return "asks " + ", ".join(_rule(*rule) for rule in rules)


def _rule(rule: str, name: str, limit: int | None, size: float) -> str:
    what = name.rpartition("/")[2]
    if isinstance(size, int):
        most = "counted, no limit" if limit is None else f"at most {limit}"
        return f"{rule} {what} ({most}{f', takes {size}' if size != 1 else ''})"
    if limit is None:
        return f"{rule} {what} (within {size:g} s)"
    return f"{rule} {what} (at most {limit} in {size:g} s)"


def _granted(used: Sequence[tuple[str, int, int | None]]) -> str:
    counts = ", ".join(f"{rule} {value}/{'-' if limit is None else limit}" for rule, value, limit in used)
    return f"passes: {counts}" if counts else "passes"


WORDS: dict[str, Callable[..., str]] = {
    "asks": _asks,
    "granted": _granted,
    "tries": lambda name: f"INVITE to {name or 'a phone'}",
    "credentials": lambda name: f"INVITE with credentials to {name or 'a phone'}",
    "rings": lambda code: f"rings ({code})",
    "answers": lambda code, name: f"{name or 'a phone'} answers {code}",
    "silent": lambda name, why: f"{name or 'a phone'}: {why}",
    "cancels": lambda: "the caller gives up",
    "restart": lambda: "the gate has been started anew, and has taken the call up",
    "adopted": lambda: "the gate was started anew, and has found the call by what was said in it",
    "waits": lambda *over: (
        "waits in the queue" + (": {} would have been {}/{}".format(*over) if over else ", behind others")
    ),
    "recorded": lambda *hows: f"recording: said by {', '.join(hows)}",
    "stops": lambda *hows: f"recording: said no more by {', '.join(hows)}",
    "declined": lambda *over: "recording would start by this offer: 488, {} would be {}/{}".format(*over),
    "unrecorded": lambda *over: "goes on unrecorded: {} would be {}/{}".format(*over),
    "leaves": lambda seconds: f"leaves the queue after {seconds:.3f} s",
    "lost": lambda: "the gate has been started anew: what waited is told so, and not sent any more",
}
"""A step of a story (`Context.tell`) in words."""


def steps(life: Life) -> list[tuple[float, str, str]]:
    """(when, what, words), in order; the beginning and the end besides what the story holds."""
    record = life.record
    found = [(record.invite_at, "invite", "INVITE has come")]
    for at, what, *details in life.story:
        words = WORDS.get(what)
        try:
            text = words(*details) if words is not None else " ".join([what, *map(str, details)])
        except (TypeError, ValueError):
            text = " ".join([what, *map(str, details)])
        found.append((at, what, text))
    if record.verdict == "refused":
        counts = f" ({record.value}/{record.limit})" if record.limit else ""
        why = f"refused by {record.rule}{counts}: {record.reason}"
        found.append((record.end_at or record.invite_at, "refused", why))
    if record.answer_at is not None:
        found.append((record.answer_at, "answered", "answered"))
    if record.end_at is not None:
        by = f" by {record.ended_by}" if record.ended_by else ""
        code = f", {record.final_code}" if record.answer_at is None and record.final_code else ""
        why = f": {record.reason}" if record.reason and record.verdict != "refused" else ""
        found.append((record.end_at, "ended", f"ended{by}{code}{why}"))
    return sorted(found, key=lambda step: step[0])


def in_words(life: Life) -> Iterator[str]:
    """One leg for a person: nothing in it that a terminal would obey."""
    record = life.record
    number = record.canonical if record.canonical and record.canonical != record.raw else ""
    called = f"{record.raw}{f' = {number}' if number else ''}"
    about = f"{record.direction} call of {record.key} over {record.trunk}"
    yield printable(f"{life.call_id}: {about}, {record.caller_raw or '?'} to {called or '?'}")
    for at, _, words in steps(life):
        yield printable(f"  {_utc(at, life.utc)}  {words}")
    if life.state == "ended":
        yield printable(f"  outcome: {record.outcome}{_talked(record)}")
    else:
        held = ", ".join(f"{rule} {name}: {weight}" for rule, name, weight, _ in unpack(life.lines))
        yield printable(f"  it is {life.state}{f'; holds {held}' if held else ''}")


def _talked(record: CallRecord) -> str:
    if record.answer_at is None or record.end_at is None:
        return ""
    return f", {record.end_at - record.answer_at:.1f} s"


def as_dict(life: Life) -> dict[str, Any]:
    """One leg for a program."""
    record = life.record
    times = ("invite_at", "sent_at", "ringing_at", "answer_at", "end_at")
    named: dict[str, Any] = {}
    for name in sorted(CallRecord.__slots__):
        value = getattr(record, name, None)
        named[name] = (None if value is None else _utc(value, life.utc)) if name in times else value
    named["id"] = f"{life.leg:016x}"
    named["call_id"] = life.call_id
    named["state"] = life.state
    named["steps"] = [
        {"at": _utc(at, life.utc), "what": what, "text": text} for at, what, text in steps(life)
    ]
    return named


def _utc(at: float, offset: float) -> str:
    return datetime.fromtimestamp(at + offset, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def printable(text: str) -> str:
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in text)
