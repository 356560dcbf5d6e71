"""The lists of the live view (`callgate top`), for the gate that sorts them and for the view that asks it: no more, so
that the view need not load the gate.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

SORTS: Final[Mapping[str, tuple[str, ...]]] = {
    "keys": ("use", "key", "calls", "queued", "refused", "state"),
    "calls": ("since", "key", "from", "to", "state"),
    "refusals": ("at", "key", "rule", "to"),
}
"""List → what it can be sorted by, the usual first. Numbers begin with the highest, times with the latest, states with
suspended and up, words with A; `…_reverse` turns that round."""
PANES: Final = tuple(SORTS)
