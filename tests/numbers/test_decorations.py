"""Promises: no decoration gets a forbidden number through, or costs a call to an allowed one."""

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.examples import many
from tests.numbers.support import KCT_NET, KX, STANDARD

from callgate.numbers import EMERGENCY, JAPAN, read_dialled, read_uri
from callgate.numbers.uri import _judge_user, _simple
from callgate.numbers.walk import Walk, read_digits
from callgate.policy.dial import Lists
from callgate.policy.numberlist import NumberList, Table

DIGIT = st.sampled_from("0123456789")


def digits(count: int) -> st.SearchStrategy[str]:
    return st.text(DIGIT, min_size=count, max_size=count)


EMERGENCY_CALLS = st.sampled_from(["110", "118", "119"])
FORBIDDEN = st.one_of(
    EMERGENCY_CALLS,
    st.sampled_from(["911", "112", "999", "104", "117", "171", "177", "222", "411"]),
    st.builds("0{}{}".format, st.sampled_from(["120", "570", "990", "170", "180"]), digits(6)),
    st.builds("0800{}".format, digits(7)),
    st.builds("00{}{}".format, st.sampled_from(["33", "77", "38", "88"]), st.just("0312345678")),
)

AREAS = sorted(area for area in JAPAN.areas if len(area) > 2)
# A local code begins with 2 to 9, and 0AB0 services are no part of an area.
FIXED = st.builds(
    lambda area, local, rest: (area + local + rest)[:10],
    st.sampled_from(AREAS),
    st.sampled_from("23456789"),
    digits(6),
).filter(lambda number: JAPAN.first4[number[:4]].cls == "domestic_fixed")
MOBILE = st.builds(
    "0{}0{}{}".format, st.sampled_from("6789"), st.sampled_from("123456789"), digits(7)
).filter(lambda number: not number.startswith("0800"))
IP = st.builds("050{}{}".format, st.sampled_from("123456789"), digits(7))
DOMESTIC = st.one_of(FIXED, MOBILE, IP)

SEPARATORS = st.sampled_from(
    ["-", ".", "(", ")", "/", " ", "\t", "‐", "‑", "‒", "–", "—", "―", "−", "ー", "　", "－"]
)
FULL_WIDTH = str.maketrans("0123456789+", "０１２３４５６７８９＋")


@st.composite
def spelled(draw: st.DrawFn, number: str) -> str:
    """The same digits in another spelling: separators, full-width forms."""
    out = ""
    for char in number:
        out += draw(st.sampled_from([char, char, char.translate(FULL_WIDTH)]))
        if draw(st.integers(0, 4)) == 0:
            out += draw(SEPARATORS)
    return out


@st.composite
def escaped(draw: st.DrawFn, text: str) -> str:
    """Any of the bytes %-escaped."""
    return "".join(
        f"%{byte:02{draw(st.sampled_from('xX'))}}"
        if byte > 127 or byte <= 32 or draw(st.integers(0, 4)) == 0
        else chr(byte)
        for byte in text.encode()
    )


CONTEXTS = ["", "", ";phone-context=+81", ";isub=123", ";postd=pp1", ";ext=9;phone-context=%2B81"]
FORBIDDEN_CONTEXTS = [
    *CONTEXTS,
    ";phone-context=+1",
    ";phone-context=gate.example.com",
    ";phone-context=!",
    ";PHONE-context=+81",
]


@st.composite
def wrapped(draw: st.DrawFn, number: str, contexts: list[str]) -> str:
    """A spelling of the number as bare digits or in a tel or sip URI, with parameters."""
    user = draw(escaped(draw(spelled(number))))
    user += draw(st.sampled_from(contexts if not number.startswith("+") else ["", ";isub=1"]))
    form = draw(
        st.sampled_from(["{}", "tel:{}", "TEL:{}", "sip:{}@gate", "sip:{}@gate:5060;user=phone", "sips:{}@h"])
    )
    return form.format(user)


PREFIXES = st.lists(st.sampled_from(["184", "186", "+81", "01081", "0033", "1220077", "010+81"]), max_size=4)


@st.composite
def disguised(draw: st.DrawFn, number: str) -> str:
    """Any nesting of prefixes before the number, in any spelling and form."""
    for prefix in draw(PREFIXES):
        national = number[:1] == "0" and number[:2] != "00" and prefix.endswith("81")
        number = prefix + (number[1:] if national and draw(st.booleans()) else number)
    return draw(wrapped(number, FORBIDDEN_CONTEXTS))


@st.composite
def in_other_words(draw: st.DrawFn, number: str) -> str:
    """A domestic number in a form that any network reads as the same number."""
    form = draw(
        st.sampled_from(["{0}", "{0}", "+81{1}", "01081{1}", "+810{1}", "010810{1}", "010+81{1}", "81{1}"])
    )
    number = form.format(number, number[1:])
    number = draw(st.sampled_from(["", "", "184", "186", "184186", "186186184"])) + number
    return draw(wrapped(number, CONTEXTS if "+" not in number and number[:3] != "010" else [""]))


@settings(max_examples=many(200))
@given(st.data(), FORBIDDEN)
def test_a_forbidden_number_stays_forbidden_in_any_disguise(data: st.DataObject, number: str) -> None:
    text = data.draw(disguised(number))
    for rules in (STANDARD, KCT_NET):
        assert not rules.judge(read_dialled(text)).allowed


@settings(max_examples=many(150))
@given(st.data(), EMERGENCY_CALLS)
def test_an_emergency_number_is_known_under_prefixes(data: st.DataObject, number: str) -> None:
    prefix = "".join(data.draw(st.lists(st.sampled_from(["184", "186"]), max_size=3)))
    prefix = data.draw(st.sampled_from(["", "+81", "01081", "010+81", "0033"])) + prefix
    text = data.draw(wrapped(prefix + number, FORBIDDEN_CONTEXTS))
    verdict = STANDARD.judge(read_dialled(text))
    assert (verdict.emergency, verdict.code) == (True, 503)


@settings(max_examples=many(200))
@given(st.data(), DOMESTIC)
def test_an_allowed_number_stays_allowed(data: st.DataObject, number: str) -> None:
    text = data.draw(in_other_words(number))
    plain = read_dialled(number)
    found = read_dialled(text)
    assert (found.cls, found.canonical) == (plain.cls, f"+81{number[1:]}")
    assert STANDARD.judge(found).allowed
    assert KCT_NET.judge(found).allowed


@given(st.text(DIGIT, max_size=24), st.sampled_from(["", "+", "00", "010", "+81", "184"]))
def test_one_verdict_by_request_and_by_command(number: str, front: str) -> None:
    uri = read_uri(f"sip:{front}{number}@gate".encode())
    typed = read_dialled(front + number)
    assert (uri.cls, uri.canonical, uri.carrier_prefix) == (typed.cls, typed.canonical, typed.carrier_prefix)


ABROAD = st.one_of(
    st.builds("44207946{}".format, digits(4)),
    st.builds("1212555{}".format, digits(4)),
    st.builds("861012{}".format, digits(6)),
    st.builds("447400{}".format, digits(6)),
)


@given(st.data(), ABROAD)
def test_a_number_abroad_is_the_same_in_every_spelling(data: st.DataObject, number: str) -> None:
    plain = read_dialled("+" + number)
    form = data.draw(st.sampled_from(["+{}", "010{}", "010+{}", "184+{}", "186010{}", "184186010{}"]))
    found = read_dialled(data.draw(wrapped(form.format(number), [""])))
    assert (found.cls, found.canonical) == (plain.cls, plain.canonical) == (plain.cls, "+" + number)
    assert STANDARD.judge(found).allowed
    assert KCT_NET.judge(found).allowed == (plain.cls == "international_fixed")


@settings(max_examples=many(150))
@given(st.data(), st.one_of(DOMESTIC, ABROAD.map("010{}".format)))
def test_what_a_list_blocks_stays_blocked_in_any_disguise(data: st.DataObject, number: str) -> None:
    table = Table()
    table.add(number)
    rules = STANDARD.narrowed([Lists("key acme", block=NumberList(table))])
    assert not rules.judge(read_dialled(data.draw(disguised(number)))).allowed


WHOLE = st.one_of(DOMESTIC, FORBIDDEN, digits(9), digits(10), digits(11))


@given(
    st.lists(
        st.sampled_from(["184", "186", "+81", "81", "01081", "010+81", "010", "0033", "122"]), max_size=3
    ).map("".join),
    WHOLE,
)
def test_the_short_way_and_the_long_way_say_the_same(front: str, number: str) -> None:
    for text in (front + number, front + number[1:]):
        walk = Walk(JAPAN)
        walk.run(text)
        assert read_digits(text, JAPAN, text) == walk.number(text)


@given(st.data(), st.one_of(WHOLE, EMERGENCY_CALLS))
def test_the_short_way_through_a_uri_and_the_long_one(data: st.DataObject, number: str) -> None:
    user = data.draw(escaped(data.draw(spelled(data.draw(st.sampled_from(["", "184", "+81"])) + number))))
    user += data.draw(st.sampled_from(["", ";phone-context=+81", ";phone-context=+1"]))
    short, long = _simple(user.encode(), JAPAN), _judge_user(user.encode(), JAPAN, sip=True)
    assert short in (None, long)


@given(st.text(st.sampled_from("0123456789"), min_size=1, max_size=20))
def test_canonical_is_judged_like_the_number_itself(number: str) -> None:
    found = read_dialled(number)
    if found.canonical.startswith("+") and found.carrier_prefix is None:
        again = read_dialled(found.canonical)
        assert again.canonical == found.canonical
        assert again.cls in (found.cls, "emergency_suspect")


@given(st.text(st.sampled_from("0123456789+*#"), max_size=70))
def test_a_class_is_as_strict_as_its_readings(text: str) -> None:
    number = read_dialled(text)
    forbidden = {reading.cls for reading in number.readings} & KX.keys()
    assert bool(forbidden) <= (number.cls in KX)
    assert number.emergency == (number.cls in EMERGENCY)
