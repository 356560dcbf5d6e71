"""What to do about an alert."""

from __future__ import annotations

from typing import Final

from callgate.proxy.commands import Alert

ADVICE: Final = {
    "I1": "record fewer calls at once, or ask the carrier for more licences; `callgate calls list` shows who has them",
    "I5": "see to the recorder, or take it out of `recorders`; calls go on meanwhile, and are not recorded there",
    "K8": "`callgate calls list` shows the call: take it up again, or end it with `callgate calls release --hangup`",
    "K-X1+EMG": "give the PBX another route for emergency calls: this trunk can't carry them",
    "V2": "tell the carrier before many numbers are called at once, or call them more slowly",
    "V13": "look at the program that dials: it calls the same number again and again",
    "K7": "send faxes by another line, or by G.711 if the carrier says so",
    "K4": "let the PBX wait longer before it calls the same number again (`redial_gap_seconds`)",
    "EMG-ROUTE": "see to the emergency route now: test it, and give the PBX another one besides",
    "EMG-TO": "look at the PBX's dial plan: it calls another number than the one it was asked for",
    "no-key": "list the address under a key's `sources`, or block it if you don't know it",
    "auth": "look at the user's name and password in the PBX, and at `realm` and `algorithms` under `digest`",
    "auth-throttle": "correct the password there, or block the address if you don't know it",
    "N1": "list the number under a key's `numbers`",
    "dns": "look at the name's records and at the name servers (`dns.servers`, or /etc/resolv.conf)",
    "trunk-down": "ask the carrier, or see whether its addresses can be reached from here",
    "trunk-refuses": "see what numbers this key dials, and whether the carrier has shut it out",
    "K11": "the carrier takes fewer calls than the contract says: ask it, or lower `outbound_cps`",
    "record-route": "it has to copy Record-Route into its 2xx; until then its calls end for the gate by `probe` "
    "or `max_call_seconds`",
    "trunk-credentials": "compare `credentials` of the trunk with what the carrier gave you",
    "trunk-register": "compare `register` and `credentials` of the trunk with what the carrier gave you",
    "register": "look at the phone's settings: its domain, its user, how long it wants to be registered",
    "journal": "see to the disk and the rights of `state_dir`: calls go on, but a crash would lose them",
    "registrations": "see to the disk and the rights of `state_dir`; it is tried again every few seconds",
    "K3": "turn ACR and LCR (automatic carrier choice) off in the PBX: calls must be dialled without 00XY",
    "V9": "`callgate keys resume KEY` ends it before its time",
    "suspensions": "see to the disk and the rights of `state_dir`; then suspend the key once more",
    "database": "see to the database (`database` in the config); it is tried again every few seconds, and "
    "nothing is lost while `state_dir` has room",
    "disk": "see to the disk and the rights of `state_dir`, or to the database: a restart now would cost these records",
    "records-lost": "see to the database and to the disk of `state_dir`",
    "records-aside": "look at records.damaged and records.refused there",
    "webhook": "see to the receiver; its events wait and are tried again",
    "webhook-off": "take it out of `webhooks`, or switch it on again: `callgate outbox replay --receiver`",
    "webhook-dead": "`callgate outbox list` shows them, `callgate outbox replay` sends them once more",
    "events-lost": "see to the database: events other than records wait in memory only",
    "restarted": "where nobody has restarted it, read the log before the start",
    "ops": "look at what it said (`ops ended` in the log)",
    "loop-lag": "see what else takes this machine's processors, or give the gate a larger one",
    "EMG-SUSPECT": "look at the PBX's dial plan: an emergency number seems to leak with a prefix",
}
"""By rule."""
KINDS: Final = {
    "near_limit": "`callgate calls list` shows who has them; ask the carrier for more, or move calls to another key",
    "at_limit": "`callgate calls list` shows who has them, `callgate calls reconcile` asks whether they still "
    "are there",
    "breach_avoided": "spread the calls, set `on_rate_exceeded: queue`, or ask the carrier for more; "
    "`callgate explain CALL-ID` tells of one of them",
}
"""What a limit says, whatever its rule: by the alert's `kind`."""
EMERGENCY: Final = "look whether somebody needs help; `callgate explain CALL-ID` tells of the call"
SHADOW: Final = "see to it before the mode is `enforce`: such a call is refused then"


def advice_of(alert: Alert) -> str:
    """Never empty: of the alert itself, of its rule, or of its kind."""
    by_kind = KINDS.get(alert.details.get("kind", ""), "")
    found = alert.advice or ADVICE.get(alert.rule) or by_kind
    if found:
        return found
    return EMERGENCY if alert.rule.endswith("EMG") else SHADOW
