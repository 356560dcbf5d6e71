"""Lists of numbers: classes, countries, prefixes, numbers and patterns, and the longest match of a number in them.

An entry of a list is one of

- a class of numbers: `international_mobile`
- a country of ISO 3166: `country:GB`
- the first digits of numbers, or all of them: `+4479`, `0990`, `03-1234-5678`, `0033`, `#7119`
- a pattern for whole numbers: `0[36]XXXXXXXX`; `X` is any digit, `[36]` and `[2-5]` one of several; a `*` at the end
  stands for whatever follows

Every entry becomes a few look-ups in a table, whose number does not grow with the list: a pattern is no regular
expression and can't run away. Numbers are compared in their canonical form (`0990` is `+81990`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

from callgate.numbers import CLASSES, EMERGENCY, JAPAN, Number, country_of

CLASS, COUNTRY, DIGITS = 1, 2, 10
"""How long a match counts: a class, a country, and DIGITS + n for n digits. 0: no match."""
LONGEST = 40
"""Characters of one entry. No number is longer."""
MOST_FORMS = 64
"""Different forms of patterns in one list: each costs a look-up."""
MOST_SPELLED = 10_000
"""Digit strings that the sets of one pattern may stand for."""
MANY_SHARDS = 1024
"""A list of millions is spread over so many dicts, so that none is ever copied in one go while calls wait for it."""

DROP = str.maketrans("", "", " -().\t")
PLAIN = re.compile(r"\+?[0-9#*]{1,32}\Z")
ITEM = re.compile(r"[0-9X]|\[[0-9-]{1,20}\]")
PATTERN = re.compile(r"(?P<plus>\+?)(?P<items>(?:[0-9X]|\[[0-9-]{1,20}\])+)(?P<open>\*?)\Z")
STRAY = re.compile(r"\.(?![0-9X\[])")
"""A dot that separates nothing: `0.*` is a regular expression, and none is meant here."""
OUTSIDE = re.compile(r"(\[[^\]]*\])|[ ().\t-]")
"""Separators that are not inside a set of digits."""
COUNTRY_CODE = re.compile(r"country:([A-Za-z]{2})\Z")


class EntryError(ValueError):
    """An entry that can't be read: the text says what is wrong with it."""


class Match(NamedTuple):
    """`length`: how well an entry fits (`CLASS`, `COUNTRY`, `DIGITS` + n), 0: not at all. `entry`: in words."""

    length: int
    entry: str = ""


NONE = Match(0)


class Table:
    """Entries of one list. Filled once, then only read, by as many rules as like.

    `shards`: 1 for the handful that stand in a config, `MANY_SHARDS` for a file. `mark` stands for what is in it: two
    tables with the same mark are equal.
    """

    __slots__ = ("_forms", "_mask", "_shards", "classes", "count", "countries", "lengths", "mark")

    def __init__(self, shards: int = 1) -> None:
        self.classes: set[str] = set()
        self.countries: set[str] = set()
        self.lengths: tuple[int, ...] = ()
        self.count = 0
        self.mark = ""
        self._mask = shards - 1
        # Values are None, so that the garbage collector never walks through them.
        self._shards: list[dict[str, None]] = [{} for _ in range(shards)]
        self._forms: dict[tuple[int, tuple[int, ...], bool], dict[str, str]] = {}

    def __len__(self) -> int:
        return self.count

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Table) and bool(self.mark) and self.mark == other.mark)

    def __hash__(self) -> int:
        return hash(self.mark)

    def add(self, text: str) -> None:
        """Take in an entry as it is written. Raises `EntryError`."""
        self.count += 1
        entry = text.strip()
        if len(entry) > LONGEST:
            raise EntryError(f"longer than {LONGEST} characters")
        if entry in CLASSES:
            if entry in EMERGENCY:
                raise EntryError("emergency numbers are judged before every list; leave it out")
            self.classes.add(entry)
        elif entry.startswith("country:"):
            self._add_country(entry)
        elif PLAIN.match(bare := entry.translate(DROP)) and not STRAY.search(entry):
            self.add_digits(bare)
        else:
            self._add_pattern(entry)

    def add_digits(self, digits: str) -> None:
        """Take in the first digits of numbers: `+` and digits, or digits, `#` and `*`, without separators."""
        if digits[-1] == "*" and digits[:-1].removeprefix("+").isdigit():
            digits = digits[:-1]  # 0990* says the same as 0990
        prefix = canonical(digits)
        length = len(prefix)
        if length not in self.lengths:
            self.lengths = tuple(sorted((*self.lengths, length), reverse=True))
        self._shards[hash(prefix) & self._mask][prefix] = None

    def _add_country(self, entry: str) -> None:
        found = COUNTRY_CODE.match(entry)
        if found is None:
            raise EntryError("a country is written as country:GB, with the two letters of ISO 3166")
        self.countries.add(found[1].upper())

    def _add_pattern(self, entry: str) -> None:
        found = PATTERN.match(OUTSIDE.sub(r"\1", entry).replace("x", "X"))
        if found is None or STRAY.search(entry.upper()):
            raise EntryError(
                f"`{_shown(entry)}` is no class, no country:XX, no number and no pattern such as 0[36]XXXXXXXX"
            )
        sets = [_choices(item) for item in ITEM.findall(found["items"])]
        if not found["plus"]:
            if sets[0] != "0" or sets[1:2] == ["0"]:
                raise EntryError(
                    f"`{_shown(entry)}`: a pattern begins with 0 and an area, or with + and a country code"
                )
            sets = [*JAPAN.country_code, *sets[1:]]
        fixed = [n for n, choices in enumerate(sets) if len(choices) < 10]
        spelled = 1
        for n in fixed:
            spelled *= len(sets[n])
        if spelled > MOST_SPELLED:
            raise EntryError(
                f"`{_shown(entry)}` stands for {spelled} beginnings; write several patterns with smaller sets"
            )
        # Places in the canonical number, whose first character is the plus.
        form = (len(sets) + 1, tuple(n + 1 for n in fixed), bool(found["open"]))
        if form not in self._forms and len(self._forms) >= MOST_FORMS:
            raise EntryError(
                f"more than {MOST_FORMS} forms of patterns in one list; prefixes are not limited"
            )
        table = self._forms.setdefault(form, {})
        for digits in product(*(sets[n] for n in fixed)):
            table["".join(digits)] = entry

    def digits(self, text: str) -> Match:
        """The longest match of a canonical number, or of another string of digits, among prefixes and patterns."""
        best = NONE
        shards, mask, most = self._shards, self._mask, len(text)
        for length in self.lengths:
            if length <= most and (prefix := text[:length]) in shards[hash(prefix) & mask]:
                best = Match(DIGITS + length - (text[0] == "+"), prefix)
                break
        if not self._forms:
            return best
        for (length, places, opened), table in self._forms.items():
            if (len(text) == length or (opened and len(text) > length)) and text[0] == "+":
                entry = table.get("".join([text[n] for n in places]))
                if entry is not None and DIGITS + len(places) > best.length:
                    best = Match(DIGITS + len(places), entry)
        return best

    def find(self, text: str, cls: str) -> Match:
        """The best match of a number (canonical, or another string of digits) of a class."""
        if text:
            found = self.digits(text)
            if found.length:
                return found
            if self.countries and text[0] == "+" and (country := country_of(text)) in self.countries:
                return Match(COUNTRY, f"country:{country}")
        return Match(CLASS, cls) if cls in self.classes else NONE

    def retire(self) -> Iterator[None]:
        """Let go of the entries piece by piece: a million freed in one go would hold up calls. After the last use."""
        while self._shards:
            self._shards.pop()
            yield


def _choices(item: str) -> str:
    """The digits that an item of a pattern stands for."""
    if item == "X":
        return "0123456789"
    if item[0] != "[":
        return item
    inner, found = item[1:-1], ""
    at = 0
    while at < len(inner):
        if inner[at + 1 : at + 2] == "-" and inner[at + 2 : at + 3].isdigit() and inner[at].isdigit():
            first, last = int(inner[at]), int(inner[at + 2])
            found += "".join(map(str, range(first, last + 1)))
            if first > last:
                raise EntryError(f"{item}: write the smaller digit first")
            at += 3
        elif inner[at].isdigit():
            found += inner[at]
            at += 1
        else:
            raise EntryError(f"{item}: digits, or two with a dash between, such as [2-5]")
    if not found:
        raise EntryError(f"{item} is empty")
    return "".join(sorted(set(found)))


def _shown(entry: str) -> str:
    return (
        entry if entry.isascii() and entry.isprintable() else entry.encode("unicode_escape").decode("ascii")
    )


def canonical(digits: str) -> str:
    """The form in which first digits are compared: national and international ones with a plus and country code;
    00XY, 1XY and what has # or * in it as dialled."""
    abroad, home = JAPAN.international_prefix, JAPAN.plus
    if digits.startswith(abroad):
        digits = "+" + digits[len(abroad) :].removeprefix("+")
    if digits[:1] == "+":
        return home + digits[len(home) + 1 :] if digits.startswith(home + "0") else digits
    if digits[:1] == "0" and digits[:2] != "00" and digits.isdigit():
        return home + digits[1:]
    return digits


class NumberList:
    """Several tables that stand for one list: what is written in the config, and its files."""

    __slots__ = ("tables",)

    def __init__(self, *tables: Table) -> None:
        self.tables = tuple(table for table in tables if len(table))

    def __bool__(self) -> bool:
        return bool(self.tables)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NumberList) and self.tables == other.tables

    def __hash__(self) -> int:
        return hash(self.tables)

    def __len__(self) -> int:
        return sum(map(len, self.tables))

    def find(self, text: str, cls: str) -> Match:
        """The best match of one text in all of them."""
        if len(self.tables) == 1:
            return self.tables[0].find(text, cls)
        best = NONE
        for table in self.tables:
            found = table.find(text, cls)
            if found.length > best.length:
                best = found
        return best

    def digits(self, text: str) -> Match:
        """The best match among prefixes and patterns alone."""
        return max((table.digits(text) for table in self.tables), default=NONE) if text else NONE

    def in_any_reading(self, number: Number) -> Match:
        """The best match of the number or of anything that it could be read as."""
        best = self.find(number.canonical, number.cls)
        readings = number.readings
        if len(readings) > 1 or (readings and readings[0].cls != number.cls):
            for reading in readings:
                found = self.find(canonical(reading.text), reading.cls)
                if found.length > best.length:
                    best = found
        return best
