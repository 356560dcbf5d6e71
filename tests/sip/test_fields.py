"""Header values: comma lists, addresses, tags, parameters, Via (RFC 3261 §20, §25.1)."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callgate.sip.errors import Malformed
from callgate.sip.fields import param, params_of, parse_name_addr, parse_via, split_list, tag_of, unfold

# -- lists ---------------------------------------------------------------------------------------------

_plain = st.text("ab;=@:. /\\>", min_size=1, max_size=5).map(str.encode)
_quoted = st.text('a,"\\<>; ', max_size=6).map(
    lambda t: ('"' + t.replace("\\", "\\\\").replace('"', '\\"') + '"').encode()
)
_bracketed = st.text('a,";? ', max_size=6).map(lambda t: f"<{t}>".encode())
_item = (
    st.lists(st.one_of(_plain, _quoted, _bracketed), min_size=1, max_size=4)
    .map(b"".join)
    .map(lambda v: v.strip(b" "))
    .filter(bool)
)
_comma = st.sampled_from([b",", b", ", b" ,", b"\t,\t", b",,", b" , , "])


@given(st.lists(st.tuples(_item, _comma), max_size=5), _item)
def test_a_list_is_split_at_its_commas_only(items: list[tuple[bytes, bytes]], last: bytes) -> None:
    """RFC 3261 §7.3.1: never inside quotes or <>, whatever stands in them; empty values are nothing."""
    value = b"".join(item + comma for item, comma in items) + last
    assert split_list(value) == [item for item, _ in items] + [last]


@pytest.mark.parametrize(
    ("value", "items"),
    [
        (b'a, "b, c', [b"a", b'"b, c']),
        (b"a, <b, c", [b"a", b"<b, c"]),
        (b'a, "b\\", c', [b"a", b'"b\\", c']),
        (b'a, "b\\', [b"a", b'"b\\']),
        (b'a,b"c,d"e,f', [b"a", b'b"c,d"e', b"f"]),
        (b"a>,b", [b"a>", b"b"]),
        (b",", []),
        (b" , ,", []),
        (b"*", [b"*"]),
    ],
)
def test_what_is_opened_and_never_closed_takes_the_rest(value: bytes, items: list[bytes]) -> None:
    """So no octet is lost and nothing behind a forgotten quote becomes a value of its own."""
    assert split_list(value) == items


@given(st.binary(max_size=40))
def test_any_bytes_can_be_split(value: bytes) -> None:
    """No octet but commas and blanks between values is lost."""
    items = split_list(value)
    assert sum(map(len, items)) <= len(value)
    drop = bytes.maketrans(b"", b"")
    assert b"".join(items).translate(drop, b", \t") == value.translate(drop, b", \t")


@pytest.mark.parametrize(
    ("folded", "value"),
    [
        (b"a\r\n b", b"a b"),
        (b"a \t\r\n\t  b", b"a b"),
        (b"a\r\n b\r\n c", b"a b c"),
        (b"\r\n a", b" a"),
        (b"a  b", b"a  b"),
    ],
)
def test_a_fold_with_the_blanks_around_it_is_one_blank(folded: bytes, value: bytes) -> None:
    assert unfold(folded) == value


# -- addresses -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "display", "uri", "params"),
    [
        (b"<sip:a@b>", b"", b"sip:a@b", b""),
        (b" <sip:a@b> ;x", b"", b"sip:a@b", b" ;x"),
        (b"Bob <sip:a@b>;tag=1", b"Bob", b"sip:a@b", b";tag=1"),
        (b"Bob van B. <sip:a@b>", b"Bob van B.", b"sip:a@b", b""),
        (b"Bob<sip:a@b>", b"Bob", b"sip:a@b", b""),
        (b'"Bob" <sip:a@b>', b"Bob", b"sip:a@b", b""),
        (b'"Bob"<sip:a@b>', b"Bob", b"sip:a@b", b""),
        (b'"" <sip:a@b>', b"", b"sip:a@b", b""),
        (b'"<sip:x@y>;tag=9" <sip:a@b>;tag=1', b"<sip:x@y>;tag=9", b"sip:a@b", b";tag=1"),
        (b'"a \\"quoted\\" \\\\" <sip:a@b>', b'a \\"quoted\\" \\\\', b"sip:a@b", b""),
        (b'"\xe5\xb1\xb1\xe7\x94\xb0" <sip:a@b>', b"\xe5\xb1\xb1\xe7\x94\xb0", b"sip:a@b", b""),
        (b"<sip:a@b;lr;x=1?h=2>;q=0.5", b"", b"sip:a@b;lr;x=1?h=2", b";q=0.5"),
        (b"<tel:+81312345678;phone-context=a>", b"", b"tel:+81312345678;phone-context=a", b""),
        (b"sip:a@b;tag=1;x", b"", b"sip:a@b", b";tag=1;x"),
        (b" sip:a@b ; tag=1", b"", b"sip:a@b", b"; tag=1"),
        (b"sip:a@b", b"", b"sip:a@b", b""),
        (b"tel:+81;tag=1", b"", b"tel:+81", b";tag=1"),
        (b"*", b"", b"*", b""),
        (b"", b"", b"", b""),
    ],
)
def test_name_addr(value: bytes, display: bytes, uri: bytes, params: bytes) -> None:
    """§20.10: without <> every parameter is the header's."""
    found = parse_name_addr(value)
    assert (found.display, found.uri, found.params) == (display, uri, params)


@pytest.mark.parametrize(
    "value",
    [
        *(
            b'"Bob <sip:a@b>',
            b"<sip:a@b",
            b'"a" "b" <sip:c>',
            b'a"b" <sip:c>',
            b'"a"b <sip:c>',
            b'Bob "',
            b'sip:a@b;x="',
        ),
        *(b"Bob <sip:a@b;tag=1", b'"a\\" <sip:c>', b"sip:a@b<", b'"', b"<"),
    ],
)
def test_an_address_with_quotes_or_brackets_that_do_not_match(value: bytes) -> None:
    with pytest.raises(Malformed):
        parse_name_addr(value)


@pytest.mark.parametrize(
    ("value", "tag"),
    [
        (b"<sip:a@b>;tag=1", b"1"),
        (b"<sip:a@b>", b""),
        (b"sip:a@b;tag=1", b"1"),
        (b"sip:a@b", b""),
        (b"<sip:a@b;tag=no>", b""),
        (b"<sip:a@b;tag=no>;tag=yes", b"yes"),
        (b"<sip:a@b?tag=no>;x", b""),
        (b"<sip:a@b>;TAG=Yes", b"Yes"),
        (b"<sip:a@b> ; tag = 1 ; x", b"1"),
        (b"<sip:a@b>;x=1;tag=2;y=3", b"2"),
        (b'<sip:a@b>;x=";tag=no";tag=yes', b"yes"),
        (b'<sip:a@b>;x=";tag=no"', b""),
        (b'sip:a@b;x="<c>,d";tag=yes', b"yes"),
        (b"isbn:2983792873;tag=1", b"1"),
        (b"<http://www.example.com>;tag=1", b"1"),
        (b"token1~` token2'+_ token3*%!.- <sip:a@b>;tag=1", b"1"),
        (b"Bob (Sales), <sip:a@b>;tag=1".replace(b",", b""), b"1"),
        (b"\xe5\xb1\xb1\xe7\x94\xb0 <sip:a@b>;tag=1", b"1"),
        (b'<sip:a@b>;x="\\";tag=no";tag=yes', b"yes"),
        (b'"x>;tag=no" <sip:a@b>', b""),
        (b'"x>;tag=no" <sip:a@b>;tag=yes', b"yes"),
        (b'"<sip:c@d>;tag=no" <sip:a@b>', b""),
        (b"<sip:a@b>;nottag=1;atag=2;tagx=3", b""),
        (b"<sip:a@b>;tag=a!b%c*d_e+f`g'h~i-j.k", b"a!b%c*d_e+f`g'h~i-j.k"),
    ],
)
def test_the_tag_is_the_header_s_own(value: bytes, tag: bytes) -> None:
    """Never one that is written inside a display name, a URI or a quoted parameter."""
    assert tag_of(value) == tag


@pytest.mark.parametrize(
    "value",
    [
        *(b'"x>;tag=no', b'"a <sip:b>;tag=no', b"<sip:a;tag=no", b'"a" "b" <sip:c>;tag=no'),
        # two addresses, in every way to write them
        *(b"<sip:a@b>;tag=1, <sip:c@d>;tag=2", b"<sip:a@b>, <sip:c@d>", b"<sip:a@b>,<sip:c@d>;tag=2"),
        *(
            b"<sip:a@b> <sip:c@d>;tag=2",
            b"<sip:a@b><sip:c@d>",
            b"sip:a@b, sip:c@d;tag=1",
            b"sip:a@b;tag=1,sip:c",
        ),
        *(b"sip:a@b, <sip:c@d>;tag=1", b"<sip:a@b>;x=<sip:c@d>", b'<sip:a@b>;x="y",<sip:c@d>'),
        # RFC 4475 §3.1.2.14, §3.1.2.15
        *(b'"Watson, Thomas" < sip:t.watson@example.org >', b"Watson, Thomas <sip:t.watson@example.org>"),
        *(
            b"<sip:a b@c>",
            b"<sip:a\tb>",
            b"<sip:a\0b>",
            b"<sip:a\x7fb>",
            b"sip:a b;tag=1",
            b"<>",
            b"<>;tag=1",
            b"",
        ),
        *(
            b";tag=1",
            b" ;tag=1",
            b"Bob; <sip:a@b>;tag=1",
            b'<sip:"a"@b>;tag=1',
            b"<sip:a@b>x;tag=1",
            b"<sip:a@b>x",
        ),
        # a tag that one reader sees and another does not
        *(
            b"<sip:a@b>;tag=",
            b"<sip:a@b>;tag",
            b"<sip:a@b>;tag=a b",
            b'<sip:a@b>;tag="a"',
            b"<sip:a@b>;tag=a/b",
        ),
        *(b"<sip:a@b>;tag=one;tag=two", b"<sip:a@b>;tag=one;TAG=one", b"<sip:a@b>;tag;tag=two"),
        *(b'<sip:a@b>;x=";tag=no', b'<sip:a@b>;x="\\";tag=no', b'<sip:a@b>;tag=1;x="'),
    ],
)
def test_an_ill_formed_address_has_no_tag(value: bytes) -> None:
    """What two readers could take for two things is nobody's address."""
    with pytest.raises(Malformed):
        tag_of(value)


# -- parameters ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "name", "value"),
    [
        (b";a=1", b"a", b"1"),
        (b";A=1", b"a", b"1"),
        (b";a", b"a", b""),
        (b";a=", b"a", b""),
        (b";ab=1", b"a", None),
        (b"", b"a", None),
        (b" ; a = 1 ;b", b"a", b"1"),
        (b';a="x;b=2"', b"b", None),
        (b';a="x;b=2"', b"a", b"x;b=2"),
        (b';a="say \\"hi\\" \\\\"', b"a", b'say "hi" \\'),
        (b';a=""', b"a", b""),
        (b";a=1;a=2", b"a", b"1"),
        (b";a=[::1]:5", b"a", b"[::1]:5"),
        (b";+sip.src;a", b"+sip.src", b""),
    ],
)
def test_a_parameter(params: bytes, name: bytes, value: bytes | None) -> None:
    assert param(params, name) == value


def test_all_parameters_in_order() -> None:
    assert params_of(b' ;A = 1 ;b;c="x;y" ;b=2') == [
        (b"a", b"1"),
        (b"b", None),
        (b"c", b'"x;y"'),
        (b"b", b"2"),
    ]
    assert parse_name_addr(b'<sip:a>;+sip.src;expires="3"').param(b"expires") == b"3"


# -- Via -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "transport", "host", "port", "sent_by"),
    [
        (b"SIP/2.0/UDP h", b"UDP", b"h", 0, b"h"),
        (b"SIP/2.0/TCP h:5060", b"TCP", b"h", 5060, b"h:5060"),
        (b"SIP/2.0/udp H.Example.JP:5060", b"UDP", b"h.example.jp", 5060, b"h.example.jp:5060"),
        (b"sip/2.0/TLS-SCTP 192.0.2.1", b"TLS-SCTP", b"192.0.2.1", 0, b"192.0.2.1"),
        (b"SIP / 2.0\t/  UDP   h : 5060", b"UDP", b"h", 5060, b"h:5060"),
        (b"SIP/2.0/UDP\th", b"UDP", b"h", 0, b"h"),
        (b"SIP/2.0/UDP h:05060", b"UDP", b"h", 5060, b"h:5060"),
        (b"SIP/2.0/UDP h:65535", b"UDP", b"h", 65535, b"h:65535"),
        (b"SIP/2.0/UDP my_host-1", b"UDP", b"my_host-1", 0, b"my_host-1"),
        (b"SIP/2.0/UDP [2001:DB8::1]", b"UDP", b"[2001:db8::1]", 0, b"[2001:db8::1]"),
        (b"SIP/2.0/UDP [2001:db8::1]:5070", b"UDP", b"[2001:db8::1]", 5070, b"[2001:db8::1]:5070"),
        (b"SIP/2.0/UDP [::ffff:192.0.2.1]", b"UDP", b"[::ffff:192.0.2.1]", 0, b"[::ffff:192.0.2.1]"),
        (b"SIP/2.0/UDP 2001:db8::1", b"UDP", b"2001:db8::1", 0, b"2001:db8::1"),
        (b"SIP/2.0/UDP ::1", b"UDP", b"::1", 0, b"::1"),
        (b"SIP/2.0/UDP cafe:5060", b"UDP", b"cafe", 5060, b"cafe:5060"),
    ],
)
@pytest.mark.parametrize("params", [b"", b";branch=z9hG4bKx", b" ;\tbranch = z9hG4bKx ; rport"])
def test_via(value: bytes, transport: bytes, host: bytes, port: int, sent_by: bytes, params: bytes) -> None:
    """RFC 3261 §20.42; RFC 5118 §4.5 for IPv6 without brackets, where no port can follow it."""
    via = parse_via(value + params)
    assert (via.transport, via.host, via.port, via.sent_by) == (transport, host, port, sent_by)
    assert via.branch == (b"z9hG4bKx" if params else b"")
    assert via.rport == (b"rport" in params)
    assert via.text == value + params
    assert via.rest == b""


@pytest.mark.parametrize(
    ("params", "branch", "rport"),
    [
        (b";branch=z9hG4bKx", b"z9hG4bKx", False),
        (b";BRANCH=z9hG4bKx;RPORT", b"z9hG4bKx", True),
        (b";rport;branch=b", b"b", True),
        (b";rport=5060;branch=b", b"b", True),
        (b";received=192.0.2.1;branch=b", b"b", False),
        (b";received=2001:db8::9:255;branch=b", b"b", False),
        (b";received=[2001:db8::9:255];branch=b", b"b", False),
        (b";received=2001:db8:::192.0.2.1;branch=b", b"b", False),
        (b";maddr=224.0.1.75;ttl=1;alias;keep;branch=b", b"b", False),
        (b';x=";branch=no, rport";branch=b', b"b", False),
        (b';x="\\";branch=no";branch=b', b"b", False),
        (b";branch=a/b", b"a/b", False),
        (b";branch=", b"", False),
        (b";norport;xbranch=1", b"", False),
        (b"", b"", False),
    ],
)
def test_via_parameters(params: bytes, branch: bytes, rport: bool) -> None:
    via = parse_via(b"SIP/2.0/UDP h:5060" + params)
    assert (via.branch, via.rport, via.params) == (branch, rport, params)


@pytest.mark.parametrize("comma", [b",", b", ", b" , ", b"\t,"])
def test_what_follows_the_first_via_is_kept(comma: bytes) -> None:
    """Byte for byte: it is sent on when ours is taken off (§16.7 step 3)."""
    second = b'SIP / 2.0/UDP b ;x="a,b" , SIP/2.0/UDP c'
    via = parse_via(b'SIP/2.0/UDP a;x=",";branch=1' + comma + second)
    assert (via.text, via.branch, via.rest) == (b'SIP/2.0/UDP a;x=",";branch=1', b"1", second)


@pytest.mark.parametrize(
    "value",
    [
        *(b"", b"SIP/2.0", b"SIP/2.0/UDP", b"SIP/2.0/UDP ", b"SIP/2.0/ h", b"SIP/2.0/UDPh", b"SIP/3.0/UDP h"),
        *(
            b"HTTP/1.1/TCP h",
            b"SIP/2.0/U/P h",
            b"SIP/2.0/UDP h:port",
            b"SIP/2.0/UDP h:65536",
            b"SIP/2.0/UDP h:",
        ),
        *(
            b"SIP/2.0/UDP h:-1",
            b"SIP/2.0/UDP h x",
            b'SIP/2.0/UDP h;x="',
            b"SIP/2.0/UDP h branch=x",
            b"SIP/2.0/UDP <h>",
        ),
        *(
            b"SIP/2.0/UDP []",
            b"SIP/2.0/UDP [::1",
            b"SIP/2.0/UDP ::1]",
            b"SIP/2.0/UDP [h]",
            b"SIP/2.0/UDP h\0;x",
        ),
        *(b"SIP/2.0/UDP h;branch=a;branch=b", b"SIP/2.0/UDP h;branch=a;BRANCH=a", b"SIP/2.0/UDP h:123456"),
    ],
)
def test_a_via_that_cannot_be_read(value: bytes) -> None:
    with pytest.raises(Malformed):
        parse_via(value)


@given(st.one_of(st.binary(max_size=40), st.binary(max_size=30).map(lambda b: b"SIP/2.0/UDP h" + b)))
def test_any_bytes_are_read_or_malformed(value: bytes) -> None:
    for read in (parse_via, parse_name_addr, tag_of):
        with suppress(Malformed):
            read(value)
    param(value, b"x")
    params_of(value)
