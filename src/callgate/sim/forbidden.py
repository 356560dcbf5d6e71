"""Which dialled numbers the simulated carrier calls forbidden.

A judgement of its own, short and apart from `callgate.numbers`: a carrier does not ask the gate.
It knows the forms that the built-in PBX dials, not every trap there is.
"""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import unquote

_SEPARATORS = re.compile(r"[-.()/ \t]")
_RULES = (
    ("K-X1+EMG", re.compile(r"11[089]")),
    ("K-X1", re.compile(r"1\d{2,}|\d{3}")),
    ("K-X2", re.compile(r"0(?:120|800|570|990|170|180)\d+")),
    ("K-X3", re.compile(r"00\d+")),
)


def broken_rule(user: str) -> str:
    """The id of the rule that a dialled string breaks, empty for none. `user` as in a URI, %-escapes too."""
    digits = _SEPARATORS.sub("", unicodedata.normalize("NFKC", unquote(user)))
    while True:
        for rule, pattern in _RULES:
            if pattern.fullmatch(digits) and not digits.startswith(("184", "186")):
                return rule
        shorter = re.sub(r"\A(?:184|186)", "", digits)
        shorter = re.sub(r"\A(?:\+81|01081)0?", "0", shorter)
        if shorter == digits:
            return ""
        digits = shorter
