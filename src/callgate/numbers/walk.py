"""From a string of digits to its class: prefixes come off step by step, and every reading on the way counts.

Why every reading: `186184118` behind `phone-context=+81` ends as an ordinary number in Akita, and a network
that reads the prefixes first calls the coast guard. So emergency and K-X are judged before and after each
step, and the strictest class that any reading has is the number's class.
"""

from __future__ import annotations

import re

from callgate.numbers.classes import EMERGENCY, RANK, STRICT
from callgate.numbers.number import Number, Reading
from callgate.numbers.plan import Abroad, Entry, Plan

MAX_DIGITS = 64
"""No string that means anything is longer, prefixes and all."""
MAX_ROUNDS = 4
"""Prefixes nested deeper are refused. The walk still looks for emergency numbers under them."""
LAST_ROUND = 12

made = tuple.__new__
"""Makes a NamedTuple of all its fields in half the time."""
NO_ZERO = "neither 0 nor + in front"

FEATURE = re.compile(r"[*#]+[0-9]{0,4}[*#]+(?=[0-9+])")
"""A feature code before a number, such as `#31#`."""


class Walk:
    """One judgement: what has been read so far, and where the main reading ended."""

    __slots__ = ("canonical", "carrier", "cls", "note", "plan", "readings", "rounds", "steps")

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.steps: list[str] = []
        self.readings: list[Reading] = []
        self.carrier: str | None = None
        self.rounds = 0
        self.canonical = ""
        self.cls = "invalid"
        self.note = ""

    def number(self, dialled: str) -> Number:
        """The outcome: the strictest of all readings, else what the main reading came to."""
        cls, canonical, note = self.cls, self.canonical, self.note
        strictest = min(self.readings, key=_rank)
        if strictest.cls != cls and strictest.cls in RANK:
            cls, note, canonical = strictest.cls, "", self.canonical_of(strictest.text)
        return Number(dialled, canonical, cls, self.carrier, tuple(self.steps), tuple(self.readings), note)

    def canonical_of(self, text: str) -> str:
        domestic = text[:1] == "0" and text not in self.plan.exact and self.plan.entry(text) is not None
        return self.world(text) if domestic else text.lstrip("+")

    def end(self, text: str, cls: str, canonical: str, note: str = "") -> None:
        self.readings.append(Reading(text, cls))
        self.cls, self.canonical, self.note = cls, canonical, note

    def aside(self, text: str, exact_only: bool = False) -> None:
        """Read `text` as if it had been dialled, only to find what is forbidden in it.

        An emergency number found so is a suspect: nobody dialled it plainly. `exact_only` keeps nothing else.
        """
        side = Walk(self.plan)
        side.rounds = self.rounds + 1
        if not text or side.rounds > LAST_ROUND:
            return
        side.run(text)
        for reading in side.readings:
            cls = "emergency_suspect" if reading.cls == "emergency" else reading.cls
            # Longer digits that begin with 1 say nothing here: +1 212 is no 1XY service.
            telling = cls in RANK and not exact_only and (cls != "1xy" or len(reading.text) == 3)
            if telling or cls in EMERGENCY:
                self.readings.append(Reading(reading.text, cls))

    def run(self, text: str) -> None:
        """Read `text`: digits, `*`, `#`, at its front or after a prefix `+`. Sets the outcome."""
        plan = self.plan
        while True:
            if (
                (entry := plan.first4.get(text[:4])) is not None
                and len(text) in entry.digits
                and text.isdigit()
            ):
                return self.end(text, entry.cls, self.world(text))
            start = text
            text = self.callers_prefixes(text)
            if text[-1:] == "#" and text[:-1].removeprefix("+").isdigit():
                self.steps.append("closing # left out")
                text = text[:-1]
            if (cls := plan.exact.get(text)) is not None:
                return self.end(text, cls, text.lstrip("+"))
            abroad = text[:1] == "+" or text.startswith(plan.international_prefix + "+")
            if not abroad and not text.isdigit():
                return self.keys(text)
            if abroad or text.startswith(plan.international_prefix):
                text, done = self.international(text)
            elif text[:2] == "00":
                text, done = self.carrier_selected(text)
            elif text.startswith(plan.country_code) and (national := self.bare_country_code(text)):
                text, done = national, False
            else:
                return self.plain(text)
            if done:
                return None
            self.rounds += text != start
            if self.rounds > MAX_ROUNDS:
                self.aside(text)
                note = f"prefixes nested more than {MAX_ROUNDS} deep"
                return self.end(text, "invalid", "", note)

    def callers_prefixes(self, text: str) -> str:
        """Take off 184 and 186, any number of them, and 122 where it releases a fixed carrier."""
        plan = self.plan
        while text[:3] in plan.caller_id_prefixes and len(text) > 3:
            self.steps.append(plan.caller_id_prefixes[text[:3]])
            text = text[3:]
        release = plan.carrier_release
        if text.startswith(release) and text[len(release) :].startswith("00"):
            self.steps.append(f"{release} taken off (before a carrier prefix)")
            text = text[len(release) :]
        return text

    def keys(self, text: str) -> None:
        """`#` and `*`: a service code, or digits with a key among them."""
        if text[:1] in ("#", "*") and text.strip("#*"):
            rest = FEATURE.sub("", text, count=1)
            if rest != text or self.plan.exact.get(text.strip("#*")) == "emergency":
                self.aside(rest.strip("#*"))
            return self.end(text, "sharp_code", text)
        # What stands before the key may already be a number that the network connects.
        self.aside(re.split(r"[^0-9]", text, maxsplit=1)[0])
        if "+" in text:
            self.aside(text[text.rindex("+") :])
        return self.end(text, "invalid", "", "a key or sign among the digits" if text else "no digits")

    def international(self, text: str) -> tuple[str, bool]:
        """A plus or 010: a number of this country goes on as 0..., one of another ends here."""
        plan = self.plan
        if text[:1] == "+":
            digits = text[1:]
        else:
            digits = text[len(plan.international_prefix) :].removeprefix("+")
            if not digits:
                self.end(text, "three_digit", text)
                return text, True
            self.steps.append(f"{plan.international_prefix} read as +")
        if not digits.isdigit():
            self.aside(digits)
            self.end(text, "invalid", "", "a key or sign among the digits")
            return text, True
        code = plan.country_code
        if digits.startswith(code):
            return self.home(text, digits[len(code) :])
        if digits[0] == "0":
            found = Abroad("invalid", digits, note="no country code begins with 0")
        else:
            found = plan.abroad(digits)
        if found.cls == "invalid":
            self.aside(digits)
            self.end(text, "invalid", "", found.note)
            return text, True
        if found.digits != digits:
            self.steps.append("trunk prefix behind the country code left out")
            self.readings.append(Reading(text, "international"))
        self.end("+" + found.digits, found.cls, "+" + found.digits, found.note)
        return text, True

    def home(self, text: str, rest: str) -> tuple[str, bool]:
        """What stands behind +81."""
        plan = self.plan
        self.steps.append(plan.made_national)
        if rest[:1] == "0":
            return rest, False
        national = "0" + rest
        if national.startswith(plan.international_prefix):
            self.aside(rest)
            return national, False
        if plan.complete(national):
            # No local code begins with 0 or 1. Where this one does, the digits are rather prefixes of a call
            # (+81 186 184 118) than a number in Akita.
            area = next((n for n in range(5, 1, -1) if national[:n] in plan.areas), 0)
            if area and national[area] in "01" and not plan.first4[national[:4]].any_length:
                self.aside(rest)
            return national, False
        self.plain(national)
        self.aside(rest)
        return text, True

    def carrier_selected(self, text: str) -> tuple[str, bool]:
        """00XY, 002YZ, 0091XY: never stripped silently (K3); what stands behind it is judged too."""
        carrier = self.plan.carrier(text)
        self.readings.append(Reading(text, "carrier_select"))
        if self.carrier is None:
            self.carrier = carrier.prefix
        self.steps.append(carrier.step)
        rest = text[len(carrier.prefix) :]
        behind = Walk(self.plan)
        behind.rounds = self.rounds + 1
        if rest and behind.rounds <= LAST_ROUND:
            behind.run(rest)
            for reading in behind.readings:
                suspect = reading.cls == "emergency"
                self.readings.append(Reading(reading.text, "emergency_suspect") if suspect else reading)
            self.steps += behind.steps
        self.cls = "carrier_select"
        self.canonical = behind.canonical if behind.canonical[:1] == "+" else text
        return text, True

    def bare_country_code(self, text: str) -> str:
        """81 without its plus, where a Japanese number follows: the national form, else an empty string.

        Some carriers take numbers so. A local number never has so many digits.
        """
        rest = text[len(self.plan.country_code) :]
        national = rest if rest[:1] == "0" else "0" + rest
        if not self.plan.complete(national):
            entry = self.plan.entry(national) if len(national) > 9 else None
            if entry is None or not entry.any_length:
                if len(national) > 10:
                    self.aside(rest)
                return ""
        self.steps.append(f"{self.plan.country_code} without a plus read as +{self.plan.country_code}")
        return national

    def plain(self, text: str) -> None:
        """A dialled national string without any prefix."""
        if text[:1] == "1":
            return self.end(text, "1xy", text)
        if len(text) == 3:
            return self.end(text, "three_digit", text)
        if len(text) < 3:
            return self.end(text, "invalid", "", "too short" if text else "no digits")
        if text[0] != "0":
            if len(text) > self.plan.most_digits:
                return self.end(text, "invalid", "", f"more than {self.plan.most_digits} digits")
            return self.end(text, "unknown", text, NO_ZERO)
        entry = self.plan.entry(text)
        if entry is None:
            if len(text) in (10, 11):
                return self.end(text, "unknown", self.world(text), f"no number begins with {text[:4]}")
            return self.end(text, "invalid", "", f"no number begins with {text[:4]}")
        if len(text) in entry.digits or entry.any_length:
            return self.end(text, entry.cls, self.world(text))
        lengths = " or ".join(map(str, sorted(entry.digits)))
        size = "incomplete" if len(text) < min(entry.digits) else "too long"
        return self.end(text, "invalid", "", f"{size}: a number with {entry.prefix} has {lengths} digits")

    def world(self, national: str) -> str:
        return self.plan.plus + national[1:]


def _rank(reading: Reading) -> int:
    return RANK.get(reading.cls, len(STRICT))


def read_digits(text: str, plan: Plan, dialled: str) -> Number:
    """The number that a string of digits, `+`, `*` and `#` is."""
    if len(text) > MAX_DIGITS:
        return Number(dialled, "", "invalid", note=f"more than {MAX_DIGITS} digits")
    # The ordinary cases first: a whole domestic number as it stands, behind 184 or 186, behind its country code,
    # behind a carrier prefix. What they say is what the walk says.
    whole = text
    steps: tuple[str, ...] = ()
    while whole[:3] in plan.caller_id_prefixes:
        steps = (*steps, plan.caller_id_prefixes[whole[:3]])
        whole = whole[3:]
    if whole[:1] == "0" and (entry := _entry(whole, plan)) is not None:
        cls = entry.cls
        return made(
            Number, (dialled, plan.plus + whole[1:], cls, None, steps, (made(Reading, (whole, cls)),), "")
        )
    for front, taken in plan.abroad_home.items():
        if whole.startswith(front):
            rest = whole[len(front) :]
            # Digits that begin with 1 can be prefixes of a call: the long way.
            national = rest if rest[:1] == "0" else "0" + rest
            if rest[:1] != "1" and (entry := _entry(national, plan)) is not None and entry.cls != "unknown":
                readings = (made(Reading, (national, entry.cls)),)
                number = plan.plus + national[1:]
                return made(Number, (dialled, number, entry.cls, None, steps + taken, readings, ""))
            break
    else:
        if whole[:2] == "00":
            carrier = plan.carrier(whole)
            rest = whole[len(carrier.prefix) :]
            if rest[:1] == "0" and (entry := _entry(rest, plan)) is not None:
                both = (Reading(whole, "carrier_select"), Reading(rest, entry.cls))
                steps += (carrier.step,)
                return Number(dialled, plan.plus + rest[1:], "carrier_select", carrier.prefix, steps, both)
        elif (
            # A local number, as it stands before a phone-context.
            "1" < text[:1] <= "9"
            and 3 < len(text) <= plan.most_digits
            and text.isdigit()
            and text not in plan.exact
        ):
            readings = (made(Reading, (text, "unknown")),)
            return made(Number, (dialled, text, "unknown", None, (), readings, NO_ZERO))
    walk = Walk(plan)
    walk.run(text)
    return walk.number(dialled)


def _entry(national: str, plan: Plan) -> Entry | None:
    """The entry of a whole domestic number, None for anything else."""
    entry = plan.first4.get(national[:4])
    return entry if entry is not None and len(national) in entry.digits and national.isdigit() else None
