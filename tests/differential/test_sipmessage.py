"""The same messages read by CallGate and by `sipmessage`, which shares no line with it: where both take a message, they
read the same out of it. Where they don't, and it is sipmessage that departs from RFC 3261, the departure is listed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

import pytest
import sipmessage
from hypothesis import given, settings
from tests.hostile import corpus
from tests.sip.support import ODD, PLAIN, changed, mutations
from tests.sip.test_scanner import near_plain
from tests.torture.table import CASES

from callgate.sip.errors import Malformed
from callgate.sip.fields import parse_name_addr, parse_via
from callgate.sip.message import FROM, TO, VIA, parse
from callgate.sip.uri import parse_uri

Fields = Mapping[str, Any]


def theirs(data: bytes) -> Fields | None:
    """What sipmessage reads, None where it takes offence. Hosts and schemes in lower case: their case means nothing
    (§19.1.4)."""
    try:
        found = sipmessage.Message.parse(data)
        fields: dict[str, Any] = {}
        if isinstance(found, sipmessage.Request):
            fields |= {"method": found.method, "Request-URI": _their_uri(found.uri)}
        else:
            fields["code"] = found.code
        fields["Via"] = [
            (v.transport.upper(), v.host.lower(), v.port or 0, v.parameters.get("branch") or "")
            for v in found.via
        ]
        for name, address in (("From", found.from_address), ("To", found.to_address)):
            fields[name] = (*_their_uri(address.uri), address.parameters.get("tag") or "")
        fields["Call-ID"] = found.call_id
        fields["CSeq"] = (found.cseq.sequence, found.cseq.method)
        fields["headers"] = sum(len(found.headers.getlist(name)) for name in found.headers.keys())  # noqa: SIM118
        length = found.content_length
        fields["body"] = found.body if length is None else found.body[:length]
    except (ValueError, KeyError, AttributeError):
        return None
    return fields


def _their_uri(uri: sipmessage.URI) -> tuple[Any, ...]:
    return uri.scheme.lower(), uri.user or "", uri.host.lower(), uri.port or 0


def ours(data: bytes) -> Fields | None:
    """What CallGate reads; None where it would refuse."""
    try:
        found = parse(data)
        if found.faults:
            return None
        fields: dict[str, Any] = {}
        if found.code:
            fields["code"] = found.code
        else:
            fields |= {"method": _text(found.method), "Request-URI": _our_uri(found.uri)}
        vias = [parse_via(value) for value in found.values(VIA)]
        assert (vias[0].host, vias[0].branch) == (found.via.host, found.via.branch)
        fields["Via"] = [(_text(v.transport), _text(v.host), v.port, _text(v.branch)) for v in vias]
        for name, slot, tag in (("From", FROM, found.from_tag), ("To", TO, found.to_tag)):
            fields[name] = (*_our_uri(parse_name_addr(found.value(slot)).uri), _text(tag))
    except Malformed:
        return None
    fields["Call-ID"] = _text(found.call_id)
    fields["CSeq"] = (found.cseq_number, _text(found.cseq_method))
    fields["headers"] = len(found.lines) - 1
    fields["body"] = found.body
    return fields


def _our_uri(raw: bytes) -> tuple[Any, ...]:
    uri = parse_uri(raw)
    if uri.scheme not in (b"sip", b"sips"):
        return _text(uri.scheme), _text(uri.user.partition(b";")[0]), "", 0
    user = unquote_to_bytes(uri.user.partition(b":")[0])
    return _text(uri.scheme), _text(user), _text(uri.host), uri.port


def _text(octets: bytes) -> str:
    return octets.decode("utf-8", "replace")


class Departure(NamedTuple):
    """Where sipmessage departs from RFC 3261: `where` finds what it stumbles over, `example` shows it."""

    section: str
    where: re.Pattern[bytes]
    example: bytes


ADDRESS_OR_VIA = rb"(?i:\r\n(?:via|v|from|f|to|t)[ \t]*:(?:[^\r\n]|\r\n[ \t])*?)"
DEPARTURES = {
    "a continuation line that holds a colon counts as a header": Departure(
        "§7.3.1",
        re.compile(rb"\r\n[ \t][^\r\n]*:"),
        changed(b"Subject: a\r\n b: c"),
    ),
    "a header with a blank before its colon is not known by its name": Departure(
        "§7.3.1",
        re.compile(rb"\r\n[^\r\n:]*[ \t]:"),
        changed(b"Via: SIP/2.0/UDP a;branch=z9hG4bKa").replace(
            b"Max-Forwards", b"Via : SIP/2.0/UDP b;branch=z9hG4bKb\r\nMax-Forwards"
        ),
    ),
    "%41 in a parameter is read as an A": Departure(
        "§25.1 (a token has no escapes)",
        re.compile(ADDRESS_OR_VIA + rb"%"),
        changed(b"From: <sip:alice@example.jp>;tag=%41"),
    ),
    "parameter names are told apart by their case": Departure(
        "§7.3.1",
        re.compile(ADDRESS_OR_VIA + rb";[ \t]*(?!tag|branch)(?i:tag|branch)"),
        changed(b"From: <sip:alice@example.jp>;TAG=a"),
    ),
    "a semicolon inside quotes ends a parameter": Departure(
        "§25.1 (quoted-string)",
        re.compile(ADDRESS_OR_VIA + rb'"[^"]*;'),
        changed(b'From: <sip:alice@example.jp>;tag=a;x=";tag=b"'),
    ),
}


def differences(data: bytes) -> list[str] | None:
    """The fields that are read differently; None where one of the two refuses the message."""
    one, two = ours(data), theirs(data)
    if one is None or two is None:
        return None
    assert one.keys() == two.keys()
    return [name for name in one if one[name] != two[name]]


def explained(data: bytes) -> list[str]:
    head = data.partition(b"\r\n\r\n")[0]
    return [name for name, departure in DEPARTURES.items() if departure.where.search(head)]


def compare(messages: Iterable[bytes]) -> Counter[str]:
    """How many both take, and how often which departure explains a difference."""
    seen: Counter[str] = Counter()
    for data in messages:
        differ = differences(data)
        if differ is None:
            seen["refused by one"] += 1
            continue
        seen["taken by both"] += 1
        if differ:
            reasons = explained(data)
            assert reasons, f"{differ} of\n{data!r}\n{ours(data)}\n{theirs(data)}"
            seen.update(reasons)
    return seen


def test_the_torture_messages() -> None:
    assert compare(case.data for case in CASES)["taken by both"] >= 20


def test_the_hostile_corpus() -> None:
    assert compare(hostile.data for hostile in corpus.everything())["taken by both"] >= 250


def test_plain_messages_are_read_alike_and_by_both() -> None:
    for data in PLAIN:
        assert differences(data) == []


def test_mutated_messages() -> None:
    messages = chain(PLAIN, ODD, mutations(seed=20261123, count=12_000, corpus=[*PLAIN * 4, *ODD]))
    assert compare(messages)["taken by both"] >= 800


@settings(deadline=None)
@given(near_plain())
def test_messages_near_the_line(data: bytes) -> None:
    compare([data])


@pytest.mark.parametrize("name", DEPARTURES)
def test_a_departure_is_one(name: str) -> None:
    """So that none is listed that there isn't."""
    departure = DEPARTURES[name]
    assert differences(departure.example)
    assert name in explained(departure.example)
    assert departure.section.startswith("§")
