"""Erasing personal data (T12) wherever the gate keeps it, with a proof in the audit log.

The proof holds no number: the audit log can't be changed any more, and would keep what was to be erased.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from callgate.cdr.database import words
from callgate.cdr.erase import NUMBER_COLUMNS, Erased, Selection
from callgate.cdr.row import clean, written
from callgate.net.log import mask_number
from callgate.proxy.record import CallRecord
from callgate.store.forget import Forgotten, Wanted

LEFT: Final = (
    "calls that are up, or limits that still count, name it in the journal and get records when they end: erase once"
    " more after that"
)

Note = Callable[..., Any]
"""`Audit.note`, or `Trail.note`."""


class Holder(NamedTuple):
    """Another place with personal data: `erase(selection)` says how many things it has erased there, and in words what
    it can't erase yet, empty where there is no such thing."""

    name: str
    erase: Callable[[Selection], tuple[int, str]]


Forget = Callable[[Wanted, Sequence[bytes]], Forgotten]
"""`Journal.forget`, or that of a journal nobody writes."""


def journal(forget: Forget) -> Holder:
    """The stories that `explain` tells."""

    def erase(selection: Selection) -> tuple[int, str]:
        done = forget(of_record(selection), [one.encode() for one in selection.needles])
        return done.gone, LEFT if done.left else ""

    return Holder("journal", erase)


def traces(forget: Callable[[], int]) -> Holder:
    """Copies of messages (`Capture.forget`)."""
    return Holder("traces", lambda _: (forget(), ""))


def of_record(selection: Selection) -> Wanted:
    """The same as `Selection.matches`, of a record that is no row yet."""

    def wanted(record: CallRecord, utc: float) -> bool:
        return selection.matches(
            {name: clean(getattr(record, name)) for name in NUMBER_COLUMNS}
            | {"key": record.key, "invite_at": written(datetime.fromtimestamp(record.invite_at + utc, UTC))}
        )

    return wanted


class NotErased(Exception):
    """Something could not be erased; says what, and what was."""


def erase(
    selection: Selection,
    records: Callable[[Selection], Erased],
    note: Note,
    who: str,
    others: Iterable[Holder] = (),
) -> dict[str, Any]:
    """Erase, and write the proof. Takes a while: not for the loop. Raises ValueError for a selection of everything, and
    NotErased."""
    selection.check()
    done: dict[str, Any] = {}
    faults: list[str] = []
    later: list[str] = []
    try:
        done |= records(selection).row()
    except Exception as error:
        faults.append(f"records: {words(error)}")
    for holder in others:
        try:
            done[holder.name], left = holder.erase(selection)
        except Exception as error:
            faults.append(f"{holder.name}: {words(error)}")
        else:
            later += [left] if left else []
    proof = {"number": _masked(selection), "key": selection.key, "before": selection.before, **done}
    if faults:
        proof["not_erased"] = faults
    note(
        "erase",
        selection.key or "",
        after={name: one for name, one in proof.items() if one is not None},
        who=who,
    )
    if faults:
        raise NotErased("; ".join(faults))
    return done | {"later": later}


def _masked(selection: Selection) -> str | None:
    return mask_number(selection.numbers[0]) if selection.numbers else None
