"""Who is who: addresses, numbers, our own names."""

from __future__ import annotations

import itertools
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callgate.policy.claim import Gap, Members, Window
from callgate.policy.dial import DialRules
from callgate.policy.profile import NumberRules
from callgate.proxy.contract.siprec import Recorders
from callgate.proxy.directory import Directory
from callgate.proxy.flow import Flow, Listener
from callgate.proxy.peers import STRANGER, Gateway, Key, Numbers, Peer, Trunk, host_port
from callgate.proxy.token import key_tag
from callgate.sip.uri import parse_uri

UDP4 = Listener(0, b"UDP", "192.0.2.100", 5060)
TCP4 = Listener(1, b"TCP", "192.0.2.100", 5060)
UDP6 = Listener(2, b"UDP", "2001:db8::100", 5060)
LISTENERS = [UDP4, TCP4, UDP6]
RULES = DialRules(NumberRules({}))


def trunk(name: str = "carrier", *gateways: str, sources: tuple[str, ...] = ()) -> Trunk:
    made = Trunk(name, networks=[ip_network(s) for s in sources])
    for index, raw in enumerate(gateways):
        uri = parse_uri(raw.encode())
        listener = UDP6 if ":" in uri.bare_host else UDP4
        flow = Flow(listener, uri.bare_host, uri.default_port)
        made.gateways.append(Gateway(index, uri, flow, made))
    return made


def key(id: str, *sources: str, of: Trunk | None = None) -> Key:
    return Key(id, of or trunk(), RULES, networks=[ip_network(s) for s in sources])


def directory(*who: Key | Trunk, numbers: Numbers | None = None) -> Directory:
    trunks = [t for t in who if isinstance(t, Trunk)]
    keys = [k for k in who if isinstance(k, Key)]
    return Directory(LISTENERS, trunks, keys, numbers or Numbers())


def found(where: Directory, host: str, port: int = 5060) -> str:
    """`key x`, `trunk x`, `trunk x gateway n`, `stranger`."""
    peer = where.identify(Flow(UDP6 if ":" in host else UDP4, host, port))
    assert peer.key is None or peer.trunk is None
    if peer.key is not None:
        return f"key {peer.key.id}"
    if peer.trunk is None:
        return "stranger"
    return f"trunk {peer.trunk.name}" + (f" gateway {peer.gateway.index}" if peer.gateway is not None else "")


# -- addresses -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_the_longest_prefix_is_who_it_is(order: tuple[int, ...]) -> None:
    """Whatever order the config names them in."""
    keys = [key("a", "10.0.0.0/8"), key("b", "10.1.0.0/16"), key("c", "10.1.2.0/24"), key("d", "10.1.2.3/32")]
    where = directory(*(keys[n] for n in order))
    assert [found(where, h) for h in ("10.1.2.3", "10.1.2.4", "10.1.3.3", "10.2.2.3", "11.1.2.3")] == [
        *("key d", "key c", "key b", "key a", "stranger")
    ]


def test_the_edges_of_a_network() -> None:
    where = directory(key("a", "192.0.2.64/26"))
    hosts = ["192.0.2.63", "192.0.2.64", "192.0.2.127", "192.0.2.128"]
    assert [found(where, h) for h in hosts] == ["stranger", "key a", "key a", "stranger"]


def test_ipv6_networks_and_that_families_are_apart() -> None:
    where = directory(
        key("six", "2001:db8::/32"),
        key("one", "2001:db8::1/128"),
        key("all4", "0.0.0.0/0"),
        key("low", "::/96"),
    )
    assert found(where, "2001:db8:ffff::2") == "key six"
    assert found(where, "2001:db8::1") == "key one"
    assert found(where, "2001:db9::1") == "stranger"
    assert found(where, "192.0.2.1") == "key all4"
    assert found(where, "::c000:201") == "key low"  # the same 32 bits, another family


def test_a_network_of_everything_is_the_last_resort() -> None:
    where = directory(key("rest", "0.0.0.0/0"), key("pbx", "192.0.2.0/24"))
    assert (found(where, "192.0.2.9"), found(where, "198.51.100.1")) == ("key pbx", "key rest")


def test_a_key_may_have_many_sources() -> None:
    where = directory(key("a", "192.0.2.1/32", "198.51.100.0/24", "2001:db8::/64"))
    assert [found(where, h) for h in ("192.0.2.1", "198.51.100.77", "2001:db8::5", "192.0.2.2")] == [
        *["key a"] * 3,
        "stranger",
    ]


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 32)), min_size=1, max_size=12), st.data())
def test_identify_is_a_look_through_all_networks(nets: list[tuple[int, int]], data: st.DataObject) -> None:
    networks = [ip_network((address >> (32 - bits) << (32 - bits), bits)) for address, bits in nets]
    where = directory(*(Key(str(n), trunk(), RULES, networks=[net]) for n, net in enumerate(networks)))
    near = data.draw(st.sampled_from(networks))
    host = near[data.draw(st.integers(0, near.num_addresses - 1))]
    best = max((net for net in networks if host in net), key=lambda net: net.prefixlen)
    owners = [n for n, net in enumerate(networks) if net == best]
    # Of two equal ones neither: the config refuses that, and nothing else would tell them apart.
    assert found(where, str(host)) == (f"key {owners[0]}" if len(owners) == 1 else "stranger")


def test_a_gateway_s_own_port_is_the_trunk_though_a_key_holds_its_address() -> None:
    """interface.md: a peer that is exactly a gateway's ip:port is the trunk, even where a key's sources hold it."""
    carrier = trunk("carrier", "sip:192.0.2.1:5080")
    where = directory(carrier, key("a", "192.0.2.1/32"))
    assert found(where, "192.0.2.1", 5080) == "trunk carrier gateway 0"
    assert found(where, "192.0.2.1", 5081) == "key a"
    assert found(where, "192.0.2.1", 5060) == "key a"


def test_a_gateway_s_host_at_another_port_is_the_trunk_where_nobody_else_has_it() -> None:
    """Carriers send from other ports than they listen on."""
    carrier = trunk("carrier", "sip:192.0.2.1:5080")
    assert found(directory(carrier), "192.0.2.1", 40_000) == "trunk carrier gateway 0"
    assert found(directory(carrier, key("a", "192.0.2.0/24")), "192.0.2.1", 40_000) == "key a"
    assert found(directory(carrier, key("a", "0.0.0.0/0")), "192.0.2.1", 40_000) == "key a"
    assert found(directory(carrier), "192.0.2.2", 5080) == "stranger"


def test_several_gateways_of_several_trunks() -> None:
    one = trunk("one", "sip:192.0.2.1", "sip:192.0.2.1:5070", "sip:[2001:db8::9]:5090")
    two = trunk("two", "sip:192.0.2.2", "sip:192.0.2.1:5080")
    where = directory(one, two)
    assert found(where, "192.0.2.1", 5060) == "trunk one gateway 0"
    assert found(where, "192.0.2.1", 5070) == "trunk one gateway 1"
    assert found(where, "192.0.2.1", 5080) == "trunk two gateway 1"
    assert found(where, "192.0.2.1", 5099) == "trunk one gateway 0"  # the first that names the host
    assert found(where, "192.0.2.2", 1) == "trunk two gateway 0"
    assert found(where, "2001:db8::9", 5090) == "trunk one gateway 2"


def test_sources_of_a_trunk() -> None:
    carrier = trunk("carrier", "sip:192.0.2.1", sources=("198.51.100.0/24",))
    where = directory(carrier, key("a", "203.0.113.0/24"))
    assert found(where, "198.51.100.9") == "trunk carrier"
    assert found(where, "203.0.113.9") == "key a"


def test_a_key_s_source_comes_before_a_trunk_s_of_the_same_length() -> None:
    carrier = trunk("carrier", "sip:192.0.2.1", sources=("198.51.100.0/24", "203.0.113.7/32"))
    where = directory(carrier, key("a", "198.51.100.0/24", "203.0.113.0/24"))
    assert found(where, "198.51.100.9") == "key a"
    assert found(where, "203.0.113.7") == "trunk carrier"  # the longer one
    assert found(where, "203.0.113.8") == "key a"


def test_strangers_share_one_identity() -> None:
    assert directory().identify(Flow(UDP4, "192.0.2.1", 5060)) is STRANGER


def test_who_a_flow_is_is_looked_up_once_per_config() -> None:
    """And again after a reload: a flow may outlive a directory."""
    flow = Flow(UDP4, "192.0.2.1", 5060)
    before, after = directory(key("old", "192.0.2.1/32")), directory(key("new", "192.0.2.1/32"))
    first = before.identify(flow)
    assert first.key is not None
    assert first.key.id == "old"
    assert before.identify(flow) is first
    second = after.identify(flow)
    assert second.key is not None
    assert second.key.id == "new"
    assert before.identify(flow).key is first.key


def test_an_address_that_is_exactly_somebody_s() -> None:
    """A gateway's, or the PBX's that calls of a key go to; not merely one of its networks."""
    carrier, other = trunk("carrier", "sip:192.0.2.1:5080"), trunk("other", "sip:192.0.2.2:5080")
    at, uri = Flow(UDP4, "10.0.0.1", 5070), parse_uri(b"sip:10.0.0.1:5070")
    pbx = Key("a", carrier, RULES, networks=[ip_network("10.0.0.0/8")], pbx=at, pbx_uri=uri)
    bare = key("b", "10.0.0.0/8")
    where = directory(carrier, other, pbx, bare)
    assert where.is_exactly("192.0.2.1", 5080, Peer(trunk=carrier))
    assert not where.is_exactly("192.0.2.1", 5081, Peer(trunk=carrier))
    assert not where.is_exactly("192.0.2.2", 5080, Peer(trunk=carrier))
    assert where.is_exactly("10.0.0.1", 5070, Peer(key=pbx))
    assert not where.is_exactly("10.0.0.1", 5071, Peer(key=pbx))
    assert not where.is_exactly("10.0.0.2", 5070, Peer(key=pbx))
    assert not where.is_exactly("10.0.0.1", 5070, Peer(key=bare))
    assert not where.is_exactly("192.0.2.1", 5080, Peer(key=pbx))


def test_where_a_dialog_may_lead() -> None:
    """To a gateway only from a side that is its trunk, however the address is written; to a trunk's other sources
    from no PBX; to another port of a PBX's own host, though that is a gateway's too."""
    carrier = trunk("carrier", "sip:192.0.2.1:5080", "sip:[2001:db8::1]:5080", sources=("192.0.2.16/28",))
    other, pbx = trunk("other", "sip:192.0.2.2:5080", "sip:192.0.2.1:5090"), key("a", "10.0.0.0/8")
    where = directory(carrier, other, pbx)
    of_key, of_carrier, of_other = Peer(key=pbx), Peer(trunk=carrier), Peer(trunk=other)
    for host in ("192.0.2.1", "::ffff:192.0.2.1", "2001:db8::1", "2001:DB8:0:0::1"):
        assert not where.may_lead(host, 5080, of_key, "10.0.0.1")
        assert not where.may_lead(host, 5081, of_key, "10.0.0.1")
        assert where.may_lead(host, 5081, of_key, host)
        assert not where.may_lead(host, 5080, of_key, host)
        assert where.may_lead(host, 5080, of_carrier, "192.0.2.9")
        assert where.may_lead(host, 5081, of_carrier, "192.0.2.9")
    assert not where.may_lead("192.0.2.1", 5080, of_other, "192.0.2.2")
    assert where.may_lead("192.0.2.1", 5090, of_other, "192.0.2.2")
    assert not where.may_lead("192.0.2.1", 5090, of_carrier, "192.0.2.1")
    assert not where.may_lead("192.0.2.17", 5060, of_key, "10.0.0.1")
    assert where.may_lead("192.0.2.17", 5060, of_other, "192.0.2.2")
    assert where.may_lead("203.0.113.5", 5060, of_key, "10.0.0.1")
    assert where.may_lead("10.0.0.9", 5060, of_key, "10.0.0.1")
    recorders = Recorders([ip_network("203.0.113.80"), ip_network("192.0.2.2")])
    assert where.may_lead("203.0.113.80", 5062, Peer(trunk=recorders.trunk), "203.0.113.80")
    assert not where.may_lead("203.0.113.81", 5060, Peer(trunk=recorders.trunk), "203.0.113.80")
    assert not where.may_lead("192.0.2.2", 5080, Peer(trunk=recorders.trunk), "192.0.2.2")


# -- numbers -------------------------------------------------------------------------------------------


def numbers(*ranges: tuple[str, str, str]) -> Numbers:
    made = Numbers()
    for first, last, id in ranges:
        made.add(first, last, key(id))
    return made


def whose(made: Numbers, number: str) -> str | None:
    owner = made.get(number)
    return owner.id if owner is not None else None


def test_single_numbers_and_ranges() -> None:
    made = numbers(
        ("+815012345678", "+815012345678", "one"),
        ("+815012345600", "+815012345649", "low"),
        ("+815012345650", "+815012345677", "mid"),
        ("+81312340000", "+81312349999", "tokyo"),
    )
    asked = [
        "+815012345678",
        "+815012345600",
        "+815012345649",
        "+815012345650",
        "+815012345677",
        "+81312345555",
    ]
    assert [whose(made, n) for n in asked] == ["one", "low", "low", "mid", "mid", "tokyo"]


@pytest.mark.parametrize(
    "number",
    [
        *(
            "",
            "+",
            "+8150123456",
            "+8150123456780",
            "+815012345650",
            "+815012345599",
            "815012345600",
            "05012345600",
        ),
        *("+815012345600x", "\uff0b815012345600", "anonymous"),
    ],
)
def test_a_number_that_is_nobody_s(number: str) -> None:
    """A shorter or longer one that sorts in between is not in a range."""
    assert whose(numbers(("+815012345600", "+815012345649", "a")), number) is None


def test_a_directory_without_numbers_knows_none() -> None:
    assert Numbers().get("+815012345678") is None
    assert directory().key_of_number("+815012345678") is None


@given(st.lists(st.integers(0, 999), min_size=2, max_size=12, unique=True).map(sorted), st.integers(0, 999))
def test_any_ranges_that_do_not_overlap(edges: list[int], asked: int) -> None:
    pairs = list(zip(edges[::2], edges[1::2], strict=False))
    made = numbers(*((f"+81{a:03}", f"+81{b:03}", str(a)) for a, b in reversed(pairs)))
    expected = next((str(a) for a, b in pairs if a <= asked <= b), None)
    assert whose(made, f"+81{asked:03}") == expected


def test_a_million_numbers_are_one_entry() -> None:
    made = numbers(("+815000000000", "+815009999999", "a"), ("+815010000000", "+815010000000", "b"))
    assert len(made._ranges) + len(made._single) == 2
    assert [whose(made, n) for n in ("+815005555555", "+815010000000", "+815010000001")] == ["a", "b", None]


# -- our own names -------------------------------------------------------------------------------------


def test_our_own_addresses() -> None:
    where = Directory(LISTENERS, [], [], Numbers(), own=[("sip.example.jp", 5061)])
    asked = [("192.0.2.100", 5060), ("2001:db8::100", 5060), ("sip.example.jp", 5061), ("192.0.2.100", 5061)]
    assert [where.is_own(*a) for a in asked] == [True, True, True, False]
    assert not where.is_own("192.0.2.101", 5060)


@pytest.mark.parametrize("listener", LISTENERS)
def test_our_own_route_is_found_as_we_wrote_it(listener: Listener) -> None:
    value = listener.record_route.partition(b": ")[2] + b"TOKEN>"
    assert directory().own_route(value) == b"TOKEN"


@pytest.mark.parametrize(
    "value",
    [
        *(
            b"",
            b"<sip:192.0.2.100:5060;lr>",
            b"<sip:192.0.2.101:5060;lr;cg=TOKEN>",
            b"<sip:x@192.0.2.100:5060;lr;cg=T>",
        ),
        *(
            b"<sip:192.0.2.100:5060;lr;cg=TOKEN",
            b"sip:192.0.2.100:5060;lr;cg=TOKEN",
            b'"x" <sip:192.0.2.100:5060;lr;cg=T>',
        ),
        b"<sip:192.0.2.100:50601;lr;cg=T>",
    ],
)
def test_another_s_route_is_not_ours(value: bytes) -> None:
    assert directory().own_route(value) is None


def test_the_listener_to_reach_somebody_from() -> None:
    where, second = directory(), Listener(3, b"UDP", "192.0.2.200", 5060)
    assert where.listener_for(b"UDP", "198.51.100.1") is UDP4
    assert where.listener_for(b"TCP", "198.51.100.1") is TCP4
    assert where.listener_for(b"UDP", "2001:db8::5") is UDP6
    assert where.listener_for(b"TCP", "2001:db8::5") is None
    assert where.listener_for(b"TLS", "198.51.100.1") is None
    assert where.listener_for(b"UDP", "198.51.100.1", like=second) is second
    assert where.listener_for(b"UDP", "2001:db8::5", like=second) is UDP6
    assert where.listener_for(b"TCP", "198.51.100.1", like=second) is TCP4


def test_a_key_is_found_by_its_tag() -> None:
    a, b = key("a"), key("b")
    where = directory(a, b)
    assert where.key_of_tag == {key_tag("a"): a, key_tag("b"): b}


# -- what a key and a gateway say of themselves --------------------------------------------------------


def test_how_long_a_token_of_a_key_is_out() -> None:
    attempt = (
        Window("V1", "rate", 3),
        Window("V8", "hour", 100, 3600.0),
        Members("V4", "lines", 1),
        Gap("K4", "g", 9e9, b""),
    )
    assert Key("a", trunk(), RULES, attempt=attempt).token_seconds == 3600.0
    assert Key("a", trunk(), RULES, attempt=attempt[:1]).token_seconds == 1.0
    assert Key("a", trunk(), RULES).token_seconds == 0.0


@pytest.mark.parametrize(
    ("uri", "written"),
    [
        (b"sip:192.0.2.1", b"192.0.2.1"),
        (b"sip:192.0.2.1:5080", b"192.0.2.1:5080"),
        (b"sip:GW.example.jp:5080;transport=tcp;x=y", b"gw.example.jp:5080;transport=tcp"),
        (b"sip:[2001:db8::1]:5080", b"[2001:db8::1]:5080"),
    ],
)
def test_what_stands_in_a_request_uri_towards_a_gateway(uri: bytes, written: bytes) -> None:
    assert host_port(parse_uri(uri)) == written
    gateway = Gateway(0, parse_uri(uri), Flow(UDP4, "192.0.2.1", 5080), trunk())
    assert (gateway.hostport, gateway.up) == (written, True)
    assert gateway.flow is not None
    assert (gateway.flow.host, gateway.flow.port) == ("192.0.2.1", 5080)


def test_a_peer_that_is_nobody() -> None:
    assert (STRANGER.key, STRANGER.trunk, STRANGER.gateway) == (None, None, None)
    assert (Peer().key, Peer().trunk) == (None, None)
