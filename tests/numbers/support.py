"""The number rules that the tests judge by, and a short way to a verdict."""

from pathlib import Path

from callgate.config import load_profile
from callgate.numbers import Number, read_dialled
from callgate.policy.dial import DialRules, DialVerdict
from callgate.policy.profile import NumberRules

STANDARD = DialRules(load_profile("standard", Path()).numbers)
"""The shipped default contract."""

KX = {
    "emergency": "K-X1+EMG",
    "foreign_emergency": "K-X1+EMG",
    "emergency_suspect": "K-X1+EMG",
    "1xy": "K-X1",
    "three_digit": "K-X1",
    "toll_free": "K-X2",
    "navi_dial": "K-X2",
    "premium": "K-X2",
    "televote": "K-X2",
    "message_dial": "K-X2",
    "carrier_select": "K-X3",
}
KCT_NET_RULES = NumberRules(
    blocked=KX,
    allowed={
        "domestic_fixed": "K-C2",
        "domestic_mobile": "K-C6",
        "ip_phone_050": "K-C1/C4/C5",
        "international_fixed": "K-C3",
    },
    default="block",
    default_rule="K-D",
)
KCT_NET = DialRules(KCT_NET_RULES)
"""The closed list of the contract kct-net."""


def verdict(dialled: str | bytes, rules: DialRules = STANDARD) -> DialVerdict:
    return rules.judge(read_dialled(dialled))


def both(dialled: str | bytes, rules: DialRules = STANDARD) -> tuple[Number, DialVerdict]:
    number = read_dialled(dialled)
    return number, rules.judge(number)
