"""The values that stand in a config, parsed: addresses, URIs, numbers, secrets, paths, times.

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
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PlainValidator, SecretStr, ValidationInfo

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

HOST_NAME = re.compile(
    r"(?=.{1,253}\Z)[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,62})(?:\.[A-Za-z0-9_][A-Za-z0-9_-]{0,62})*\.?\Z"
)
PORTS = range(1, 65536)
SIP_PORT, SIPS_PORT, DNS_PORT = 5060, 5061, 53


def shown(value: object) -> str:
    """A value as a message may show it: short, and nothing that could hold a password."""
    text = str(value)
    if "@" in text:
        return "this value"
    return f"`{text[:60]}…`" if len(text) > 60 else f"`{text}`"


def as_text(value: object, example: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"must be text, such as `{example}`")
    return value.strip()


@lru_cache(1 << 16)  # a reload asks it of every key, on the loop
def is_ip(host: str) -> bool:
    """Is this host an IP address (an IPv6 one without its brackets)?"""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def split_host(text: str, what: str) -> tuple[str, int | None]:
    """`host`, `host:port`, `[v6]` or `[v6]:port` → (host without brackets, port). Names pass, lower-cased."""
    rest = text
    if rest.startswith("["):
        host, bracket, rest = rest[1:].partition("]")
        if not bracket or not is_ip(host) or ":" not in host:
            raise ValueError(f"{shown(text)} is no {what}: in brackets goes an IPv6 address, such as `[::1]`")
        if rest and not rest.startswith(":"):
            raise ValueError(f"{shown(text)} is no {what}: after `]` comes `:port` or nothing")
        rest = rest[1:] if rest else rest
        port_given = text.endswith("]") is False
    else:
        host, colon, rest = rest.partition(":")
        port_given = bool(colon)
        if ":" in rest and is_ip(text):
            raise ValueError(f"an IPv6 address stands in brackets here: `[{text}]`")
    port = None
    if port_given:
        if not (rest.isascii() and rest.isdigit() and len(rest) <= 5 and int(rest) in PORTS):
            raise ValueError(f"{shown(text)} is no {what}: the port must be a number from 1 to 65535")
        port = int(rest)
    if is_ip(host):
        return str(ipaddress.ip_address(host)), port
    if re.fullmatch(r"[0-9.]+", host):
        raise ValueError(f"{shown(host)} is no IP address")
    if not HOST_NAME.match(host):
        raise ValueError(f"{shown(text)} is no {what}: no host in it")
    return host.lower(), port


def join_host(host: str, port: int | None) -> str:
    """The other way round: IPv6 in brackets."""
    name = f"[{host}]" if ":" in host else host
    return name if port is None else f"{name}:{port}"


@dataclass(slots=True, frozen=True)
class ListenUri:
    """Where to listen: `udp://127.0.0.1:5060`. `host` is an IP address, without brackets."""

    transport: Literal["udp", "tcp", "tls"]
    host: str
    port: int

    @classmethod
    def parse(cls, value: object) -> ListenUri:
        """Reads `udp://…`, `tcp://…`, `tls://…`; the port defaults to 5060 (tls: 5061)."""
        text = as_text(value, "udp://127.0.0.1:5060")
        scheme, mark, rest = text.partition("://")
        transport = scheme.lower()
        if not mark or transport not in ("udp", "tcp", "tls"):
            raise ValueError(f"{shown(text)} is no listener: write udp://, tcp:// or tls:// and ADDRESS:PORT")
        host, port = split_host(rest.removesuffix("/"), "listener")
        if not is_ip(host):
            raise ValueError(
                f"{shown(text)} is no listener: it needs an IP address of this machine, not a name"
            )
        default = SIPS_PORT if transport == "tls" else SIP_PORT
        return cls(transport, host, default if port is None else port)  # type: ignore[arg-type]

    @property
    def wildcard(self) -> bool:
        """Listens on every address of the machine (0.0.0.0, ::)."""
        return ipaddress.ip_address(self.host).is_unspecified

    def __str__(self) -> str:
        return f"{self.transport}://{join_host(self.host, self.port)}"


@dataclass(slots=True, frozen=True)
class HostPort:
    """What a listener calls itself towards others: `sip.example.jp:5061`."""

    host: str
    port: int | None

    @classmethod
    def parse(cls, value: object) -> HostPort:
        host, port = split_host(as_text(value, "sip.example.jp:5060"), "advertised address")
        if is_ip(host) and ipaddress.ip_address(host).is_unspecified:
            raise ValueError(f"{shown(value)} is no address that others can reach")
        return cls(host, port)

    def __str__(self) -> str:
        return join_host(self.host, self.port)


@dataclass(slots=True, frozen=True)
class SipPeer:
    """A gateway or a PBX: `sip:127.0.0.1:5080;transport=tcp`. `host` without brackets; no port means 5060.

    What stands in the URI itself decides how a name is looked up (RFC 3263): whether its port and transport were
    given, and whether it is a `sips:` one.
    """

    host: str
    port: int
    transport: Literal["udp", "tcp", "tls"]
    port_given: bool = True
    transport_given: bool = True
    secure: bool = False

    @classmethod
    def parse(cls, value: object) -> SipPeer:
        text = as_text(value, "sip:192.0.2.10:5060")
        scheme, colon, rest = text.partition(":")
        if not colon or scheme.lower() not in ("sip", "sips"):
            raise ValueError(f"{shown(text)} is no SIP address: write `sip:ADDRESS:PORT`")
        if "@" in rest:
            raise ValueError("a user part has no place here: write `sip:ADDRESS:PORT`")
        address, *params = rest.split(";")
        if "?" in rest:
            raise ValueError(f"{shown(text)}: headers (`?…`) have no place here")
        secure = scheme.lower() == "sips"
        transport = "tls" if secure else "udp"
        for param in params:
            name, _, given = param.partition("=")
            if name.lower() != "transport" or given.lower() not in ("udp", "tcp", "tls"):
                raise ValueError(
                    f"{shown(text)}: only `;transport=udp`, `tcp` or `tls` may follow the address"
                )
            transport = given.lower()
        if secure and transport == "udp":
            raise ValueError(f"{shown(text)}: sips: goes over TLS, never over UDP")
        if secure:
            transport = "tls"
        host, port = split_host(address, "SIP address")
        if is_ip(host) and ipaddress.ip_address(host).is_unspecified:
            raise ValueError(f"{shown(text)}: nobody answers at {host}; write the other side's address")
        default = SIPS_PORT if transport == "tls" else SIP_PORT
        number = default if port is None else port
        if is_ip(host):
            return cls(host, number, transport)  # type: ignore[arg-type]
        return cls(host, number, transport, port is not None, bool(params), secure)  # type: ignore[arg-type]

    @property
    def is_name(self) -> bool:
        """Needs DNS (RFC 3263)."""
        return not is_ip(self.host)

    def __str__(self) -> str:
        shown_transport = self.transport_given if self.is_name else self.transport != "udp"
        suffix = f";transport={self.transport}" if shown_transport else ""
        scheme = "sips" if self.secure else "sip"
        return f"{scheme}:{join_host(self.host, self.port if self.port_given else None)}{suffix}"


AOR_USER = re.compile(r"(?:[A-Za-z0-9\-_.!~*'()&=+$,;?/]|%[0-9A-Fa-f]{2})+\Z")


@dataclass(slots=True, frozen=True)
class AddressOfRecord:
    """What the gate registers at a trunk: `sip:USER@DOMAIN`. No port means none is written."""

    user: str
    host: str
    port: int | None

    @classmethod
    def parse(cls, value: object) -> AddressOfRecord:
        text = as_text(value, "sip:0312345678@sip.example.jp")
        scheme, colon, rest = text.partition(":")
        user, at, address = rest.rpartition("@")
        if not colon or scheme.lower() != "sip" or not at or not AOR_USER.match(user):
            # Whatever stands before an @ may hold a password: it is not repeated.
            raise ValueError(
                "this is no address of record: write `sip:USER@DOMAIN`, such as `sip:0312345678@sip.example.jp`"
            )
        host, port = split_host(address, "address of record")
        return cls(user, host, port)

    def __str__(self) -> str:
        return f"sip:{self.user}@{join_host(self.host, self.port)}"


def parse_host(value: object) -> str:
    """A host by name or IP address, without a port; in lower case."""
    text = as_text(value, "sip.example.jp")
    host, port = split_host(f"[{text}]" if ":" in text and is_ip(text) else text, "host name")
    if port is not None:
        raise ValueError(f"{shown(text)} names a port; write the host alone, such as `sip.example.jp`")
    return host


def parse_pbx(value: object) -> SipPeer | Literal["registered"]:
    """Where a key's inbound calls go: an address, or `registered`, the gate's own registrar."""
    return "registered" if value == "registered" else SipPeer.parse(value)


def parse_emergency_route(value: object) -> SipPeer | str:
    """Where emergency calls go: an address, or the name of a trunk."""
    text = as_text(value, "sip:192.0.2.9")
    if ":" in text:
        return SipPeer.parse(text)
    try:
        return parse_id(text)
    except ValueError:
        raise ValueError(f"{shown(text)} is no `sip:ADDRESS:PORT` and no name of a trunk") from None


def parse_network(value: object) -> IPNetwork:
    """An address or a network, `192.0.2.7` or `192.0.2.0/24`."""
    text = as_text(value, "192.0.2.0/24")
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        pass
    try:
        wide = ipaddress.ip_interface(text)
    except ValueError:
        raise ValueError(f"{shown(text)} is no address or network; write it like `192.0.2.0/24`") from None
    raise ValueError(f"{shown(text)} has bits behind its mask; write `{wide.network}` or `{wide.ip}`")


def parse_ops(value: object) -> HostPort | None:
    """`http://127.0.0.1:9060`: an address of this machine. None: no ops process."""
    if value is None:
        return None
    text = as_text(value, "http://127.0.0.1:9060")
    scheme, mark, rest = text.partition("://")
    if not mark or scheme.lower() != "http":
        raise ValueError("must be `http://127.0.0.1:PORT`, or null for none")
    host, port = split_host(rest.removesuffix("/"), "ops address")
    host = "127.0.0.1" if host == "localhost" else host
    if not is_ip(host):
        raise ValueError(f"{shown(text)} is a name; write the address to bind, `http://127.0.0.1:PORT`")
    if port is None:
        raise ValueError(f"{shown(text)} names no port; write `http://127.0.0.1:9060`")
    return HostPort(host, port)


def parse_name_server(value: object) -> HostPort:
    """`192.0.2.53`, `[2001:db8::53]:5353`; the port defaults to 53."""
    text = as_text(value, "192.0.2.53")
    host, port = split_host(f"[{text}]" if is_ip(text) and ":" in text else text, "name server")
    if not is_ip(host) or ipaddress.ip_address(host).is_unspecified:
        raise ValueError(f"{shown(text)} is no name server: write its IP address, such as `192.0.2.53`")
    return HostPort(host, DNS_PORT if port is None else port)


def parse_hep_server(value: object) -> HostPort:
    """`udp://127.0.0.1:9061`, or a name; there is no other transport."""
    text = as_text(value, "udp://127.0.0.1:9061")
    scheme, mark, rest = text.partition("://")
    if not mark or scheme.lower() != "udp":
        raise ValueError(f"{shown(text)} is no HEP server: write `udp://ADDRESS:PORT`")
    host, port = split_host(rest.removesuffix("/"), "HEP server")
    if port is None or (is_ip(host) and ipaddress.ip_address(host).is_unspecified):
        raise ValueError(
            f"{shown(text)} is no HEP server: write its address and port, `udp://127.0.0.1:9061`"
        )
    return HostPort(host, port)


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
