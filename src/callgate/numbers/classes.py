"""The classes of dialled numbers: their names, what each is in words, and which decide over others."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

CLASSES: Mapping[str, str] = MappingProxyType(
    {
        "emergency": "emergency number",
        "emergency_suspect": "emergency number in disguise or with something in front",
        "foreign_emergency": "emergency number of another country",
        "1xy": "1XY service number of the telephone network",
        "three_digit": "number of three digits",
        "carrier_select": "prefix that selects another carrier",
        "premium": "premium-rate number",
        "televote": "televoting or announcement number",
        "message_dial": "message dial number",
        "navi_dial": "Navi Dial number",
        "toll_free": "toll-free number",
        "sharp_code": "service code with # or *",
        "special_connection": "number of a specially connected network",
        "domestic_fixed": "Japanese fixed line",
        "domestic_mobile": "Japanese mobile phone",
        "ip_phone_050": "Japanese IP phone",
        "fmc": "Japanese fixed-mobile number",
        "m2m": "Japanese mobile data number",
        "pager": "Japanese pager",
        "international_fixed": "fixed line abroad",
        "international_mobile": "mobile phone abroad",
        "international_satellite": "satellite phone",
        "international_premium": "premium-rate number abroad",
        "international_toll_free": "toll-free number abroad",
        "international": "number abroad, fixed or mobile not known",
        "private": "number of a private plan",
        "service_urn": "service URN",
        "sip_uri": "SIP address without a telephone number",
        "unknown": "fits no part of the numbering plan",
        "invalid": "can not be read as a number",
    }
)
"""Class → what it is, in words. Every class that a `Number` can have."""

EMERGENCY = frozenset({"emergency", "emergency_suspect", "foreign_emergency"})
"""Judged before everything else, in every profile."""

STRICT: tuple[str, ...] = (
    "emergency",
    "emergency_suspect",
    "foreign_emergency",
    "carrier_select",
    "1xy",
    "three_digit",
    "premium",
    "televote",
    "message_dial",
    "navi_dial",
    "toll_free",
)
"""Classes of K-X and emergency, the strictest first: one of them in ANY reading is the number's class."""

RANK: Mapping[str, int] = MappingProxyType({name: rank for rank, name in enumerate(STRICT)})
