"""Numbers of other countries: what kind of line, and which country. libphonenumber knows; here it is asked.

Answers are kept for the numbers seen last. Its metadata is loaded country by country when one is first asked for
(some 20 ms); `warm` does that beforehand.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import phonenumbers
from phonenumbers import COUNTRY_CODE_TO_REGION_CODE, PhoneMetadata, PhoneNumber, PhoneNumberType

phonenumbers.enable_pattern_cache()

KEPT = 65_536
"""Numbers whose answer is kept, the ones seen last (some 30 MB when full)."""
NON_GEOGRAPHIC = "001"
"""libphonenumber's region for codes that are no country."""

CLASSES = {
    PhoneNumberType.FIXED_LINE: "international_fixed",
    PhoneNumberType.MOBILE: "international_mobile",
    PhoneNumberType.TOLL_FREE: "international_toll_free",
    PhoneNumberType.PREMIUM_RATE: "international_premium",
    PhoneNumberType.PERSONAL_NUMBER: "international_premium",  # +44 70: priced like one, whoever answers
}
"""Type → class. Every other type (shared cost, VoIP, pager, unknown) is neither fixed nor mobile: `international`."""


class Line(NamedTuple):
    """`cls` and the digits behind the plus, a trunk prefix that doesn't belong there left out. `country` is a code of
    ISO 3166, empty for a number of no country or of one that can't be told."""

    cls: str
    digits: str
    country: str


@lru_cache(maxsize=KEPT)
def line_of(code: str, national: str) -> Line:
    """The line of a country code that libphonenumber knows and the digits behind it. Never raises."""
    found = _asked(code, national)
    if found.cls == "international":
        # +44 (0)20 7946 0000, as cards have it: the trunk 0 is not dialled from abroad.
        main = PhoneMetadata.metadata_for_region_or_calling_code(int(code), _regions(code)[0])
        trunk = main.national_prefix if main is not None else None
        if trunk and national.startswith(trunk):
            without = _asked(code, national[len(trunk) :])
            if without.cls != "international":
                return without
    return found


def _regions(code: str) -> tuple[str, ...]:
    return COUNTRY_CODE_TO_REGION_CODE.get(int(code), (NON_GEOGRAPHIC,))


def _asked(code: str, national: str) -> Line:
    digits = code + national
    if not national:
        return Line("international", digits, "")
    zeros = len(national) - len(national.lstrip("0"))
    number = PhoneNumber(
        country_code=int(code),
        national_number=int(national),
        italian_leading_zero=True if zeros else None,
        number_of_leading_zeros=zeros if zeros > 1 else None,
    )
    kind = phonenumbers.number_type(number)
    regions = _regions(code)
    country = regions[0] if len(regions) == 1 else phonenumbers.region_code_for_number(number) or ""
    return Line(CLASSES.get(kind, "international"), digits, "" if country == NON_GEOGRAPHIC else country)


def warm(rest: Callable[[], None]) -> None:
    """Load every country, so that no call waits for that. `rest` is called between two."""
    for code, regions in COUNTRY_CODE_TO_REGION_CODE.items():
        for region in regions:
            PhoneMetadata.metadata_for_region_or_calling_code(code, region)
            rest()
        # A number that fits nothing makes it look at every kind there is.
        _asked(str(code), "5")
        for length in (7, 8, 9, 10, 11):
            _asked(str(code), "5" * length)
        rest()
