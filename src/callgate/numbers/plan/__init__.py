"""The numbering plan: the data files in this folder, checked and put into tables when they are loaded."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from importlib.resources import files
from typing import Any, NamedTuple

import yaml

from callgate.numbers.abroad import line_of
from callgate.numbers.classes import CLASSES

Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

DIGITS = re.compile(r"[0-9]+")
HOME = "JP"
LEAK = re.compile(r"[0-9+#*]+")


class PlanError(ValueError):
    """A plan file that can't be used: names the file, the place in it and what to put right."""


class Entry(NamedTuple):
    """What numbers with a certain beginning are."""

    cls: str
    digits: frozenset[int]
    """How many digits the whole number has, trunk 0 included."""
    any_length: bool
    """The class holds whatever the length: no digit more or less gets a blocked service through."""
    prefix: str


class Abroad(NamedTuple):
    """A number of another country: its class, its digits without the plus, its country, and what is wrong with it."""

    cls: str
    digits: str
    country: str = ""
    note: str = ""


class Carrier(NamedTuple):
    """A prefix that selects a carrier, how it is called, and the step that says so."""

    prefix: str
    name: str

    @property
    def step(self) -> str:
        return f"carrier prefix {self.prefix}{f' ({self.name})' if self.name else ''}"


@dataclass(slots=True, frozen=True, eq=False)
class Plan:
    """All tables of one numbering plan, ready for a lookup. Digit strings carry no separators."""

    country_code: str
    plus: str
    """The country code behind a plus."""
    made_national: str
    """The step that takes it off."""
    context: bytes
    """The parameter of a tel URI that puts it in front."""
    context_steps: tuple[str, ...]
    abroad_home: Mapping[str, tuple[str, ...]]
    """What can stand before a number of this country in place of its 0 → the steps that take it off."""
    international_prefix: str
    caller_id_prefixes: Mapping[str, str]
    """Prefix → the step that takes it off. Each has three digits."""
    carrier_release: str
    exact: Mapping[str, str]
    """Whole dialled strings with a class of their own: emergency, foreign_emergency, emergency_suspect."""
    first4: Mapping[str, Entry]
    """The first four digits of a domestic number → its entry: the longest prefix, worked out beforehand."""
    areas: frozenset[str]
    """Area codes with their trunk 0."""
    short_codes: Mapping[str, str]
    carriers: Mapping[str, str]
    carrier_shapes: tuple[tuple[str, int], ...]
    countries: frozenset[str]
    networks: Mapping[str, str]
    alike: Mapping[str, str]
    """Country code → the class of its numbers where mobile phones have the same ones as fixed lines."""
    exact_digits: Mapping[str, int]
    least_digits: int
    most_digits: int

    def entry(self, national: str) -> Entry | None:
        """The entry of a domestic number with its trunk 0; None where no prefix fits."""
        return self.first4.get(national[:4])

    def complete(self, national: str) -> bool:
        """Whether this is a whole domestic number: a beginning that the plan knows, with all its digits."""
        entry = self.first4.get(national[:4])
        return entry is not None and len(national) in entry.digits and entry.cls != "unknown"

    def carrier(self, digits: str) -> Carrier:
        """The carrier prefix at the front of a string that begins with 00."""
        for length in range(min(6, len(digits)), 1, -1):
            if (name := self.carriers.get(digits[:length])) is not None:
                return Carrier(digits[:length], name)
        for prefix, length in self.carrier_shapes:
            if digits.startswith(prefix):
                return Carrier(digits[:length], "")
        return Carrier(digits, "")

    def country_code_of(self, digits: str) -> str:
        """The assigned country code that these digits begin with, else an empty string."""
        return next((digits[:n] for n in (3, 2, 1) if digits[:n] in self.countries), "")

    def abroad(self, digits: str) -> Abroad:
        """An E.164 number of another country, without its plus.

        The class is `unknown` for a country code that is not assigned, `invalid` for a length that can't be.
        """
        code = self.country_code_of(digits)
        if not self.least_digits <= len(digits) <= self.most_digits:
            size = "short" if len(digits) < self.least_digits else "long"
            return Abroad(
                "invalid", digits, note=f"+{digits[:3]}... is too {size} for an international number"
            )
        if code and len(digits) != self.exact_digits.get(code, len(digits)):
            return Abroad(
                "invalid",
                digits,
                note=f"a number of country code {code} has {self.exact_digits[code]} digits",
            )
        if not code:
            if (cls := self.networks.get(digits[:3])) is not None:
                return Abroad(cls, digits)
            return Abroad("unknown", digits, note=f"no country has the code +{digits[:3]}")
        line = line_of(code, digits[len(code) :])
        if line.cls == "international" and line.country and code in self.alike:
            return Abroad(self.alike[code], line.digits, line.country)
        return Abroad(line.cls, line.digits, line.country)


class _File:
    """One plan file while it is checked."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        try:
            data = yaml.load(text, Loader)
        except yaml.YAMLError as error:
            raise PlanError(f"{name}: not valid YAML: {error}") from None
        if not isinstance(data, dict):
            raise PlanError(f"{name}: must be a mapping")
        self.data: dict[str, Any] = data
        if not isinstance(self.take("source", str), str) or not isinstance(self.data.get("date"), date):
            raise PlanError(f"{name}: date: say of which day the data is, such as 2026-11-22")

    def fault(self, place: str, text: str) -> PlanError:
        return PlanError(f"{self.name}: {place}: {text}")

    def take(self, key: str, kind: type) -> Any:
        value = self.data.get(key)
        if not isinstance(value, kind) or not value:
            raise self.fault(
                key, f"is missing or not a {kind.__name__}; quote digits, so that they stay text"
            )
        return value

    def digits(self, place: str, value: object, pattern: re.Pattern[str] = DIGITS) -> str:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise self.fault(place, f"{value!r} is not a string of digits; put it in quotes")
        return value

    def strings(self, key: str, pattern: re.Pattern[str] = DIGITS) -> list[str]:
        found = [self.digits(key, value, pattern) for value in self.take(key, list)]
        return self.once(key, found)

    def words(self, key: str) -> list[str]:
        found = [self.digits(key, value) for value in str(self.take(key, str)).split()]
        return self.once(key, found)

    def once(self, key: str, found: list[str]) -> list[str]:
        seen: set[str] = set()
        for value in found:
            if value in seen:
                raise self.fault(key, f"{value} stands twice; keep one")
            seen.add(value)
        return found

    def table(self, key: str) -> dict[str, Any]:
        found = self.take(key, dict)
        for prefix in found:
            self.digits(key, prefix)
        return dict(found)

    def names(self, key: str) -> dict[str, str]:
        found = self.table(key)
        for prefix, name in found.items():
            if not isinstance(name, str) or not name:
                raise self.fault(f"{key}.{prefix}", "has no name")
        return found

    def cls(self, place: str, value: object) -> str:
        if value not in CLASSES:
            raise self.fault(place, f"{value!r} is not a class; one of {', '.join(CLASSES)}")
        return str(value)


def _domestic(file: _File) -> dict[str, Entry]:
    """First four digits → entry, for every beginning that the plan has."""
    whole = file.take("geographic_digits", int)
    prefixes: dict[str, Entry] = {}
    partial = file.table("areas_in_part")
    areas = file.words("areas")
    for area in areas:
        if not 3 <= len(area) <= 5 or area[0] != "0" or area[1] == "0":
            raise file.fault("areas", f"{area} is not an area code with its trunk 0")
        prefixes[area] = Entry("domestic_fixed", frozenset({whole}), False, area)
    for area, locals_ in partial.items():
        for digit in file.digits(f"areas_in_part.{area}", locals_):
            # An area code of its own (0422 beside 04) stays what it is.
            prefixes.setdefault(area + digit, Entry("domestic_fixed", frozenset({whole}), False, area))
    for index, row in enumerate(file.take("services", list)):
        place = f"services[{index}]"
        if not isinstance(row, dict):
            raise file.fault(place, "must be a mapping with prefix, digits, class, name")
        prefix = file.digits(place, row.get("prefix"))
        lengths = row.get("digits")
        if not isinstance(lengths, list) or not all(isinstance(n, int) and 4 < n < 16 for n in lengths):
            raise file.fault(place, "digits: must be a list of lengths from 5 to 15")
        if not 3 <= len(prefix) <= 4 or prefix[0] != "0":
            raise file.fault(place, f"prefix: {prefix} must begin with 0 and have three or four digits")
        if prefix in prefixes:
            raise file.fault(place, f"prefix: {prefix} stands twice or is an area code too")
        cls = file.cls(place, row.get("class"))
        prefixes[prefix] = Entry(cls, frozenset(lengths), bool(row.get("any_length")), prefix)
    table: dict[str, Entry] = {}
    for tail in range(1000):
        first = f"0{tail:03}"
        # A five-digit area code (01267) lies wholly inside its four digits: 0126 is an area code as well or
        # nothing else is, so that four digits decide everywhere.
        for length in (4, 3, 2):
            if (entry := prefixes.get(first[:length])) is not None:
                table[first] = entry
                break
    for area in areas:
        table.setdefault(area[:4], prefixes[area])
    return table


def _counted(file: _File) -> None:
    """Each table must have as many entries as `counts` says: a file cut off or with a line gone is no plan."""
    for key, count in file.take("counts", dict).items():
        value = file.data.get(key)
        found = (
            len(value.split())
            if isinstance(value, str)
            else len(value)
            if isinstance(value, list | dict)
            else 0
        )
        if found != count:
            raise file.fault(
                key, f"{found} entries, and `counts` says {count}; the file is damaged, or correct `counts`"
            )


def load(japan: str, carriers: str, world: str) -> Plan:
    """A plan from the texts of its three files. Raises `PlanError` for the first thing that can't be used."""
    home = _File("japan.yaml", japan)
    lines = _File("carriers.yaml", carriers)
    rest = _File("world.yaml", world)

    for file in (home, lines, rest):
        _counted(file)
    out = home.digits("international_prefix", home.data.get("international_prefix"))
    code = home.digits("country_code", home.data.get("country_code"))
    exact: dict[str, str] = {}
    emergency = home.strings("emergency")
    for leak in home.strings("leaks", LEAK):
        exact.update((leak + number, "emergency_suspect") for number in emergency)
    exact.update((number, "foreign_emergency") for number in home.strings("foreign_emergency"))
    exact.update((number, "emergency") for number in emergency)

    shapes = []
    for index, row in enumerate(lines.take("shapes", list)):
        prefix = lines.digits(f"shapes[{index}]", row.get("prefix"))
        if not isinstance(row.get("digits"), int) or row["digits"] < len(prefix):
            raise lines.fault(f"shapes[{index}]", f"digits: must be a number of at least {len(prefix)}")
        shapes.append((prefix, row["digits"]))

    countries = frozenset(rest.words("countries"))
    networks = {code: rest.cls(f"networks.{code}", cls) for code, cls in rest.table("networks").items()}
    alike = {code: rest.cls(f"alike.{code}", cls) for code, cls in rest.table("alike").items()}
    for code in alike.keys() - countries:
        raise rest.fault(f"alike.{code}", "is not a country above")
    bounds = rest.take("digits", list)
    if len(bounds) != 2 or not all(isinstance(n, int) for n in bounds):
        raise rest.fault("digits", "must be the least and the most digits, such as [7, 15]")

    return Plan(
        country_code=code,
        plus=f"+{code}",
        made_national=f"+{code} made national",
        context=f";phone-context=+{code}".encode(),
        context_steps=(f"phone-context +{code} put in front",),
        abroad_home={
            f"+{code}": (f"+{code} made national",),
            f"{out}{code}": (f"{out} read as +", f"+{code} made national"),
            f"{out}+{code}": (f"{out} read as +", f"+{code} made national"),
            code: (f"{code} without a plus read as +{code}",),
        },
        international_prefix=out,
        caller_id_prefixes={
            prefix: f"{prefix} taken off (caller id prefix)" for prefix in home.strings("caller_id_prefixes")
        },
        carrier_release=home.digits("carrier_release", home.data.get("carrier_release")),
        exact=exact,
        first4=_domestic(home),
        areas=frozenset(home.words("areas")) | frozenset(home.table("areas_in_part")),
        short_codes=home.names("short_codes"),
        carriers=lines.names("names"),
        carrier_shapes=tuple(shapes),
        countries=countries,
        networks=networks,
        alike=alike,
        exact_digits={code: int(n) for code, n in rest.table("exact").items()},
        least_digits=bounds[0],
        most_digits=bounds[1],
    )


def load_shipped() -> Plan:
    """The plan that ships with the program. Raises `PlanError` where its files are gone or damaged."""
    folder = files(__name__)
    texts = []
    for name in ("japan.yaml", "carriers.yaml", "world.yaml"):
        try:
            texts.append((folder / name).read_text("utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise PlanError(f"{name}: can't be read: {error}") from None
    return load(*texts)


JAPAN = load_shipped()


def country_of(canonical: str, plan: Plan = JAPAN) -> str:
    """The country (ISO 3166) of a canonical number with a plus; empty where it is none's or can't be told."""
    if canonical.startswith(plan.plus):
        return HOME
    return plan.abroad(canonical[1:]).country if canonical[:1] == "+" else ""
