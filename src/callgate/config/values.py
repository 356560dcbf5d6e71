"""The values that stand in a config, parsed: numbers, secrets, paths, times; and the types of fields.

Each parser takes the text of the file and returns a frozen value, or raises `ValueError` with what is wrong
and a remedy. A value that can hold a secret is never put into a message.
"""

from __future__ import annotations

import ipaddress
import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PlainValidator, SecretStr, ValidationInfo

from callgate.config.addresses import (
    AddressOfRecord,
    HostPort,
    IPNetwork,
    ListenUri,
    SipPeer,
    parse_hep_server,
    parse_host,
    parse_name_server,
    parse_network,
    parse_ops,
    parse_pbx,
)
from callgate.config.faults import as_text, shown

SEPARATORS = str.maketrans("", "", " -().")
RANGE = re.compile(r"(?P<stem>[^{}]*)\{(?P<first>\d+)-(?P<last>\d+)\}\Z")
E164 = re.compile(r"\+[1-9]\d{6,14}\Z", re.ASCII)
JAPAN = re.compile(r"\+81[1-9]\d{8,9}\Z", re.ASCII)


def canonical_number(text: str) -> str:
    """A phone number as +E.164; a national one of Japan (`0312345678`) becomes `+81…`."""
    bare = text.translate(SEPARATORS)
    full = "+81" + bare[1:] if bare.startswith("0") else bare
    if not E164.match(full) or (full.startswith("+81") and not JAPAN.match(full)):
        raise ValueError(f"{shown(text)} is no phone number; write it as `+815012345678` or `05012345678`")
    return full


@dataclass(slots=True, frozen=True)
class Numbers:
    """One number, or a range of them: canonical (`+81…`), of the same length, both ends included."""

    first: str
    last: str

    @classmethod
    def parse(cls, value: object) -> Numbers:
        """Reads `+815012345678`, `050-1234-5678` or a range `+8150123456{00-99}`."""
        text = as_text(value, "+815012345678")
        found = RANGE.match(text)
        if found is None:
            number = canonical_number(text)
            return cls(number, number)
        stem, first, last = found["stem"], found["first"], found["last"]
        if len(first) != len(last) or first > last:
            raise ValueError(
                f"{shown(text)}: both ends of a range need as many digits, the smaller one first"
            )
        return cls(canonical_number(stem + first), canonical_number(stem + last))

    def __contains__(self, number: object) -> bool:
        """Is this canonical number one of them? Digits of one length sort as numbers do."""
        return (
            isinstance(number, str) and len(number) == len(self.first) and self.first <= number <= self.last
        )

    def __iter__(self) -> Iterator[str]:
        """Every number, in order."""
        return (f"+{n}" for n in range(int(self.first), int(self.last) + 1))

    def __len__(self) -> int:
        return int(self.last) - int(self.first) + 1

    def __str__(self) -> str:
        return self.first if self.first == self.last else f"{self.first}…{self.last}"


TIME_OF_DAY = re.compile(r"(?:[01]?[0-9]|2[0-3]):[0-5][0-9]\Z", re.ASCII)


def parse_time_of_day(value: object) -> str:
    """`21:00`."""
    text = as_text(value, "21:00")
    if not TIME_OF_DAY.match(text):
        raise ValueError(f"{shown(text)} is no time of day: write it like `21:00`, from 00:00 to 23:59")
    return text


def minutes_of(text: str) -> int:
    """A time of day as minutes after midnight."""
    hours, _, minutes = text.partition(":")
    return int(hours) * 60 + int(minutes)


def parse_date(value: object) -> date:
    """`2026-12-31`."""
    text = as_text(value, "2026-12-31")
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{shown(text)} is no date: write it like `2026-12-31`") from None


ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}\Z")


def parse_id(value: object) -> str:
    """The name of a key or trunk: it becomes a metric label and stands in every record."""
    text = str(value)
    if not ID.match(text):
        raise ValueError(
            f"{shown(text)} can't be a name: a to z, 0 to 9, `-` and `_`, at most 63, no capital letters"
        )
    return text


def parse_emergency_route(value: object) -> SipPeer | str:
    """Where emergency calls go: an address, or the name of a trunk."""
    text = as_text(value, "sip:192.0.2.9")
    if ":" in text:
        return SipPeer.parse(text)
    try:
        return parse_id(text)
    except ValueError:
        raise ValueError(f"{shown(text)} is no `sip:ADDRESS:PORT` and no name of a trunk") from None


def parse_entry(value: object) -> str:
    """An entry of a list of numbers, as it is written; what it means is seen to where the list is made."""
    return as_text(value, "+4479")


def check_database(text: str) -> None:
    """Raises ValueError where that is no database for records. Says nothing of what stands in it: it may be secret."""
    scheme, mark, rest = text.partition("://")
    if not mark or scheme not in ("sqlite", "postgresql"):
        raise ValueError("must be `sqlite:///FILE` or `postgresql://USER:PASSWORD@HOST/NAME`")
    if scheme == "sqlite":
        file = rest.removeprefix("/")
        if not rest.startswith("/") or not file or file.endswith("/") or "\0" in file:
            raise ValueError(
                "must name a file: `sqlite:///callgate.db` beside the config, `sqlite:////var/lib/…`"
            )
        if file == ":memory:" or "?" in file or file.startswith("file:"):
            raise ValueError("must be the plain path of a file, without `:memory:`, `file:` or `?`")
        return
    from sqlalchemy.engine import make_url  # only where somebody needs it
    from sqlalchemy.exc import SQLAlchemyError

    try:
        url = make_url(text)
        fit = url.port is None or 0 < url.port < 65536
    except (SQLAlchemyError, ValueError):
        fit = False
    if not fit:
        raise ValueError(
            "can't be read as `postgresql://USER:PASSWORD@HOST:PORT/NAME`; write `@`, `/`, `:` and `%` in a"
            " password as %40, %2F, %3A and %25"
        )


ENVIRONMENT = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
MAX_SECRET_BYTES = 65536


def resolve_secret(text: str, base: Path) -> str:
    """A secret as written, from `${ENV_NAME}` or from `file:PATH` (its one line end at the end taken off)."""
    whole = ENVIRONMENT.fullmatch(text)
    if whole:
        found = os.environ.get(whole[1])
        if not found:
            state = "not set" if found is None else "empty"
            raise ValueError(f"the environment variable `{whole[1]}` is {state}; set it before the start")
        return found
    if ENVIRONMENT.search(text):
        raise ValueError("`${…}` must be the whole value; put the full secret into the variable")
    if not text.startswith("file:"):
        return text
    path = base / text.removeprefix("file:")
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ValueError(f"`{path}` is not a file")
        with path.open("rb") as stream:
            raw = stream.read(MAX_SECRET_BYTES + 1)
    except OSError as error:
        raise ValueError(f"`{path}` can't be read: {error.strerror}") from None
    if len(raw) > MAX_SECRET_BYTES:
        raise ValueError(f"`{path}` is larger than {MAX_SECRET_BYTES // 1024} KB; this can't be a secret")
    try:
        found = raw.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise ValueError(f"`{path}` is not UTF-8 text") from None
    if not found:
        raise ValueError(f"`{path}` is empty")
    return found


def _base(info: ValidationInfo) -> Path:
    """The folder of the config file: relative paths start there."""
    context: dict[str, Any] = info.context or {}
    return Path(context.get("base", "."))


def _secret(value: object, info: ValidationInfo) -> SecretStr:
    if isinstance(value, SecretStr):
        return value
    if not isinstance(value, str) or not value:
        raise ValueError("must be text: the secret itself, `${ENV_NAME}` or `file:PATH`")
    return SecretStr(resolve_secret(value, _base(info)))


def _path(value: object, info: ValidationInfo) -> Path:
    text = str(value) if isinstance(value, Path) else as_text(value, "./state")
    if "\0" in text:
        raise ValueError("a path can't hold a NUL character")
    try:
        return (_base(info) / Path(text).expanduser()).absolute()
    except RuntimeError:
        raise ValueError(f"{shown(text)}: there is no home directory for it; write the whole path") from None


def _one_line(value: str) -> str:
    if any(ord(char) < 32 or ord(char) == 127 for char in value):
        raise ValueError("must be one line of text, without control characters")
    return value


def _or_made(parse: Callable[[object], Any], *kinds: type) -> PlainValidator:
    """The parser for a field, which also takes a value that is made already."""
    return PlainValidator(lambda value: value if isinstance(value, kinds) else parse(value))


Secret = Annotated[SecretStr, PlainValidator(_secret)]
FilePath = Annotated[Path, PlainValidator(_path)]
Listen = Annotated[ListenUri, _or_made(ListenUri.parse, ListenUri)]
Advertise = Annotated[HostPort, _or_made(HostPort.parse, HostPort)]
Ops = Annotated[HostPort | None, _or_made(parse_ops, HostPort)]
Peer = Annotated[SipPeer, _or_made(SipPeer.parse, SipPeer)]
Pbx = Annotated[SipPeer | Literal["registered"], _or_made(parse_pbx, SipPeer)]
EmergencyRoute = Annotated[SipPeer | str, _or_made(parse_emergency_route, SipPeer)]
NameServer = Annotated[HostPort, _or_made(parse_name_server, HostPort)]
HepServer = Annotated[HostPort, _or_made(parse_hep_server, HostPort)]
Aor = Annotated[AddressOfRecord, _or_made(AddressOfRecord.parse, AddressOfRecord)]
Host = Annotated[str, PlainValidator(parse_host)]
Network = Annotated[IPNetwork, _or_made(parse_network, ipaddress.IPv4Network, ipaddress.IPv6Network)]
TimeOfDay = Annotated[str, PlainValidator(parse_time_of_day)]
Date = Annotated[date, _or_made(parse_date, date)]
Number = Annotated[Numbers, _or_made(Numbers.parse, Numbers)]
Id = Annotated[str, PlainValidator(parse_id)]
Text = Annotated[str, Field(min_length=1)]
Entry = Annotated[str, PlainValidator(parse_entry)]
"""An entry of a list of numbers."""
OneLine = Annotated[Text, AfterValidator(_one_line)]
"""Text that goes into a header."""
Count = Annotated[int, Field(ge=0, le=1_000_000)]
Seconds = Annotated[float, Field(ge=0, le=31_536_000, allow_inf_nan=False)]
SomeSeconds = Annotated[float, Field(gt=0, le=31_536_000, allow_inf_nan=False)]
