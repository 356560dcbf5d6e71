"""Numbers of other countries, as libphonenumber knows them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from phonenumbers import COUNTRY_CODE_TO_REGION_CODE

from callgate.numbers import CLASSES, JAPAN, country_of, read_dialled
from callgate.numbers.abroad import KEPT, line_of, warm


@pytest.mark.parametrize(
    ("dialled", "cls", "country"),
    [
        ("+442079460000", "international_fixed", "GB"),
        ("+447400123456", "international_mobile", "GB"),
        ("+77012345678", "international_mobile", "KZ"),
        ("+79123456789", "international_mobile", "RU"),
        ("+12125550100", "international_fixed", "US"),
        ("+18765551234", "international_mobile", "JM"),
        ("+390612345678", "international_fixed", "IT"),
        ("+870773111632", "international_satellite", ""),
        ("+80012345678", "international_toll_free", ""),
        ("+979112345678", "international_premium", ""),
        ("+4512345678", "international", "DK"),
        ("+81312345678", "domestic_fixed", "JP"),
        ("119", "emergency", ""),
    ],
)
def test_kind_and_country(dialled: str, cls: str, country: str) -> None:
    number = read_dialled(dialled)
    assert (number.cls, country_of(number.canonical)) == (cls, country)


@pytest.mark.parametrize(
    ("dialled", "canonical"),
    [
        ("+44 (0)20 7946 0000", "+442079460000"),
        ("+44 07400 123456", "+447400123456"),
        ("010-44-(0)20-7946-0000", "+442079460000"),
        ("+39 06 6981 2345", "+390669812345"),
        ("+49 (0)30 123456", "+4930123456"),
        ("+36 06 1 234 5678", "+3612345678"),
    ],
)
def test_a_trunk_prefix_behind_the_country_code_is_no_part_of_the_number(
    dialled: str, canonical: str
) -> None:
    assert read_dialled(dialled).canonical == canonical


def test_every_country_code_is_known_to_both() -> None:
    codes = {str(code) for code in COUNTRY_CODE_TO_REGION_CODE} - {"888"}  # relief in disasters: given back
    assert codes <= JAPAN.countries | JAPAN.networks.keys() | {JAPAN.country_code}


@given(st.from_regex(r"\+[1-9][0-9]{0,16}", fullmatch=True))
def test_any_number_gets_a_class(dialled: str) -> None:
    number = read_dialled(dialled)
    assert number.cls in CLASSES
    country_of(number.canonical)


def test_what_is_kept_is_bounded_and_every_country_loads() -> None:
    rests = []
    warm(lambda: rests.append(1))
    assert len(rests) > 200
    assert line_of.cache_info().maxsize == KEPT
