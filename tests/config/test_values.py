"""Numbers, hosts and networks: promises over any value."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callgate.config.addresses import HostPort, ListenUri, SipPeer, join_host, parse_name_server, split_host
from callgate.config.crosscheck import numbers as number_faults
from callgate.config.schema import Config
from callgate.config.values import Numbers, canonical_number

national = st.from_regex(r"0[1-9][0-9]{8,9}", fullmatch=True)
ends = st.tuples(st.integers(0, 999), st.integers(0, 999)).map(sorted)


@given(national)
def test_a_number_is_the_same_however_it_is_written(number: str) -> None:
    full = "+81" + number[1:]
    spread = f"({number[:3]}) {number[3:6]}-{number[6:]}"
    assert canonical_number(number) == canonical_number(full) == canonical_number(spread) == full


@given(st.text(max_size=30))
def test_any_text_is_a_number_or_a_value_error(text: str) -> None:
    try:
        found = Numbers.parse(text)
    except ValueError:
        return
    assert found.first.startswith("+")
    assert found.first <= found.last
    assert len(found.first) == len(found.last)


@given(ends)
def test_a_range_holds_exactly_its_numbers(pair: list[int]) -> None:
    first, last = pair
    found = Numbers.parse(f"+815012345{{{first:03}-{last:03}}}")
    assert list(found) == [f"+815012345{n:03}" for n in range(first, last + 1)]
    assert len(found) == last - first + 1
    assert all(number in found for number in found)
    assert f"+815012345{(last + 1) % 1000:03}" not in found or last == 999
    assert found.first[:-1] not in found
    assert found.first + "0" not in found, "a longer number, which sorts between the two ends"


@given(st.lists(ends, min_size=1, max_size=6))
def test_overlapping_ranges_are_found_always_and_only_then(pairs: list[list[int]]) -> None:
    ranges = [f"+815012345{{{first:03}-{last:03}}}" for first, last in pairs]
    keys = {f"k{n}": {"pbx": "sip:127.0.0.1", "numbers": [one]} for n, one in enumerate(ranges)}
    config = Config.model_validate({"trunks": {"t": {"gateways": ["sip:127.0.0.2"]}}, "keys": keys})
    every = [number for first, last in pairs for number in range(first, last + 1)]
    assert bool(list(number_faults(config))) == (len(every) != len(set(every)))


def test_each_number_within_a_wide_range_is_found() -> None:
    numbers = ["+815012345{000-999}", "+815012345100", "+815012345{200-300}"]
    keys = {"k": {"pbx": "sip:127.0.0.1", "numbers": numbers}}
    found = list(number_faults(Config.model_validate({"keys": keys})))
    assert [(finding.loc[-1], finding.other[-1]) for finding in found] == [(1, 0), (2, 0)]


def test_numbers_of_two_lengths_don_t_hide_each_other() -> None:
    numbers = ["+815012345678", "+12125550100123", "+12125550100123"]
    keys = {"k": {"pbx": "sip:127.0.0.1", "numbers": numbers}}
    found = list(number_faults(Config.model_validate({"keys": keys})))
    assert [(finding.loc[-1], finding.other[-1]) for finding in found] == [(2, 1)]


@given(st.ip_addresses(), st.integers(1, 65535))
def test_host_and_port_come_back_as_they_were(address: ipaddress.IPv4Address, port: int) -> None:
    written = join_host(str(address), port)
    assert split_host(written, "host") == (str(address), port)
    assert split_host(join_host(str(address), None), "host") == (str(address), None)
    if not address.is_unspecified:
        assert str(SipPeer.parse(f"sip:{written}")) == f"sip:{written}"
    assert str(ListenUri.parse(f"tcp://{written}")) == f"tcp://{written}"


@given(st.text(max_size=40))
def test_any_text_is_a_peer_or_a_value_error(text: str) -> None:
    for parse in (SipPeer.parse, ListenUri.parse):
        for value in (text, f"sip:{text}", f"udp://{text}"):
            try:
                found = parse(value)
            except ValueError:
                continue
            assert 1 <= found.port <= 65535
            assert found.host


@pytest.mark.parametrize(
    ("text", "peer"),
    [
        ("sip:127.0.0.1", SipPeer("127.0.0.1", 5060, "udp")),
        ("SIP:127.0.0.1:5070;transport=TCP", SipPeer("127.0.0.1", 5070, "tcp")),
        ("sip:[::1]", SipPeer("::1", 5060, "udp")),
        ("sips:Trunk.Example.JP", SipPeer("trunk.example.jp", 5061, "tls", False, False, True)),
        ("sips:trunk.example.jp;transport=tcp", SipPeer("trunk.example.jp", 5061, "tls", False, True, True)),
        ("sip:trunk.example.jp;transport=tls", SipPeer("trunk.example.jp", 5061, "tls", False, True)),
        ("sip:trunk.example.jp:5060", SipPeer("trunk.example.jp", 5060, "udp", True, False)),
        ("sip:asterisk", SipPeer("asterisk", 5060, "udp", False, False)),
    ],
)
def test_peers(text: str, peer: SipPeer) -> None:
    assert SipPeer.parse(text) == peer


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("192.0.2.53", HostPort("192.0.2.53", 53)),
        ("127.0.0.1:5353", HostPort("127.0.0.1", 5353)),
        ("2001:db8::53", HostPort("2001:db8::53", 53)),
        ("[2001:db8::53]:5353", HostPort("2001:db8::53", 5353)),
    ],
)
def test_name_servers(text: str, found: HostPort) -> None:
    assert parse_name_server(text) == found


@pytest.mark.parametrize(
    "text",
    ["sip:trunk.example.jp", "sip:trunk.example.jp:5060", "sips:trunk.example.jp", "sip:a;transport=udp"],
)
def test_a_name_is_shown_as_it_was_written(text: str) -> None:
    """A port that nobody gave is looked up (RFC 3263): it must not appear by itself."""
    assert str(SipPeer.parse(text)) == text
