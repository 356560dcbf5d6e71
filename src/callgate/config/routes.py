"""The values of a number's route: where each step leads, and when it is open."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import PlainValidator

from callgate.config.addresses import AOR_USER, SipPeer
from callgate.config.faults import as_text, shown

TEL = re.compile(r"\+?[0-9][0-9().\-]{1,39}\Z")
HOURS = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-4]):([0-5]\d)\Z")


@dataclass(slots=True, frozen=True)
class RouteTo:
    """Where a step of a number's route leads: `kind` pbx, tel (then `number` as written) or sip (then `peer`, and
    `user` where one was given)."""

    kind: Literal["pbx", "tel", "sip"]
    number: str = ""
    peer: SipPeer | None = None
    user: str = ""

    @classmethod
    def parse(cls, value: object) -> RouteTo:
        text = as_text(value, "tel:0312345678")
        if text == "pbx":
            return cls("pbx")
        scheme, colon, rest = text.partition(":")
        if colon and scheme.lower() == "tel":
            if not TEL.match(rest):
                raise ValueError(f"{shown(text)} is no telephone number; write it as `tel:0312345678`")
            return cls("tel", number=rest)
        if colon and scheme.lower() in ("sip", "sips"):
            user, at, address = rest.rpartition("@")
            if at and not AOR_USER.match(user):
                raise ValueError("the user part can't be read; write `sip:USER@ADDRESS`")
            return cls("sip", peer=SipPeer.parse(f"{scheme}:{address}"), user=user)
        raise ValueError(f"{shown(text)} leads nowhere; write `tel:0312345678`, `sip:192.0.2.20` or `pbx`")

    def __str__(self) -> str:
        if self.kind == "sip":
            scheme, _, rest = str(self.peer).partition(":")
            return f"{scheme}:{self.user}@{rest}" if self.user else f"{scheme}:{rest}"
        return f"tel:{self.number}" if self.kind == "tel" else "pbx"


def parse_hours(value: object) -> tuple[int, int]:
    """`09:00-18:00` as minutes since midnight; over midnight where the second is not above the first."""
    text = as_text(value, "09:00-18:00")
    found = HOURS.match(text)
    if found is None or int(found[3]) * 60 + int(found[4]) > 24 * 60:
        raise ValueError(f"{shown(text)} are no hours; write them as `09:00-18:00`")
    return int(found[1]) * 60 + int(found[2]), int(found[3]) * 60 + int(found[4])


def parse_zone(value: object) -> str:
    """The name of a time zone: `Asia/Tokyo`."""
    text = as_text(value, "Asia/Tokyo")
    try:
        ZoneInfo(text)
    except (ValueError, OSError, ZoneInfoNotFoundError):
        raise ValueError(f"{shown(text)} is no time zone; write it as `Asia/Tokyo`") from None
    return text


RouteTarget = Annotated[
    RouteTo, PlainValidator(lambda value: value if isinstance(value, RouteTo) else RouteTo.parse(value))
]
Hours = Annotated[
    tuple[int, int], PlainValidator(lambda value: value if isinstance(value, tuple) else parse_hours(value))
]
Zone = Annotated[str, PlainValidator(parse_zone)]
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
