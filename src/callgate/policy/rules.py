"""The rules that a contract can hold, by id: what each is, and whether anything enforces it yet.

The documents behind the ids: V, notes on using Vonage (KDDI Web Communications, in force 2024-02-14); K, KCT-Net IP
phone (2003); T, Tencent Cloud Contact Center SLA; I, Infobip service description, voice. C and N are the gate's own.
An X with a number is the operator's: nobody but the config says what it is.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from types import MappingProxyType

RULES: Mapping[str, str] = MappingProxyType(
    {
        "V1": "new outbound calls per second",
        "V2": "100 and more different domestic numbers called at once",
        "V3": "inbound calls up at once",
        "V4": "forwarded calls and lines up at once",
        "V5": "whose forwards need notice: one to a SIP address holds the line of its call in only",
        "V6": "notice of high load, two months ahead",
        "V7": "what kind of event a high load is for",
        "V8": "systems offered to third parties",
        "V9": "suspension of the account",
        "V10": "numbers bought per month",
        "V11": "numbers bought and given back again and again",
        "V12": "spend cap",
        "V13": "calls that a fault of a program makes",
        "K-D": "the list of carried calls is closed",
        "K-X1": "emergency and other numbers of three digits",
        "K-X2": "0120, 0800, 0570, 0990, 0170, 0180",
        "K-X3": "another carrier chosen by prefix",
        "K3": "automatic carrier selection must be off",
        "K4": "least time between two calls to the same number",
        "K6": "calls up at once, both directions",
        "K7": "fax is not guaranteed",
        "K8": "lines left on hold",
        "K9": "calls given up before they are answered",
        "K10": "suspension for intent or negligence",
        "K11": "interruption on congestion",
        "K13": "month-end close without an invoice",
        **{f"K-C{n}": "a class of calls that is carried" for n in range(1, 8)},
        "T1": "success rate of proper requests",
        "T2": "minutes with less than 99 % success",
        "T3": "availability of the service month",
        "T4": "credit for missed availability",
        "T5": "cap of the credit",
        "T6": "when a credit is claimed",
        "T7": "what a claim needs",
        "T8": "what does not count as a failure",
        "T9": "5.0 requests per second and more need notice",
        "T10": "data kept after termination",
        "T11": "export of service records",
        "T12": "deletion on request",
        "T13": "log of operations",
        "T14": "calls only to those who agreed",
        "T15": "the called person's time of rest",
        "I1": "calls recorded at once",
        "I2": "calls recorded at once, by licences",
        "I3": "licence fee per call recorded at once",
        "I4": "storage of recordings",
        "I5": "a recorder that can't be reached",
        "I7": "billing per started minute",
        "I9": "click-to-call is two calls",
        "I10": "number masking",
        "I11": "static public addresses on both sides",
        "I12": "inbound calls forwarded to a number, an address or a softphone",
        "I13": "missed calls",
        "I14": "carriers of one's own",
        "I15": "larger volumes announced days ahead",
        "I16": "risk score per number",
        "I17": "trusted numbers",
        "I18": "blocked traffic is neither billed nor counted",
        "I19": "caller ids within local regulation",
        "C1": "the longest call",
        "C2": "ordinary outbound calls up at once",
        "N1": "a call in for an unknown number",
        "N2": "a number that can't be told",
    }
)
"""Id → what the rule is."""

# fmt: off
TO_COME = frozenset(
    (
        "V6", "V7", "V8", "V10", "V11", "V12",
        "K9", "K13",
        "T1", "T2", "T3", "T4", "T5", "T6", "T7", "T8", "T10",
        "I2", "I3", "I4", "I7", "I10", "I15", "I16", "I17", "I18",
    )
)
# fmt: on
"""Those that nothing enforces, measures or reports yet: money, evidence for a claim, what is told ahead, risk."""

OWN = re.compile(r"X[1-9][0-9]{0,4}\Z")


def unknown(rule: str) -> str:
    """Why a rule's id can't be used; empty where it can."""
    if rule in RULES or OWN.match(rule):
        return ""
    near = difflib.get_close_matches(rule, RULES, n=1)
    remedy = f"did you mean `{near[0]}`?" if near else "a rule of your own is X and a number, such as `X1`"
    return f"there is no rule `{rule}`; {remedy}"
