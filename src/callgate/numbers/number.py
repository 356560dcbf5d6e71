"""What a dialled string turned out to be."""

from __future__ import annotations

from typing import NamedTuple

from callgate.numbers.classes import EMERGENCY


class Reading(NamedTuple):
    """One way to read the string on its way to the canonical number, and the class that it has read so."""

    text: str
    cls: str


class Number(NamedTuple):
    """A judged number.

    `dialled` is the raw text: of a SIP URI its user part, else all of it; it is what is forwarded.
    `canonical` is E.164 with a plus where one exists (`+81312345678`, `+81120123456`), else the digits
    (`110`, `#7119`), else a URI's user part or URN, `""` where nothing can be read. `cls` is a name of
    `CLASSES`: the strictest of all readings. `carrier_prefix` is the 00XY that was dialled. `steps` are what
    was done, one by one. `note` says what is wrong, in plain ASCII, where the class alone doesn't.
    """

    dialled: str
    canonical: str
    cls: str
    carrier_prefix: str | None = None
    steps: tuple[str, ...] = ()
    readings: tuple[Reading, ...] = ()
    note: str = ""

    @property
    def emergency(self) -> bool:
        """Whether any reading is an emergency, foreign ones and suspects too, even of an invalid string."""
        return self.cls in EMERGENCY or any(reading.cls in EMERGENCY for reading in self.readings)
