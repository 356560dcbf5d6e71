"""A table of configs that can't be used: what is said, and at which line."""

from __future__ import annotations

from pathlib import Path

import pytest

from callgate.config import Config, ConfigError, load_config
from callgate.config.validate import OTHER_WORDS, schema_keys

GOOD = """\
listen: ["udp://127.0.0.1:5060", "tcp://127.0.0.1:5060"]
ops: "http://127.0.0.1:9060"
state_dir: "./state"
trunks:
  carrier:
    gateways: ["sip:127.0.0.1:5080"]
    profile: standard
keys:
  acme:
    sources: ["127.0.0.1/32"]
    pbx: "sip:127.0.0.1:5070"
    numbers: ["+815012345678"]
    limits:
      outbound_cps: 3
  other:
    sources: ["127.0.0.2/32"]
"""


def faults_of(tmp_path: Path, text: str | bytes) -> list[tuple[int | None, str]]:
    """(line, `path: text`) of every fault."""
    path = tmp_path / "gate.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    for fault in caught.value.faults:
        assert fault.file == str(path)
        assert str(fault).startswith(f"{path}:{fault.line}: " if fault.line else f"{path}: ")
    return [(fault.line, f"{fault.path}: {fault.text}") for fault in caught.value.faults]


def test_the_base_of_the_table_is_good(tmp_path: Path) -> None:
    path = tmp_path / "gate.yaml"
    path.write_text(GOOD)
    config = load_config(path)
    assert list(config.keys) == ["acme", "other"]
    assert config.path == path


# What is replaced in GOOD, by what, the line of the fault, and words in it.
TABLE = {
    "Homer over TCP": (
        "ops:",
        'hep: {server: "tcp://192.0.2.9:9060", capture_id: 1}\nops:',
        2,
        "hep.server: `tcp://192.0.2.9:9060` is no HEP server: write `udp://ADDRESS:PORT`",
    ),
    "Homer without a port": (
        "ops:",
        'hep: {server: "udp://homer.example.jp", capture_id: 1}\nops:',
        2,
        "hep.server: `udp://homer.example.jp` is no HEP server: write its address and port",
    ),
    "an agent of more than 32 bits": (
        "ops:",
        'hep: {server: "udp://192.0.2.9:9060", capture_id: 4294967296}\nops:',
        2,
        "hep.capture_id: ",
    ),
    "unknown key": ("ops:", "opps:", 2, "opps: unknown key `opps`, did you mean `ops`?"),
    "a domain with a port": (
        "ops:",
        'registrar: {domains: ["sip.example.jp:5060"]}\nops:',
        2,
        "registrar.domains[0]: `sip.example.jp:5060` names a port; write the host alone",
    ),
    "no registration is short enough": (
        "ops:",
        "registrar: {expires_seconds: 60, min_expires_seconds: 120}\nops:",
        2,
        "registrar.min_expires_seconds: longer than `expires_seconds`",
    ),
    "more room for a user than for all": (
        "ops:",
        "registrar: {contacts_per_key: 5}\nops:",
        2,
        "registrar.contacts_per_key: less than `contacts_per_user` (20)",
    ),
    "unknown key below": (
        "gateways:",
        "gatways:",
        6,
        "trunks.carrier.gatways: unknown key `gatways`, did you mean `gateways`?",
    ),
    "another word for a key": (
        "profile: standard",
        "profile: standard\n    credentials: {username: acme, secret: x}",
        8,
        "trunks.carrier.credentials.secret: unknown key `secret`, did you mean `password`?",
    ),
    "a key in capitals": ("ops:", "OPS:", 2, "OPS: unknown key `OPS`, did you mean `ops`?"),
    "a key in the wrong place": (
        "    limits:\n      outbound_cps: 3",
        "    outbound_cps: 3",
        13,
        "keys.acme.outbound_cps: unknown key `outbound_cps` here; it belongs in",
    ),
    "unknown key without a likeness": (
        "ops:",
        "zzzzzz:",
        2,
        "unknown key `zzzzzz`; known here: listen, tls,",
    ),
    "a key twice": (
        "    pbx:",
        "    sources: []\n    pbx:",
        11,
        "keys.acme.sources: the key `sources` stands twice (first in line 10); keep one",
    ),
    "yaml": ("keys:", "keys: [", 10, "while parsing a flow sequence, column 12 (begun in line 8)"),
    "yaml tab": ("keys:", "\tkeys:", 8, "not valid YAML"),
    "yaml tag": ('"./state"', "!!python/object:os.system x", 3, "tag (`!name`) is not understood"),
    "yaml alias that is nowhere": ("standard", "*hunter2", 7, "alias"),
    "control character": ("standard", "sta\x07ndard", 7, "U+0007"),
    "two documents": ("keys:", "---\nkeys:", 8, "a second document"),
    "not a list": (
        'sources: ["127.0.0.1/32"]',
        'sources: "127.0.0.1/32"',
        10,
        "keys.acme.sources: must be a list, such as [one, two]",
    ),
    "not a mapping": ("keys:\n  acme:", "keys:\n  zero: 1\n  acme:", 9, "keys.zero: must be a mapping"),
    "trunks as a list": (
        '  carrier:\n    gateways: ["sip:127.0.0.1:5080"]\n    profile: standard',
        "  - carrier",
        4,
        "trunks: must be a mapping",
    ),
    "a whole number": ("outbound_cps: 3", "outbound_cps: 3.5", 14, "outbound_cps: must be a whole number"),
    "below 0": ("outbound_cps: 3", "outbound_cps: -1", 14, "must be at least 0"),
    "words for a number": ("outbound_cps: 3", "outbound_cps: three", 14, "must be a whole number"),
    "a list for a number": ("outbound_cps: 3", "outbound_cps: [3]", 14, "must be a whole number"),
    "no time": ("outbound_cps: 3", "max_call_seconds: 0", 14, "must be more than 0"),
    "endless time": ("outbound_cps: 3", "max_call_seconds: inf", 14, "must be a number"),
    "try_seconds": ("profile: standard", "try_seconds: 33", 7, "must be at most 32"),
    "a choice": ("profile: standard", "numbering: japanese", 7, "must be 'japan' or 'any'"),
    "an address of record": (
        "profile: standard",
        "register: {aor: sip:sip.example.jp}",
        7,
        "trunks.carrier.register.aor: this is no address of record: write `sip:USER@DOMAIN`",
    ),
    "an address of record with a password": (
        "profile: standard",
        "register: {aor: 'sip:a:hunter2@sip.example.jp'}",
        7,
        "this is no address of record",
    ),
    "a secure address of record": (
        "profile: standard",
        "register: {aor: 'sips:a@sip.example.jp'}",
        7,
        "this is no address of record",
    ),
    "half credentials": (
        "profile: standard",
        "credentials: {username: a}",
        7,
        "the key `password` is missing",
    ),
    "credentials on two lines": (
        "profile: standard",
        'credentials: {username: "a\\r\\nX: y", password: b}',
        7,
        "credentials.username: must be one line of text",
    ),
    "a name": ("  acme:", "  Acme:", 9, "keys.Acme: `Acme` can't be a name"),
    "too long a name": ("  acme:", f"  {'a' * 64}:", 9, "can't be a name"),
    "listener": (
        "udp://127.0.0.1:5060",
        "udp:127.0.0.1:5060",
        1,
        "listen[0]: `udp:127.0.0.1:5060` is no listener",
    ),
    "listener by name": (
        "udp://127.0.0.1:5060",
        "udp://localhost:5060",
        1,
        "IP address of this machine, not a name",
    ),
    "listener's port": ("udp://127.0.0.1:5060", "udp://127.0.0.1:65536", 1, "number from 1 to 65535"),
    "listener's port 0": ("udp://127.0.0.1:5060", "udp://127.0.0.1:0", 1, "number from 1 to 65535"),
    "IPv6 without brackets": ("udp://127.0.0.1:5060", "udp://::1", 1, "`[::1]`"),
    "half an address": ("udp://127.0.0.1:5060", "udp://127.0.0:5060", 1, "`127.0.0` is no IP address"),
    "same listener twice": (
        "tcp://127.0.0.1:5060",
        "udp://127.0.0.1:5060",
        1,
        "listen[1]: the listener udp://127.0.0.1:5060 stands at `listen[0]` (line 1) too; keep one",
    ),
    "listener within another": (
        "tcp://127.0.0.1:5060",
        "udp://0.0.0.0:5060",
        1,
        "is a part of udp://0.0.0.0:5060",
    ),
    "listener on the port of ops": (
        "tcp://127.0.0.1:5060",
        "tcp://127.0.0.1:9060",
        1,
        "takes the port of `ops`",
    ),
    "no listener": (
        '["udp://127.0.0.1:5060", "tcp://127.0.0.1:5060"]',
        "[]",
        1,
        "listen: at least one is needed",
    ),
    "advertise nobody": (
        '"udp://127.0.0.1:5060"',
        '{uri: "udp://127.0.0.1:5060", advertise: "0.0.0.0"}',
        1,
        "no address that others can reach",
    ),
    "ops by a name": ("http://127.0.0.1:9060", "http://gate.example:9060", 2, "is a name; write the address"),
    "ops without a port": ("http://127.0.0.1:9060", "http://127.0.0.1", 2, "names no port"),
    "ops https": ("http://127.0.0.1:9060", "https://127.0.0.1:9060", 2, "must be `http://127.0.0.1:PORT`"),
    "no gateway": ('["sip:127.0.0.1:5080"]', "[]", 6, "trunks.carrier.gateways: at least one is needed"),
    "gateways missing": (
        '    gateways: ["sip:127.0.0.1:5080"]\n',
        "",
        5,
        "carrier: the key `gateways` is missing",
    ),
    "gateway without sip:": (
        "sip:127.0.0.1:5080",
        "127.0.0.1:5080",
        6,
        "gateways[0]: `127.0.0.1:5080` is no SIP",
    ),
    "gateway with a user": ("sip:127.0.0.1:5080", "sip:a:b@127.0.0.1", 6, "a user part has no place here"),
    "gateway with a parameter": (
        "sip:127.0.0.1:5080",
        "sip:127.0.0.1;lr",
        6,
        "only `;transport=udp`, `tcp` or",
    ),
    "gateway twice": (
        '["sip:127.0.0.1:5080"]',
        '["sip:127.0.0.1:5080", "sip:127.0.0.1:5080;transport=UDP"]',
        6,
        "gateways[1]: the gateway sip:127.0.0.1:5080 stands at `trunks.carrier.gateways[0]` (line 6) too",
    ),
    "gateway is the gate": ("sip:127.0.0.1:5080", "sip:127.0.0.1", 6, "is a listener of the gate itself"),
    "pbx is the gate": (
        "sip:127.0.0.1:5070",
        "sip:127.0.0.1;transport=tcp",
        11,
        "is a listener of the gate itself",
    ),
    "pbx is the gateway": ("sip:127.0.0.1:5070", "sip:127.0.0.1:5080", 11, "is a gateway of trunk `carrier`"),
    "no way to the gateway": (
        "sip:127.0.0.1:5080",
        "sip:[::1]:5080",
        6,
        "add a udp:// listener with an IPv6",
    ),
    "profile": (
        "standard",
        "standrad",
        7,
        "trunks.carrier.profile: there is no shipped profile `standrad` and no file",
    ),
    "unknown rule": (
        "outbound_cps: 3",
        "outbound_cps: 3\n      more:\n        - {rule: Q9, at_once: 3}",
        16,
        "there is no rule `Q9`",
    ),
    "no measure": (
        "outbound_cps: 3",
        "outbound_cps: 3\n      more:\n        - {rule: X1}",
        16,
        "exactly one of `calls`, `at_once` and `numbers`",
    ),
    "two measures": (
        "outbound_cps: 3",
        "outbound_cps: 3\n      more:\n        - {rule: X1, calls: 3, at_once: 3, window_seconds: 60}",
        16,
        "exactly one of",
    ),
    "no window": (
        "outbound_cps: 3",
        "outbound_cps: 3\n      more:\n        - {rule: X1, calls: 3}",
        16,
        "`calls` needs one of `window_seconds` and `calendar`",
    ),
    "two windows": (
        "outbound_cps: 3",
        "outbound_cps: 3\n      more:\n        - {rule: X1, calls: 3, window_seconds: 60, calendar: day}",
        16,
        "`calls` needs one of",
    ),
    "a set with a window": (
        "outbound_cps: 3",
        "outbound_cps: 3\n      more:\n        - {rule: X1, at_once: 3, window_seconds: 60}",
        16,
        "it has no window",
    ),
    "DIDs are called": (
        "outbound_cps: 3",
        "outbound_cps: 3\n      more:\n        - {rule: X1, per: did, direction: outbound, at_once: 3}",
        16,
        "a DID is called",
    ),
    "classes are dialled": (
        "outbound_cps: 3",
        "outbound_cps: 3\n      more:\n        - {rule: X1, per: class, direction: inbound, at_once: 3}",
        16,
        "classes are those of dialled numbers",
    ),
    "class of a further limit": (
        "outbound_cps: 3",
        "outbound_cps: 3\n      more:\n        - {rule: X1, of: [mobiles], at_once: 3}",
        16,
        "unknown class of numbers `mobiles`",
    ),
    "the same twice": (
        "outbound_cps: 3",
        "outbound_cps: 3\n      more:\n        - {rule: X1, at_once: 3}\n        - {rule: X1, at_once: 4}",
        17,
        "limits the same at `keys.acme.limits.more[0]` (line 16)",
    ),
    "windows that contradict": (
        "outbound_cps: 3",
        "outbound_cps: 3\n      more:\n        - {rule: X1, calls: 50, window_seconds: 60}"
        "\n        - {rule: X2, calls: 20, window_seconds: 3600}",
        16,
        "`keys.acme.limits.more[1]` (line 17) allows 20",
    ),
    "rate and window": (
        "outbound_cps: 3",
        "outbound_cps: 3\n      more:\n        - {rule: X1, calls: 2, window_seconds: 60}",
        16,
        "`keys.acme.limits.outbound_cps` (line 14) allows 3 calls a second",
    ),
    "source": ('"127.0.0.2/32"', '"127.0.0.256"', 16, "is no address or network"),
    "source behind its mask": ('"127.0.0.2/32"', '"10.1.2.3/8"', 16, "write `10.0.0.0/8` or `10.1.2.3`"),
    "source of two": (
        '"127.0.0.2/32"',
        '"127.0.0.1"',
        16,
        "keys.other.sources[0]: the network 127.0.0.1/32 stands at `keys.acme.sources[0]` (line 10) too",
    ),
    "source of key and trunk": (
        "    profile: standard",
        '    sources: ["127.0.0.2"]',
        16,
        "the network 127.0.0.2/32 is a source of trunk `carrier` too",
    ),
    "number": ('"+815012345678"', '"12345"', 12, "keys.acme.numbers[0]: `12345` is no phone number"),
    "number too short for Japan": ('"+815012345678"', '"031234567"', 12, "is no phone number"),
    "number with 010": ('"+815012345678"', '"0012025550123"', 12, "is no phone number"),
    "range backwards": ('"+815012345678"', '"+8150123456{99-00}"', 12, "the smaller one first"),
    "range uneven": ('"+815012345678"', '"+8150123456{0-10}"', 12, "as many digits"),
    "number twice": (
        '["+815012345678"]',
        '["+815012345678", "050-1234-5678"]',
        12,
        "keys.acme.numbers[1]: the number +815012345678 is held at `keys.acme.numbers[0]` (line 12)",
    ),
    "ranges overlap": (
        '    sources: ["127.0.0.2/32"]',
        '    pbx: "sip:127.0.0.2"\n    numbers: ["+815012345{600-700}"]',
        17,
        "the number +815012345600…+815012345700 is held at `keys.acme.numbers[0]`",
    ),
    "caller ids": (
        "    pbx:",
        '    caller_ids: ["12345"]\n    pbx:',
        11,
        "keys.acme.caller_ids[0]: `12345` is no phone number",
    ),
    "no caller id": (
        "    pbx:",
        "    caller_ids: []\n    pbx:",
        11,
        "keys.acme.caller_ids: an empty list lets no call out",
    ),
    "numbers without pbx": (
        '    pbx: "sip:127.0.0.1:5070"\n',
        "",
        11,
        "keys.acme.numbers: `numbers` need a `pbx`",
    ),
    "trunk": (
        "    pbx:",
        "    trunk: carier\n    pbx:",
        11,
        "there is no trunk `carier`, did you mean `carrier`?",
    ),
    "which trunk": (
        "keys:",
        '  second:\n    gateways: ["sip:127.0.0.9"]\nkeys:',
        11,
        "keys.acme: which `trunk`? there are several: carrier, second",
    ),
    "limits contradict": (
        "outbound_cps: 3",
        "inbound_calls: 20\n      calls: 10",
        14,
        "`inbound_calls` 20 takes 20 of `calls`, which is 10: they contradict",
    ),
    "no keys": (GOOD[GOOD.index("keys:") :], "", None, "keys: at least one is needed"),
    "no trunks": (
        GOOD[GOOD.index("trunks:") : GOOD.index("keys:")],
        "",
        None,
        "trunks: at least one is needed",
    ),
    "database": ("ops:", 'database: "mysql://x"\nops:', 2, "must be `sqlite:///FILE` or `postgresql://USER"),
    "no file": ("ops:", 'database: "sqlite:///"\nops:', 2, "must name a file"),
    "one slash less": ("ops:", 'database: "sqlite://gate.db"\nops:', 2, "must name a file"),
    "memory": ("ops:", 'database: "sqlite:///:memory:"\nops:', 2, "must be the plain path of a file"),
    "a file with options": (
        "ops:",
        'database: "sqlite:///a?mode=ro"\nops:',
        2,
        "must be the plain path of a file",
    ),
    "a server's port": ("ops:", 'database: "postgresql://u:p@h:http/x"\nops:', 2, "can't be read as"),
    "a port too high": ("ops:", 'database: "postgresql://u:p@h:70000/x"\nops:', 2, "can't be read as"),
    "no time to keep records": ("ops:", "records: {keep_days: 0}\nops:", 2, "records.keep_days"),
    "store": ("ops:", "store: memcached\nops:", 2, "must be `memory` or `redis://…`"),
    "a name without a listener for it": (
        GOOD[: GOOD.index("    profile:")],
        'listen: ["udp://127.0.0.1:5060"]\n'
        'trunks:\n  carrier:\n    gateways: ["sip:trunk.example.jp;transport=tcp"]\n',
        4,
        "sip:trunk.example.jp;transport=tcp can't be reached: add a tcp:// listener",
    ),
    "a PBX by name": (
        '"sip:127.0.0.1:5070"',
        '"sip:pbx..example"',
        11,
        "keys.acme.pbx: `pbx..example` is no SIP address",
    ),
    "sips over UDP": (
        '["sip:127.0.0.1:5080"]',
        '["sips:trunk.example.jp;transport=udp"]',
        6,
        "sips: goes over TLS, never over UDP",
    ),
    "name server by name": (
        "ops:",
        "dns: {servers: [dns.example.jp]}\nops:",
        2,
        "dns.servers[0]: `dns.example.jp` is no name server: write its IP address",
    ),
    "a token that can be guessed": (
        "ops:",
        "admin: {tokens: [{name: ops, role: view, token: secret}]}\nops:",
        2,
        "admin.tokens[0].token: a token of fewer than 16 characters can be guessed; `openssl rand -hex 24` makes one",
    ),
    "two tokens of one name": (
        "ops:",
        "admin: {tokens: [{name: ops, role: view, token: 0123456789abcdefgh},\n"
        " {name: ops, role: operate, token: another-one-of-eighteen}]}\nops:",
        3,
        "admin.tokens[1].name: the token's name ops stands at `admin.tokens[0].name` (line 2) too; keep one",
    ),
    "name server": ("ops:", 'dns: {servers: ["0.0.0.0"]}\nops:', 2, "`0.0.0.0` is no name server"),
    "health": (
        "    profile:",
        "    health: {interval_seconds: 2}\n    profile:",
        7,
        "trunks.carrier.health: `timeout_seconds` 4 is longer than `interval_seconds` 2; lower it",
    ),
    "an emergency route that is no trunk": (
        "    profile:",
        "    emergency_route: gsm\n    profile:",
        7,
        "trunks.carrier.emergency_route: there is no trunk `gsm`; there is carrier. Or write `sip:ADDRESS:PORT`",
    ),
    "an emergency route that is a number": (
        "    profile:",
        "    emergency_route: 119\n    profile:",
        7,
        "trunks.carrier.emergency_route: ",
    ),
    "an emergency route that is the PBX": (
        "    profile:",
        '    emergency_route: "sip:127.0.0.1:5070"\n    profile:',
        7,
        "is the PBX of key `acme`: its emergency calls would come back to it",
    ),
    "quiet hours": (
        "      outbound_cps: 3\n",
        '      outbound_cps: 3\n    quiet_hours: {from: "9 pm"}\n',
        15,
        "keys.acme.quiet_hours.from: `9 pm` is no time of day: write it like `21:00`",
    ),
    "quiet hours that are none or all": (
        "      outbound_cps: 3\n",
        '      outbound_cps: 3\n    quiet_hours: {from: "9:00", to: "09:00"}\n',
        15,
        "keys.acme.quiet_hours.to: begin and end at 09:00",
    ),
    "a day that is none": (
        "      outbound_cps: 3\n",
        "      outbound_cps: 3\n    quiet_hours: {free_dates: [2026-02-30]}\n",
        15,
        "keys.acme.quiet_hours.free_dates[0]: `2026-02-30` is no date: write it like `2026-12-31`",
    ),
    "a consent list that is not there": (
        "      outbound_cps: 3\n",
        "      outbound_cps: 3\n    consent: nowhere.txt\n",
        15,
        "nowhere.txt`: can't be read: No such file or directory",
    ),
    "path with NUL": ('"./state"', '"a\\0b"', 3, "can't hold a NUL"),
}


@pytest.mark.parametrize("name", TABLE)
def test_a_fault_and_its_line(tmp_path: Path, name: str) -> None:
    old, new, line, words = TABLE[name]
    assert old in GOOD
    found = faults_of(tmp_path, GOOD.replace(old, new, 1))
    assert any(at == line and words in text for at, text in found), found


ONLY = [name for name in TABLE if name not in {"limits contradict", "two documents", "which trunk"}]


@pytest.mark.parametrize("name", ONLY)
def test_a_fault_brings_no_others_with_it(tmp_path: Path, name: str) -> None:
    old, new, _, _ = TABLE[name]
    assert len(faults_of(tmp_path, GOOD.replace(old, new, 1))) == 1


WHOLE_FILES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "the file is empty"),
    "only a comment": (b"# nothing\n", "the file is empty"),
    "null": (b"null\n", "the file is empty"),
    "a list": (b"- a\n", "the file must be a mapping"),
    "a word": (b"hello\n", "the file must be a mapping"),
    "latin-1": (b"listen: []\nops: caf\xe9\n", "not UTF-8"),
    "too large": (b"a: " + b"x" * (16 * 1024 * 1024), "larger than 16 MB"),
    "too deep": (b"[" * 500, "nested more than 50 deep"),
    "too deep in blocks": (b"- " * 5000, "nested more than 50 deep"),
    "an alias of itself": (b"a: &a {b: *a}\n", "not defined before it"),
}


@pytest.mark.parametrize("name", WHOLE_FILES)
def test_a_file_that_is_no_config(tmp_path: Path, name: str) -> None:
    raw, words = WHOLE_FILES[name]
    found = faults_of(tmp_path, raw)
    assert len(found) == 1
    assert words in found[0][1]


def test_an_alias_bomb(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    assert "values once the aliases" in faults_of(tmp_path, "\n".join(lines))[0][1]


def test_a_line_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    assert faults_of(tmp_path, b"listen: []\nops: caf\xe9\n")[0][0] == 2


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.mkdir(), "is a directory"),
        (lambda path: path.symlink_to(path), "can't be read"),
    ],
    ids=["missing", "directory", "loop"],
)
def test_a_path_that_is_no_file(tmp_path: Path, make: object, words: str) -> None:
    path = tmp_path / "gate.yaml"
    make(path)  # type: ignore[operator]
    with pytest.raises(ConfigError, match=words):
        load_config(path)


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # the tests may run as root, who may read everything
    with pytest.raises(ConfigError, match="permission denied"):
        load_config(tmp_path / "gate.yaml")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Via", "`Via` is a header that SIP needs"),
        ("P-ASSERTED-IDENTITY", "is a header that SIP needs"),
        ("i", "`i` is a header that SIP needs"),
        ("X Key", "`X Key` is no header name"),
        ("X-Key:", "is no header name"),
        ("X-K\u00e9y", "is no header name"),
    ],
)
def test_a_secret_header_that_can_not_be_taken_off(tmp_path: Path, name: str, words: str) -> None:
    header = f'    secret_header: {{name: "{name}", value: v}}\n    pbx:'
    found = faults_of(tmp_path, GOOD.replace("    pbx:", header, 1))
    assert any(text.startswith("keys.acme.secret_header.name: ") and words in text for _, text in found), (
        found
    )


def test_all_faults_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = """\
listen: ["udp://nowhere", "udp://127.0.0.1:5060", "udp://127.0.0.1:5060"]
opps: 1
tls: {certificate: a.pem, private_key: b.pem}
trunks:
  carrier:
    gateways: ["sip:127.0.0.1:5080", "gopher:x", "sip:127.0.0.1:5080"]
    profile: nothing
    numbering: swedish
keys:
  acme:
    sources: ["127.0.0.1/32", "x"]
    pbx: "sip:127.0.0.1:5080"
    limits: {outbound_cps: many, inbound_calls: 9, lines: 5, calls: 3}
    limits: {}
  other:
    trunk: carier
    sources: ["127.0.0.1/32"]
"""
    found = faults_of(tmp_path, text)
    expected = [
        (1, "listen[0]: `udp://nowhere` is no listener"),
        (1, "listen[2]: the listener udp://127.0.0.1:5060 stands at `listen[1]` (line 1) too"),
        (2, "opps: unknown key"),
        (3, "tls.certificate: `{here}/a.pem` can't be read: No such file or directory"),
        (6, "gateways[1]: `gopher:x` is no SIP address"),
        (6, "gateways[2]: the gateway sip:127.0.0.1:5080 stands at `trunks.carrier.gateways[0]`"),
        (7, "trunks.carrier.profile: there is no shipped profile `nothing`"),
        (8, "trunks.carrier.numbering: must be"),
        (11, "keys.acme.sources[1]: `x` is no address"),
        (12, "keys.acme.pbx: sip:127.0.0.1:5080 is a gateway"),
        (13, "outbound_cps: must be a whole number"),
        (13, "`inbound_calls` 9 takes 9 of `lines`, which is 5"),
        (13, "`inbound_calls` 9 takes 9 of `calls`, which is 3"),
        (14, "keys.acme.limits: the key `limits` stands twice"),
        (16, "keys.other.trunk: there is no trunk `carier`"),
        (17, "keys.other.sources[0]: the network 127.0.0.1/32 stands at `keys.acme.sources[0]` (line 11)"),
    ]
    for line, words in expected:
        words = words.replace("{here}", str(tmp_path))
        assert any(at == line and words in text for at, text in found), (line, words, found)
    assert [line for line, _ in found] == sorted(line or 0 for line, _ in found)


def test_a_fault_that_comes_of_another_is_not_told(tmp_path: Path) -> None:
    text = GOOD.replace('gateways: ["sip:127.0.0.1:5080"]', "gateways: [x]").replace(
        '"sip:127.0.0.1:5070"', "y"
    )
    found = faults_of(tmp_path, text)
    assert [line for line, _ in found] == [6, 11], "not: a gateway is needed, numbers need a pbx"


def test_every_key_faulty_is_not_no_key(tmp_path: Path) -> None:
    text = GOOD.replace("  acme:", "  A:").replace("  other:", "  B:")
    assert [line for line, _ in faults_of(tmp_path, text)] == [9, 15]


def test_a_list_with_two_bad_items_keeps_its_lines(tmp_path: Path) -> None:
    text = GOOD.replace(
        '["sip:127.0.0.1:5080"]',
        """
      - x
      - sip:127.0.0.1:5080
      - y
      - sip:127.0.0.1:5080""",
    )
    found = faults_of(tmp_path, text)
    assert [line for line, _ in found] == [7, 9, 10]
    assert (
        "gateways[3]: the gateway sip:127.0.0.1:5080 stands at `trunks.carrier.gateways[1]` (line 8)"
        in found[2][1]
    )


def test_other_words_stand_for_keys_there_are() -> None:
    keys = {name for _, name in schema_keys(Config)}
    assert set(OTHER_WORDS) <= keys


def test_a_missing_key_that_has_another_name_is_one_fault(tmp_path: Path) -> None:
    text = GOOD.replace("profile: standard", "profile: standard\n    credentials: {user: acme, secret: x}")
    assert [(line, words.rpartition(", ")[2]) for line, words in faults_of(tmp_path, text)] == [
        (8, "did you mean `username`?"),
        (8, "did you mean `password`?"),
    ]
