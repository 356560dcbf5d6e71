"""From raw bytes to the digits that were dialled: %-escapes, Unicode forms, separators.

Nothing is dropped but what people write between digits. What can't be seen (zero-width, control characters)
and digits of other scripts make the string unreadable instead: two systems would read two numbers in it.
"""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

MAX_BYTES = 1024
"""Longer text is refused unread."""

SEPARATORS = "-.()/ \t\u2010\u2011\u2012\u2013\u2014\u2015\u2212\u30fc"
ASCII_SEPARATORS = b"-.()/ \t"
SEPARATORS_OUT = "separators left out"
FORMS_PLAIN = "Unicode forms made plain"
FULL_WIDTH = {0xFF10 + digit: str(digit) for digit in range(10)} | {0xFF0B: "+", 0xFF0D: "-", 0x3000: " "}
"""The full-width forms that a Japanese keyboard makes, as NFKC has them."""
DROP = dict.fromkeys(map(ord, SEPARATORS))
DIALLABLE = re.compile(r"[0-9+#*]*")
PAUSED = re.compile(r"([0-9+#*]+)[pPwW,][0-9#*pPwW,A-D]*")
"""A number, then a pause and what is keyed in after the answer."""
BROKEN = re.compile(rb"%(?![0-9A-Fa-f]{2})")

HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Mn", "Me"})
"""Unicode categories that leave no mark of their own on a screen."""
DIGIT_KINDS = frozenset({"Nd", "No", "Nl"})


class Text(NamedTuple):
    """What can be dialled: `digits`, or "" with a `note` that says why.

    `kind` is then one of `hidden`, `script` (digits of other scripts), `letters`, `empty`, `long`, `bytes`.
    """

    digits: str
    kind: str = ""
    note: str = ""
    steps: tuple[str, ...] = ()


def unescape(raw: bytes) -> bytes | None:
    """%-escapes decoded, once; None where a % is followed by no two hex digits."""
    if b"%" not in raw:
        return raw
    return None if BROKEN.search(raw) else unquote_to_bytes(raw)


def show(raw: bytes) -> str:
    """Raw bytes as text that loses nothing and can stand in JSON: what is no UTF-8 appears as `\\\\xff`."""
    return raw.decode("utf-8", "backslashreplace")


def decode(raw: bytes) -> str | Text:
    """The text of raw bytes, %-escapes taken out, or what is wrong with them."""
    if len(raw) > MAX_BYTES:
        return Text("", "long", f"more than {MAX_BYTES} bytes")
    plain = unescape(raw)
    if plain is None:
        return Text("", "bytes", "a % without two hex digits")
    try:
        return plain.decode("utf-8")
    except UnicodeDecodeError:
        return Text("", "bytes", "not UTF-8")


def clean(text: str) -> Text:
    """The digits, `+`, `#` and `*` in `text`, with separators and what is keyed after a pause left out."""
    steps: list[str] = []
    if not text.isascii() or not text.isprintable():
        for char in text:
            if char != "\t" and unicodedata.category(char) in HIDDEN:
                return Text("", "hidden", f"invisible or control character U+{ord(char):04X}")
        folded = unicodedata.normalize("NFKC", text)
        if folded != text:
            steps.append(FORMS_PLAIN)
        text = folded
    bare = text.translate(DROP)
    if bare != text:
        steps.append(SEPARATORS_OUT)
    if not DIALLABLE.fullmatch(bare):
        if not (paused := PAUSED.fullmatch(bare)):
            return _unreadable(bare)
        steps.append("cut at the pause")
        bare = paused[1]
    if not bare:
        return Text("", "empty", "no digits")
    return Text(bare, steps=tuple(steps))


def _unreadable(text: str) -> Text:
    for char in text:
        if char not in "0123456789" and unicodedata.category(char) in DIGIT_KINDS:
            return Text("", "script", f"digit of another script U+{ord(char):04X}")
    char = next(char for char in text if char not in "0123456789+#*")
    shown = char if char.isascii() and char not in '"\\' else f"U+{ord(char):04X}"
    return Text("", "letters", f"{shown} is not a digit")


def behind_disguise(text: str) -> str:
    """The digits that a person would see in a string refused for hidden characters or foreign digits."""
    kept = []
    for char in text:
        if unicodedata.category(char) not in HIDDEN:
            kept.append(str(unicodedata.decimal(char, char)))
    found = clean("".join(kept))
    return found.digits
