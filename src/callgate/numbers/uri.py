"""A Request-URI or a typed string taken apart, and judged: the two ways into this room."""

from __future__ import annotations

import re
from functools import lru_cache

from callgate.numbers.classes import RANK
from callgate.numbers.number import Number, Reading
from callgate.numbers.plan import JAPAN, Plan
from callgate.numbers.text import (
    ASCII_SEPARATORS,
    FORMS_PLAIN,
    FULL_WIDTH,
    SEPARATORS_OUT,
    Text,
    behind_disguise,
    clean,
    decode,
    show,
)
from callgate.numbers.walk import MAX_DIGITS, Walk, made, read_digits

SCHEME = re.compile(rb"(sips?|tel|urn):", re.IGNORECASE)
ANY_SCHEME = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*:")
NESTED = re.compile(r"(?:(?:sips?|tel|urn):)+", re.IGNORECASE)
SOS_URN = re.compile(r"urn:service:sos(?:\.[a-z0-9.-]+)?", re.IGNORECASE)
SOS_USER = re.compile(r"sos(?:\.[a-z0-9-]+)*", re.IGNORECASE)
SUSPECT = {"emergency": "emergency_suspect"}
GLOBAL_CONTEXT = re.compile(r"\+[0-9]{1,15}")
DOMAIN_CONTEXT = re.compile(
    r"(?=.{1,253}$)(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\.)*[A-Za-z](?:[A-Za-z0-9-]*[A-Za-z0-9])?\.?"
)


def read_uri(uri: bytes, plan: Plan = JAPAN) -> Number:
    """Judge a whole Request-URI: sip, sips, tel or urn (RFC 3261 §19.1, RFC 3966, RFC 5031).

    Never raises: what can't be read comes back as class `invalid`, a name as `sip_uri`.
    """
    # The live path: sip:0312345678@host, sip:+81-3-1234-5678@host, tel:+81312345678
    if uri[:4] == b"sip:":
        at = uri.find(b"@", 4)
        if at > 0 and uri.find(b"@", at + 1) < 0:
            user = uri[4:at]
            if user.isdigit() and len(user) <= MAX_DIGITS:
                text = user.decode("ascii")
                return read_digits(text, plan, text)
            if (found := _simple(user, plan)) is not None:
                return found
    elif uri[:4] == b"tel:" and (found := _spelled(uri[4:], plan)) is not None:
        return _after(found, uri.decode("ascii"), ("tel: URI",))
    return _judge_uri(uri, plan, typed=False)


def _bare(raw: bytes) -> str:
    """The digits of ASCII digits, a plus in front and separators; empty for anything else."""
    bare = raw.translate(None, ASCII_SEPARATORS)
    if not (bare.isdigit() or (bare[:1] == b"+" and bare[1:].isdigit())) or len(raw) > MAX_DIGITS:
        return ""
    return bare.decode("ascii")


def _spelled(raw: bytes, plan: Plan) -> Number | None:
    """The number that ASCII digits, a plus in front and separators are; None for anything else."""
    digits = _bare(raw)
    if not digits:
        return None
    if len(digits) == len(raw):
        return read_digits(digits, plan, digits)
    return _after(read_digits(digits, plan, ""), raw.decode("ascii"), (SEPARATORS_OUT,))


def _simple(raw: bytes, plan: Plan) -> Number | None:
    """The number of a user part in the spellings that PBXes use: plain, escaped, full-width, `phone-context=+81`; None
    for anything else. What it says is what the long way (`_judge_user`) says."""
    if (found := _spelled(raw, plan)) is not None:
        return found
    if raw.endswith(plan.context) and raw.count(b";") == 1 and raw[:1] != b"+":
        first = raw[: -len(plan.context)]
        digits = _bare(first)
        if not digits or digits[0] == "+":
            return None
        steps = plan.context_steps if len(digits) == len(first) else (*plan.context_steps, SEPARATORS_OUT)
        dialled = raw.decode("ascii")
        before = read_digits(digits, plan, dialled)
        found = read_digits(plan.plus + digits, plan, dialled)
        if before.cls != "unknown" or before.canonical[:1] == "+":
            return _after(_joined(before, found, plan.plus, plan), dialled, steps)
        _, canonical, cls, carrier, own, readings, note = found
        return made(Number, (dialled, canonical, cls, carrier, steps + own, before.readings + readings, note))
    if b"%" not in raw or b";" in raw or b":" in raw:
        return None
    text = decode(raw)
    return None if isinstance(text, Text) else _half(text, raw, plan)


def _half(text: str, raw: bytes, plan: Plan) -> Number | None:
    """The number of digits and separators that may be full-width; None for anything else."""
    half = text if text.isascii() else text.translate(FULL_WIDTH)
    if not half.isascii() or (found := _spelled(half.encode("ascii"), plan)) is None:
        return None
    return _after(found, show(raw), () if half == text else (FORMS_PLAIN,))


def _after(found: Number, dialled: str, steps: tuple[str, ...]) -> Number:
    """The same number, dialled as `dialled`, with `steps` before its own. (`_replace` takes three times as long.)"""
    _, canonical, cls, carrier, own, readings, note = found
    return made(Number, (dialled, canonical, cls, carrier, steps + own, readings, note))


def read_dialled(text: bytes | str, plan: Plan = JAPAN) -> Number:
    """Judge what a person typed: bare digits in any spelling, or a URI. Never raises."""
    raw = text if isinstance(text, bytes) else _bytes(text)
    if (plain := _spelled(raw, plan)) is not None:
        return plain
    stripped = raw.strip(b" \t")
    if ANY_SCHEME.match(stripped) or b"@" in stripped:
        found = _judge_uri(stripped, plan, typed=True)
    else:
        found = _judge_user(stripped, plan)
    return found._replace(dialled=show(raw))


def _bytes(text: str) -> bytes:
    """The bytes of `text`; a command's arguments carry those that are no UTF-8 as lone surrogates."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def _invalid(raw: bytes, note: str, plan: Plan, suspect: str = "") -> Number:
    """Unreadable. If an emergency number shows through in `suspect`, the reading says so."""
    walk = Walk(plan)
    if 0 < len(suspect) <= MAX_DIGITS:
        walk.aside(suspect, exact_only=True)
    return Number(show(raw), "", "invalid", readings=tuple(walk.readings), note=note)


def _judge_uri(raw: bytes, plan: Plan, typed: bool) -> Number:
    scheme = SCHEME.match(raw)
    if scheme is None:
        if typed and b"@" in raw and not ANY_SCHEME.match(raw):
            return _judge_sip(raw, raw, plan, typed)
        return _invalid(raw, "not a sip, sips, tel or urn URI", plan)
    name, rest = scheme[1].lower(), raw[scheme.end() :]
    if name == b"urn":
        return _judge_urn(raw, plan)
    if name == b"tel":
        found = _judge_user(rest, plan)
        return found._replace(dialled=show(raw), steps=("tel: URI", *found.steps))
    return _judge_sip(raw, rest, plan, typed)


def _judge_urn(raw: bytes, plan: Plan) -> Number:
    text = decode(raw)
    if isinstance(text, Text):
        return _invalid(raw, text.note, plan)
    canonical = text.lower()
    if SOS_URN.fullmatch(canonical):
        return Number(show(raw), canonical, "emergency", readings=(Reading(canonical, "emergency"),))
    if canonical.startswith("urn:service:") and canonical.isprintable():
        return Number(show(raw), canonical, "service_urn", readings=(Reading(canonical, "service_urn"),))
    return _invalid(raw, "not a service URN", plan)


def _judge_sip(raw: bytes, rest: bytes, plan: Plan, typed: bool) -> Number:
    user, at, host = rest.partition(b"@")
    if not at:
        # No user part: the host stands where a number might. Typed by a person it is one; in a request it
        # could only be forwarded without a user, so that nothing but what is forbidden counts.
        where = re.split(rb"[:;?]", rest, maxsplit=1)[0]
        found = _judge_user(where, plan, sip=True, named=True)
        if typed or found.cls in RANK or found.emergency:
            return found._replace(dialled=show(raw))
        return Number(show(raw), show(where), "sip_uri", readings=(Reading(show(where), "sip_uri"),))
    if b"@" in host:
        return _refused(_judge_user(user, plan, sip=True), show(user), "more than one @")
    return _judge_user(user, plan, sip=True, named=b";user=phone" not in host.lower())


def _refused(found: Number, dialled: str, note: str) -> Number:
    """A number that stands where none may: what is forbidden in it stays so, anything else is unreadable.

    An emergency number is only a suspect here: nobody could say where the call would go.
    """
    if found.cls in RANK:
        readings = tuple(Reading(r.text, SUSPECT.get(r.cls, r.cls)) for r in found.readings)
        return found._replace(dialled=dialled, cls=SUSPECT.get(found.cls, found.cls), readings=readings)
    return Number(dialled, "", "invalid", None, found.steps, found.readings, note)


def _judge_user(raw: bytes, plan: Plan, sip: bool = False, named: bool = False) -> Number:
    """A user part (`sip`: it may have a password; `named`: it may be a name), or the number of a tel URI."""
    if (plain := _spelled(raw, plan)) is not None:
        return plain
    whole = decode(raw)
    if isinstance(whole, Text):
        return _invalid(raw, whole.note, plan)
    if b";" not in raw and b":" not in raw:
        plain = _half(whole, raw, plan)
        if plain is not None:
            return plain
    if nested := NESTED.match(whole):
        return _judge_nested(raw, whole, nested.end(), plan)
    # Parameters are found before the escapes are taken out: an escaped ; or : belongs to the name.
    first, *params = raw.split(b";")
    steps: list[str] = []
    if sip and b":" in first:
        first = first.partition(b":")[0]
        steps.append("password left out")
    text = decode(first)
    if isinstance(text, Text):
        return _invalid(raw, text.note, plan)
    if SOS_USER.fullmatch(text.strip()):
        return Number(show(raw), text.strip().lower(), "emergency", readings=(Reading(text, "emergency"),))
    cleaned = clean(text)
    if cleaned.kind:
        if named and _is_name(text, cleaned.kind):
            return Number(show(raw), text, "sip_uri", readings=(Reading(text, "sip_uri"),))
        return _invalid(raw, cleaned.note, plan, behind_disguise(text))
    before = read_digits(cleaned.digits, plan, show(raw))
    found = _with_params(cleaned.digits, params, raw, plan, steps, before)
    return found._replace(steps=(*steps, *cleaned.steps, *found.steps)) if steps or cleaned.steps else found


def _judge_nested(raw: bytes, whole: str, end: int, plan: Plan) -> Number:
    """A URI as the user part of another: unreadable, but for what is forbidden in it."""
    note = "a URI inside another"
    if SOS_URN.fullmatch(whole.partition("@")[0]):
        return Number(show(raw), "", "invalid", readings=(Reading(whole, "emergency_suspect"),), note=note)
    inner = clean(re.split("[@;]", whole[end:], maxsplit=1)[0])
    return _refused(read_digits(inner.digits, plan, show(raw)), show(raw), note)


def _is_name(text: str, kind: str) -> bool:
    return kind == "letters" and text.isprintable() and any(char.isalpha() for char in text)


def _with_params(
    digits: str, params: list[bytes], raw: bytes, plan: Plan, steps: list[str], before: Number
) -> Number:
    """Apply `phone-context`, leave the others out (isub, postd, ext, cpc ...), RFC 3966 §3 and §5.1.5. `before` is the
    number without them."""
    if not params:
        return before
    dialled = show(raw)
    before = _after(before, dialled, ()) if before.dialled != dialled else before
    contexts: set[str] = set()
    for param in params:
        read = _param(param)
        if read is None:
            return _refused(before, dialled, "a parameter that can not be read")
        if read[0] == "phone-context":
            contexts.add(read[1])
    if not contexts:
        steps.append("parameters left out")
        return before
    if len(contexts) > 1:
        return _refused(before, dialled, "more than one phone-context")
    context = contexts.pop()
    plus = _plus(context)
    if digits[:1] == "+":
        agrees = digits.startswith(plus) if plus else bool(DOMAIN_CONTEXT.fullmatch(context))
        return before if agrees else _refused(before, dialled, "phone-context contradicts a number with +")
    if not plus and DOMAIN_CONTEXT.fullmatch(context):
        steps.append("phone-context is a domain: private number")
        if before.cls in RANK or before.cls == "invalid":
            return before
        return Number(dialled, digits, "private", None, before.steps, before.readings)
    if not GLOBAL_CONTEXT.fullmatch(plus):
        return _refused(before, dialled, "phone-context is neither + and digits nor a domain")
    steps.append(f"phone-context {plus} put in front")
    return _joined(before, read_digits(plus + digits, plan, dialled), plus, plan)


@lru_cache(maxsize=1024)
def _param(raw: bytes) -> tuple[str, str] | None:
    """(name, value) of a parameter, both in small letters; None where it can't be read. A PBX sends always the same."""
    name, _, value = raw.partition(b"=")
    plain_name, plain_value = decode(name), decode(value)
    if isinstance(plain_name, Text) or isinstance(plain_value, Text):
        return None
    return plain_name.strip().lower(), plain_value.strip().lower()


@lru_cache(maxsize=1024)
def _plus(context: str) -> str:
    """The plus and digits that a global phone-context is; empty for any other."""
    return clean(context).digits if context[:1] == "+" else ""


def _joined(before: Number, after: Number, plus: str, plan: Plan) -> Number:
    """The number with its context in front; what it was before counts as a reading."""
    if before.cls in RANK and not (after.cls in RANK and RANK[after.cls] <= RANK[before.cls]):
        return before._replace(readings=before.readings + after.readings)
    dialled, canonical, cls, carrier, steps, readings, note = after
    after = Number(dialled, canonical, cls, carrier, steps, before.readings + readings, note)
    abroad = not plus.startswith("+" + plan.country_code)
    whole = before.canonical.startswith("+")
    if whole and not abroad and after.cls == "invalid":
        # 184 0312345678 behind +81: the context only says what the number says itself.
        return before
    if whole and abroad and after.cls not in RANK:
        # 0312345678 is whole without its context: what a carrier makes of it nobody knows.
        return _refused(after, after.dialled, f"phone-context {plus} contradicts a whole number")
    return after
