"""URIs: sip, sips, tel, urn (RFC 3261 §19.1, RFC 3966, RFC 5031): each part as it was written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callgate.sip.errors import Malformed
from callgate.sip.uri import parse_uri


@pytest.mark.parametrize(
    ("raw", "scheme", "user", "host", "port", "params", "headers"),
    [
        # the examples of RFC 3261 §19.1.3
        (b"sip:alice@atlanta.com", b"sip", b"alice", b"atlanta.com", 0, b"", b""),
        (
            b"sip:alice:secretword@atlanta.com;transport=tcp",
            *(b"sip", b"alice:secretword", b"atlanta.com", 0, b";transport=tcp", b""),
        ),
        (
            b"sips:alice@atlanta.com?subject=project%20x&priority=urgent",
            *(b"sips", b"alice", b"atlanta.com", 0, b"", b"?subject=project%20x&priority=urgent"),
        ),
        (
            b"sip:+1-212-555-1212:1234@gateway.com;user=phone",
            *(b"sip", b"+1-212-555-1212:1234", b"gateway.com", 0, b";user=phone", b""),
        ),
        (b"sips:1212@gateway.com", b"sips", b"1212", b"gateway.com", 0, b"", b""),
        (b"sip:alice@192.0.2.4", b"sip", b"alice", b"192.0.2.4", 0, b"", b""),
        (
            b"sip:atlanta.com;method=REGISTER?to=alice%40atlanta.com",
            *(b"sip", b"", b"atlanta.com", 0, b";method=REGISTER", b"?to=alice%40atlanta.com"),
        ),
        (b"sip:alice;day=tuesday@atlanta.com", b"sip", b"alice;day=tuesday", b"atlanta.com", 0, b"", b""),
        # case, ports, IPv6
        (b"SIP:Alice@Atlanta.COM:5060", b"sip", b"Alice", b"atlanta.com", 5060, b"", b""),
        (b"sip:a@h:00080", b"sip", b"a", b"h", 80, b"", b""),
        (b"sip:a@h:65535;x", b"sip", b"a", b"h", 65535, b";x", b""),
        (b"sip:[2001:DB8::1]", b"sip", b"", b"[2001:db8::1]", 0, b"", b""),
        (b"sip:a@[2001:db8::1]:5070;lr?x=y", b"sip", b"a", b"[2001:db8::1]", 5070, b";lr", b"?x=y"),
        (b"sip:a@[::ffff:192.0.2.1]", b"sip", b"a", b"[::ffff:192.0.2.1]", 0, b"", b""),
        (b"sip:user@[2001:db8:::192.0.2.1]", b"sip", b"user", b"[2001:db8:::192.0.2.1]", 0, b"", b""),
        # escapes and odd signs stay as they are
        (b"sip:%61lice%40x@h", b"sip", b"%61lice%40x", b"h", 0, b"", b""),
        (b"sip:a/b?c;d&e=f+g$h,i@h", b"sip", b"a/b?c;d&e=f+g$h,i", b"h", 0, b"", b""),
        (b"sip:*55#@h", b"sip", b"*55#", b"h", 0, b"", b""),
        (b"sip:\xe5\xb1\xb1@h", b"sip", b"\xe5\xb1\xb1", b"h", 0, b"", b""),
        (b"sip:h;p=[a:b]?q=a;b", b"sip", b"", b"h", 0, b";p=[a:b]", b"?q=a;b"),
        (b"sip:@h", b"sip", b"", b"h", 0, b"", b""),
        # other schemes
        (b"tel:+81-3-1234-5678", b"tel", b"+81-3-1234-5678", b"", 0, b"", b""),
        (b"tel:7042;phone-context=example.com", b"tel", b"7042;phone-context=example.com", b"", 0, b"", b""),
        (b"TEL:110", b"tel", b"110", b"", 0, b"", b""),
        (b"urn:service:sos.fire", b"urn", b"service:sos.fire", b"", 0, b"", b""),
        (b"im:a@b", b"im", b"a@b", b"", 0, b"", b""),
        (b"http://h/x?y", b"http", b"//h/x?y", b"", 0, b"", b""),
    ],
)
def test_uri(
    raw: bytes, scheme: bytes, user: bytes, host: bytes, port: int, params: bytes, headers: bytes
) -> None:
    uri = parse_uri(raw)
    assert (uri.scheme, uri.user, uri.host, uri.port) == (scheme, user, host, port)
    assert (uri.params, uri.headers, uri.raw) == (params, headers, raw)


@pytest.mark.parametrize(
    "raw",
    [
        *(
            b"",
            b"sip",
            b"sip:",
            b"sips:",
            b":a",
            b"a",
            b"*",
            b"sip:a@",
            b"sip:a b@h",
            b"sip:a@h h",
            b"sip:a@h;x y",
        ),
        *(
            b"sip:a@b@c",
            b"sip:a@h:",
            b"sip:a@h:x",
            b"sip:a@h:65536",
            b"sip:a@h:123456",
            b"sip:a@h:-1",
            b"sip:a@h:5:6",
        ),
        *(
            b"sip:a@[::1",
            b"sip:a@::1",
            b"sip:a@::1]",
            b"sip:a@[]",
            b"sip:a@[h]",
            b"sip:a@[::1]x",
            b"sip:a@2001:db8::1",
        ),
        *(
            b"<sip:a@h>",
            b"sip:<a>@h",
            b'sip:"a"@h',
            b"sip:a@h\r\n",
            b"sip:a@h\n",
            b"sip:a@h;x\n",
            b"sip:a\r@h",
        ),
        *(
            b"sip:a@h/x",
            b"sip:a@\xe5\xb1\xb1",
            b"sip:a@h\0",
            b"sip:a@h%41",
            b"sip:a,b",
            b"tel:",
            b"tel:1 2",
            b"tel:<1>",
        ),
        *(b"1tel:1", b"te l:1", b"t\xe4l:1", b" sip:a@h", b"sip:a@h ", b"urn:"),
    ],
)
def test_what_is_no_uri(raw: bytes) -> None:
    with pytest.raises(Malformed):
        parse_uri(raw)


@pytest.mark.parametrize(
    ("raw", "name", "value"),
    [
        (b"sip:h;lr", b"lr", b""),
        (b"sip:h;LR=on", b"lr", b"on"),
        (b"sip:h;transport=TCP;x", b"transport", b"TCP"),
        (b"sip:a;lr@h", b"lr", None),
        (b"sip:h?lr", b"lr", None),
        (b"sip:h;xlr;lrx", b"lr", None),
        (b"tel:1;phone-context=x", b"phone-context", None),
    ],
)
def test_a_parameter_of_the_uri_itself(raw: bytes, name: bytes, value: bytes | None) -> None:
    assert parse_uri(raw).param(name) == value


@pytest.mark.parametrize(
    ("raw", "host", "port"),
    [
        (b"sip:h", "h", 5060),
        (b"sips:h", "h", 5061),
        (b"sips:h:5060", "h", 5060),
        (b"sip:[2001:DB8::1]:5062", "2001:db8::1", 5062),
    ],
)
def test_where_a_uri_leads(raw: bytes, host: str, port: int) -> None:
    """§19.1.2: the default ports; an IPv6 address without its brackets."""
    uri = parse_uri(raw)
    assert (uri.bare_host, uri.default_port) == (host, port)


@given(st.one_of(st.binary(max_size=30), st.text('sip:@[];?=<>" \r\n%0a.', max_size=20).map(str.encode)))
def test_any_bytes_are_a_uri_or_malformed(raw: bytes) -> None:
    for data in (raw, b"sip:" + raw, b"tel:" + raw):
        try:
            uri = parse_uri(data)
        except Malformed:
            continue
        assert uri.raw == data
        assert not any(c in data for c in b' \t\r\n<>"')
        assert uri.bare_host.isascii()
        assert 0 <= uri.port <= 65535


@given(st.text("a;=?&@:%[]", max_size=12).map(str.encode))
def test_the_parts_put_together_are_the_uri(tail: bytes) -> None:
    """Nothing is read twice and nothing is lost."""
    try:
        uri = parse_uri(b"sip:u@h" + tail)
    except Malformed:
        return
    port = tail[: tail.find(b";")] if b";" in tail else tail
    assert uri.raw == b"sip:u@h" + tail
    assert uri.user == b"u"
    assert uri.raw.endswith(uri.params + uri.headers)
    assert uri.port or not port.startswith(b":")
