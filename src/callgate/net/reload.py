"""SIGHUP: what can be taken up anew without a restart. So far that is certificates, keys and authorities, and the
number rules: the lists of numbers, and `numbers` of a profile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, NamedTuple

from callgate.config import Config, ConfigError, dial_rules, load_config
from callgate.net.gate import Gate
from callgate.net.log import Log
from callgate.net.tls import Contexts
from callgate.net.wiring import contexts_of
from callgate.policy.dial import DialRules
from callgate.policy.numberlist import Table

TLS_FILES: Final = ("certificate", "private_key", "ca", "verify_client")
TRUNK_FILES: Final = ("certificate", "private_key", "ca")


class Fresh(NamedTuple):
    """What a reload has read. `dial`: key → its number rules."""

    config: Config
    contexts: Contexts | None
    dial: dict[str, DialRules]


class Reload:
    """Reads the config again and, where only certificates and number rules have changed, uses these for connections and
    calls to come. Else, and where anything in it is wrong, nothing changes."""

    def __init__(self, gate: Gate, config: Config, log: Log, note: Callable[[str, Any], None]) -> None:
        self._gate = gate
        self._config = config
        self._log = log
        self._note = note
        self._task: asyncio.Task[None] | None = None
        self._again = False

    def ask(self) -> None:
        """SIGHUP was heard. One that comes while another is at work is not lost."""
        if self._task is not None and not self._task.done():
            self._again = True
            return
        self._task = asyncio.get_running_loop().create_task(self._work(), name="reload")

    async def _work(self) -> None:
        while True:
            self._again = False
            # In a thread: a large config takes seconds to read, and calls go on.
            refused, fresh = await asyncio.to_thread(self._read)
            if refused or fresh is None:
                self._log.warning("callgate reload refused", reason=refused)
            else:
                before, self._config = self._config, fresh.config
                self._gate.entry.contexts = fresh.contexts
                for key_id, rules in fresh.dial.items():
                    self._gate.directory.keys[key_id].dial = rules
                said = {"certificates": _named(fresh.config), "list_files": _counts(fresh.config)}
                self._log.info("callgate reloaded", **said)
                self._note("reload", said)
                gone = [
                    t for path, t in before.list_files.items() if self._config.list_files.get(path) is not t
                ]
                await asyncio.to_thread(_let_go, gone)
            if not self._again:
                return

    def _read(self) -> tuple[str, Fresh | None]:
        """(why not, what is used from now on)."""
        try:
            fresh = load_config(self._config.path, rest=_rest_a_while, before=self._config)
            changed = _changed(self._config, fresh)
            if changed:
                parts = ", ".join(f"`{name}`" for name in changed)
                return (
                    f"restart: {parts} changed, and only certificates and number lists are reloaded yet",
                    None,
                )
            return "", Fresh(fresh, contexts_of(fresh), dial_rules(fresh))
        except ConfigError as error:
            return "; ".join(map(str, error.faults)), None
        except Exception as error:  # a fault of ours in reading must not end the gate
            return f"internal error: {error!r}", None


def _changed(old: Config, new: Config) -> list[str]:
    """The top-level keys in which two configs differ, but for the files of certificates."""
    one, other = _rest(old), _rest(new)
    changed = [name for name in sorted({*one, *other}) if one.get(name) != other.get(name)]
    if "trunks" not in changed and any(
        replace(old.profiles[name], numbers=profile.numbers) != profile
        for name, profile in new.profiles.items()
    ):
        changed.append("profile")
    return changed


def _rest(config: Config) -> dict[str, Any]:
    """What the file names, without certificates and number lists."""
    data = config.model_dump(exclude_unset=True, warnings=False)
    for name in TLS_FILES:
        (data.get("tls") or {}).pop(name, None)
    for trunk in data.get("trunks", {}).values():
        for name in TRUNK_FILES:
            (trunk.get("tls") or {}).pop(name, None)
    for section in (*data.get("trunks", {}).values(), *data.get("keys", {}).values()):
        section.pop("dial", None)
    return data


def _counts(config: Config) -> dict[str, int]:
    """Each file of a list, and how many entries it has."""
    return {str(path): len(table) for path, table in config.list_files.items()}


def _rest_a_while() -> None:
    """Calls come first: whoever waits for the interpreter gets it."""
    time.sleep(0.001)


def _let_go(tables: list[Table]) -> None:
    """Free lists that are used no more, a little at a time."""
    for table in tables:
        for _ in table.retire():
            _rest_a_while()


def _named(config: Config) -> list[str]:
    """The certificates in use."""
    sections = [config.tls, *(trunk.tls for trunk in config.trunks.values())]
    return [str(one.certificate) for one in sections if one is not None and one.certificate is not None]
