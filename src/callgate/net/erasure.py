"""Erasing personal data (T12) wherever the gate keeps it, with a proof in the audit log.

The proof holds no number: the audit log can't be changed any more, and would keep what was to be erased.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from callgate.cdr.database import words
from callgate.cdr.erase import Erased, Selection
from callgate.net.log import mask_number

Note = Callable[..., Any]
"""`Audit.note`, or `Trail.note`."""


class Holder(NamedTuple):
    """Another place with personal data: `erase(selection)` says how many things it has erased there. `later`: what
    can't be erased there, and when that goes by itself; empty where there is no such thing."""

    name: str
    erase: Callable[[Selection], int] | None = None
    later: str = ""


def journal(keep_hours: float) -> Holder:
    """The stories that `explain` tells."""
    later = (
        f"what `explain` tells of calls that have ended goes within {keep_hours:g} h (`journal.keep_hours`)"
    )
    return Holder("journal", later=later)


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
            if holder.erase is not None:
                done[holder.name] = holder.erase(selection)
        except Exception as error:
            faults.append(f"{holder.name}: {words(error)}")
        if holder.later:
            later.append(holder.later)
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
