"""The number rules that the tests judge by, and a short way to a verdict."""

from pathlib import Path

from callgate.config import load_profile
from callgate.numbers import Number, read_dialled
from callgate.policy.dial import DialRules, DialVerdict

STANDARD = DialRules(load_profile("standard", Path()).numbers)
"""The shipped default contract."""
KCT_NET_RULES = load_profile("kct-net", Path()).numbers
KCT_NET = DialRules(KCT_NET_RULES)
"""The closed list of the contract kct-net."""
KX = dict(KCT_NET_RULES.blocked)
"""The classes of emergency and K-X, with their rules."""


def verdict(dialled: str | bytes, rules: DialRules = STANDARD) -> DialVerdict:
    return rules.judge(read_dialled(dialled))


def both(dialled: str | bytes, rules: DialRules = STANDARD) -> tuple[Number, DialVerdict]:
    number = read_dialled(dialled)
    return number, rules.judge(number)
