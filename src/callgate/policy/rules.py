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

RULES: Mapping[str, tuple[str, int]] = MappingProxyType(
    {
        "V1": ("new outbound calls per second", 0),
        "V2": ("100 and more different domestic numbers called at once", 0),
        "V3": ("inbound calls up at once", 0),
        "V4": ("forwarded calls and lines up at once", 0),
        "V5": ("who needs to give notice", 5),
        "V6": ("notice of high load, two months ahead", 5),
        "V7": ("what kind of event a high load is for", 5),
        "V8": ("systems offered to third parties", 5),
        "V9": ("suspension of the account", 0),
        "V10": ("numbers bought per month", 5),
        "V11": ("numbers bought and given back again and again", 5),
        "V12": ("spend cap", 5),
        "V13": ("calls that a fault of a program makes", 0),
        "K-D": ("the list of carried calls is closed", 0),
        "K-X1": ("emergency and other numbers of three digits", 0),
        "K-X2": ("0120, 0800, 0570, 0990, 0170, 0180", 0),
        "K-X3": ("another carrier chosen by prefix", 0),
        "K3": ("automatic carrier selection must be off", 0),
        "K4": ("least time between two calls to the same number", 0),
        "K6": ("calls up at once, both directions", 0),
        "K7": ("fax is not guaranteed", 0),
        "K8": ("lines left on hold", 0),
        "K9": ("calls given up before they are answered", 5),
        "K10": ("suspension for intent or negligence", 0),
        "K11": ("interruption on congestion", 0),
        "K13": ("month-end close without an invoice", 5),
        **{f"K-C{n}": ("a class of calls that is carried", 0) for n in range(1, 8)},
        "T1": ("success rate of proper requests", 5),
        "T2": ("minutes with less than 99 % success", 5),
        "T3": ("availability of the service month", 5),
        "T4": ("credit for missed availability", 5),
        "T5": ("cap of the credit", 5),
        "T6": ("when a credit is claimed", 5),
        "T7": ("what a claim needs", 5),
        "T8": ("what does not count as a failure", 5),
        "T9": ("5.0 requests per second and more need notice", 0),
        "T10": ("data kept after termination", 5),
        "T11": ("export of service records", 5),
        "T12": ("deletion on request", 5),
        "T13": ("log of operations", 5),
        "T14": ("calls only to those who agreed", 0),
        "T15": ("the called person's time of rest", 0),
        "I1": ("calls recorded at once", 0),
        "I2": ("calls recorded at once, by licences", 5),
        "I3": ("licence fee per call recorded at once", 5),
        "I4": ("storage of recordings", 5),
        "I5": ("a recorder that can't be reached", 0),
        "I7": ("billing per started minute", 5),
        "I9": ("click-to-call is two calls", 0),
        "I10": ("number masking", 5),
        "I11": ("static public addresses on both sides", 0),
        "I12": ("inbound calls forwarded to a number, an address or a softphone", 0),
        "I13": ("missed calls", 5),
        "I14": ("carriers of one's own", 0),
        "I15": ("larger volumes announced days ahead", 5),
        "I16": ("risk score per number", 5),
        "I17": ("trusted numbers", 5),
        "I18": ("blocked traffic is neither billed nor counted", 5),
        "I19": ("caller ids within local regulation", 0),
        "C1": ("the longest call", 0),
        "C2": ("ordinary outbound calls up at once", 0),
        "N1": ("a call in for an unknown number", 0),
        "N2": ("a number that can't be told", 0),
    }
)
"""Id → what the rule is, and the step that builds what enforces, measures or reports it; 0: that is built."""

OWN = re.compile(r"X[1-9][0-9]{0,4}\Z")


def unknown(rule: str) -> str:
    """Why a rule's id can't be used; empty where it can."""
    if rule in RULES or OWN.match(rule):
        return ""
    near = difflib.get_close_matches(rule, RULES, n=1)
    remedy = f"did you mean `{near[0]}`?" if near else "a rule of your own is X and a number, such as `X1`"
    return f"there is no rule `{rule}`; {remedy}"
