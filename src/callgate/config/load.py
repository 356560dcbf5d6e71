"""From a file to a `Config`: read, validate, cross-check, and name every fault at once."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from callgate.config import identities, source
from callgate.config.crosscheck import findings
from callgate.config.faults import ConfigError, Fault
from callgate.config.numberlists import ListFiles, Rest, number_list
from callgate.config.profiles import load_profile
from callgate.config.schema import Config, Dial, Key, Mode
from callgate.config.source import Loc, locate
from callgate.config.supported import not_yet
from callgate.config.validate import validate
from callgate.policy.dial import DialRules, Lists
from callgate.policy.numberlist import NumberList
from callgate.policy.profile import Limits, Profile, merge


def _trunk_names(config: Config, declared: set[str]) -> tuple[Config, list[tuple[Loc, str]]]:
    """The config with every key's trunk filled in, and the keys where that can't be done."""
    wrong: list[tuple[Loc, str]] = []
    keys = {}
    for name, key in config.keys.items():
        trunk = key.trunk or (next(iter(declared)) if len(declared) == 1 else "")
        keys[name] = key.model_copy(update={"trunk": trunk})
        if trunk in declared or not declared:
            continue
        near = difflib.get_close_matches(trunk, declared, n=1)
        if not trunk:
            wrong.append((("keys", name), f"which `trunk`? there are several: {', '.join(sorted(declared))}"))
        elif near:
            wrong.append((("keys", name, "trunk"), f"there is no trunk `{trunk}`, did you mean `{near[0]}`?"))
        else:
            known = ", ".join(f"`{one}`" for one in sorted(declared))
            wrong.append((("keys", name, "trunk"), f"there is no trunk `{trunk}`; there is {known}"))
    return config.model_copy(update={"keys": keys}), wrong


def _lists(
    config: Config, base: Path, files: ListFiles, faults: list[Fault], fault: Callable[[Loc, str], None]
) -> None:
    """Make the lists of numbers of trunks and keys."""
    sections: list[tuple[str, str, Dial]] = [
        ("trunks", name, trunk.dial) for name, trunk in config.trunks.items()
    ]
    sections += [("keys", name, key.dial) for name, key in config.keys.items()]
    for kind, name, dial in sections:

        def made(which: str, entries: tuple[str, ...], loc: Loc = (kind, name, "dial")) -> NumberList:
            def wrong(n: int, text: str) -> None:
                fault((*loc, which, n), text)

            return number_list(entries, base, files, faults, wrong)

        lists = Lists(
            f"{kind[:-1]} {name}",
            block=made("block", dial.block),
            allow=made("allow", dial.allow),
            trusted=made("trusted", dial.trusted),
            default=dial.default,
        )
        if lists:
            config._lists[kind, name] = lists


def load_config(path: str | Path, rest: Rest | None = None, before: Config | None = None) -> Config:
    """The config in a file, ready for use: paths absolute, secrets read, profiles loaded, trunks named.

    `rest` is called now and then while long lists of numbers are read; what has not changed of them since `before` is
    taken from there. Raises `ConfigError` with every fault, each with
    its line and its remedy.
    """
    path = Path(path)
    file, base = str(path), path.absolute().parent
    faults: list[Fault] = []
    data = source.read(path, faults)
    declared = set(data["trunks"]) if isinstance(data.get("trunks"), dict) else set()
    config, wrong_parts = validate(Config, data, file, base, faults)
    if config is None:
        raise ConfigError(faults or [Fault(file, None, "", "can't be used")])

    def fault(loc: Loc, text: str, other: Loc = ()) -> None:
        line, dotted = locate(data, loc)
        if other:
            other_line, other_path = locate(data, other)
            text = text.format(other=f"`{other_path}` (line {other_line})")
        faults.append(Fault(file, line, dotted or str(loc[0]), text))

    config, wrong = _trunk_names(config, declared)
    for loc, text in wrong:
        fault(loc, text)
    config._path = path
    files = ListFiles(rest, before.list_files if before is not None else None)
    config._list_files = files.tables
    loaded: dict[str, Profile] = {}
    for name, trunk in config.trunks.items():
        try:
            if trunk.profile not in loaded:
                loaded[trunk.profile] = load_profile(trunk.profile, base, files)
            config._profiles[name] = loaded[trunk.profile]
        except ConfigError as error:
            own = [one for one in error.faults if one.line is None and not one.path]
            faults += [one for one in error.faults if one not in own]
            for one in own:
                fault(("trunks", name, "profile"), one.text)
    _lists(config, base, files, faults, fault)
    for finding in (*findings(config), *identities.findings(config)):
        # What looks missing because its faulty value was taken out is not a fault of its own.
        if not any(finding.unless and part[: len(finding.unless)] == finding.unless for part in wrong_parts):
            fault(finding.loc, finding.text, finding.other)
    for loc, text in not_yet(config):
        fault(loc, text)
    if faults:
        files.drop()
        raise ConfigError(faults)
    return config


def state_dir_of(path: str | Path) -> Path | None:
    """`state_dir` of a config, whatever else stands there: who operates a running gate need not have its secrets, and
    the file may be half-way to its next version. Raises ConfigError where that much can't be read."""
    return _part(Path(path), "state_dir")[0].state_dir


class Places(NamedTuple):
    """Where call records are: the URL of the database, `state_dir`; the keys of the config."""

    database: str
    state_dir: Path | None
    keys: frozenset[str]


def places_of(path: str | Path) -> Places:
    """The same for the records of a config."""
    config, data = _part(Path(path), "state_dir", "database")
    keys = data.get("keys")
    return Places(config.database_url, config.state_dir, frozenset(keys if isinstance(keys, dict) else ()))


def _part(path: Path, *names: str) -> tuple[Config, source.Mapping]:
    """A config with only these keys of the file, and all that stands there."""
    faults: list[Fault] = []
    data = source.read(path, faults)
    if not data and faults:
        raise ConfigError(faults)
    wanted = source.Mapping()
    for name in names:
        if name in data:
            wanted[name], wanted.lines[name] = data[name], data.lines[name]
    faults = []
    config, _ = validate(Config, wanted, str(path), path.absolute().parent, faults)
    if config is None or faults:
        raise ConfigError(faults or [Fault(str(path), None, " ".join(names), "can't be used")])
    config._path = path
    return config, data


def mode_of(config: Config, key: Key) -> Mode:
    """Whether a key's limits are enforced: what it says itself, else what stands at the top."""
    return key.mode or config.mode


def effective_limits(config: Config, key_id: str) -> Limits:
    """What a key is held to: its own limits over its trunk's contract. `KeyError` for an unknown key."""
    key = config.keys[key_id]
    return merge(key.limits.by_hand, config.profiles[key.trunk])


def dial_rules(config: Config) -> dict[str, DialRules]:
    """Key → what its calls may dial: its trunk's contract, with the lists of the key and of the trunk."""
    trunks = {
        name: DialRules(config.profiles[name].numbers, trunk.numbering)
        for name, trunk in config.trunks.items()
    }
    found = {}
    for name, key in config.keys.items():
        places = (config.lists.get(("keys", name)), config.lists.get(("trunks", key.trunk)))
        found[name] = trunks[key.trunk].narrowed([place for place in places if place is not None])
    return found
