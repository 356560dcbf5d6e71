"""What stands behind a row: of a key its contract and limits, of a call its life and why it went as it did."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

from callgate.cli.calls import lines
from callgate.cli.control import Row, second
from callgate.cli.top.link import Link
from callgate.cli.top.state import Open, Page, State

UNKNOWN = "the journal does not tell more of it"


async def page(opened: Open, state: State, link: Link, state_dir: Path) -> Page:
    """Raises Away or Refused."""
    row = opened.row
    if opened.pane == "keys":
        arithmetic = await link.ask("keys.arithmetic", key=row["key"])
        refusals = [one for one in state.panes["refusals"].rows if one["key"] == row["key"]]
        return Page(f"key {row['key']}", [*key_lines(row, arithmetic), *refusal_lines(refusals)])
    words = await asyncio.to_thread(_life, state_dir, row["call_id"])
    about = call_lines(row) if opened.pane == "calls" else refusal_lines([row])
    return Page(f"call {row['call_id']}", [*about, "", *(words or [UNKNOWN])])


def _life(state_dir: Path, call_id: str) -> list[str]:
    """As `callgate explain` tells it."""
    from callgate.store.story import in_words, lives_of

    return [line for life in lives_of(state_dir, call_id) for line in in_words(life)]


def key_lines(row: Row, arithmetic: Row) -> Iterator[str]:
    state = f"{row['state']}, shadow mode" if row["mode"] == "shadow" else row["state"]
    yield f"trunk {row['trunk']}, contract {arithmetic['contract']}; {state}"
    if row["state"] == "suspended":
        until = f"until {second(row['until'])}" if row["until"] else "until it is resumed"
        yield f"suspended since {second(row['since'])} {until} by {row['by']}: {row['reason'] or 'no reason given'}"
    if row["slowed"]:
        yield f"slowed by {row['slowed']} steps: its trunk is congested (K11)"
    yield f"calls: {row['outbound']} out, {row['inbound']} in; {row['queued']} wait; {row['refused']} refused so far"
    yield ""
    for name, one in row["limits"].items():
        limit = "no limit" if one["limit"] is None else f"of {one['limit']}"
        yield f"  {one['rule']:<6}{name:<20}{one['used']:>6} {limit}"
    yield ""
    yield from (f"  {line}" for line in arithmetic["lines"])


def call_lines(row: Row) -> Iterator[str]:
    yield f"{row['direction']} call of {row['key']}, {row['from'] or '?'} to {row['to'] or '?'}"
    yield f"{row['state']} since {second(row['since'])}, gateway {row['gateway'] or '-'}, record {row['id']}"
    yield f"holds {lines(row['lines']) or 'no lines'}"
    marks = [name for name, is_so in (("recorded", row["recorded"]), ("on hold", row["on_hold"])) if is_so]
    if row["waited_seconds"]:
        marks.append(f"waited {row['waited_seconds']:.1f} s for its turn")
    if marks:
        yield ", ".join(marks)


def refusal_lines(rows: list[Row]) -> Iterator[str]:
    for row in rows:
        count = "" if row["value"] is None else f" {row['value']}/{row['limit']}"
        call = f"{row['direction']} call of {row['key']}, {row['from'] or '?'} to {row['to'] or '?'}"
        yield ""
        yield f"{second(row['at'])}  {call}"
        yield f"  refused by {row['rule']}{count} with {row['code'] or 'no answer'}: {row['reason']}"
