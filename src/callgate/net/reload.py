"""SIGHUP: what can be taken up anew without a restart. So far that is certificates, keys and authorities, and the
numbers of consent lists (T14)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from callgate.config import Config, ConfigError, load_config
from callgate.net.gate import Gate
from callgate.net.log import Log
from callgate.net.tls import Contexts
from callgate.net.wiring import consent_of, contexts_of
from callgate.policy.numberset import NumberSet

TLS_FILES: Final = ("certificate", "private_key", "ca", "verify_client")
TRUNK_FILES: Final = ("certificate", "private_key", "ca")


class Reload:
    """Reads the config again and, where only certificates and lists of numbers have changed, uses these for connections
    and calls to come. Else, and where anything in it is wrong, nothing changes."""

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
            refused, fresh, contexts, consents = await asyncio.to_thread(self._read)
            if refused or fresh is None:
                self._log.warning("callgate reload refused", reason=refused)
            else:
                self._config = fresh
                self._gate.entry.contexts = contexts
                for key, consent in consents.items():
                    self._gate.directory.keys[key].consent = consent
                counts = {key: len(consent) for key, consent in consents.items()}
                self._log.info("callgate reloaded", certificates=_named(fresh), consents=counts)
                self._note("reload", {"certificates": _named(fresh)})
            if not self._again:
                return

    def _read(self) -> tuple[str, Config | None, Contexts | None, dict[str, NumberSet]]:
        """(why not, the new config, what TLS is done with from now on, whom each key may call)."""
        try:
            fresh = load_config(self._config.path)
            changed = _changed(self._config, fresh)
            if changed:
                parts = ", ".join(f"`{name}`" for name in changed)
                return f"restart: {parts} changed, and only certificates are reloaded yet", None, None, {}
            found = {key: consent_of(section) for key, section in fresh.keys.items()}
            consents = {key: consent for key, consent in found.items() if consent is not None}
            return "", fresh, contexts_of(fresh), consents
        except ConfigError as error:
            return "; ".join(map(str, error.faults)), None, None, {}
        except Exception as error:  # a fault of ours in reading must not end the gate
            return f"internal error: {error!r}", None, None, {}


def _changed(old: Config, new: Config) -> list[str]:
    """The top-level keys in which two configs differ, but for the files of certificates."""
    one, other = _rest(old), _rest(new)
    changed = [name for name in sorted({*one, *other}) if one.get(name) != other.get(name)]
    if old.profiles != new.profiles and "trunks" not in changed:
        changed.append("profile")
    return changed


def _rest(config: Config) -> dict[str, Any]:
    """What the file names, without certificates."""
    data = config.model_dump(exclude_unset=True)
    for name in TLS_FILES:
        (data.get("tls") or {}).pop(name, None)
    for trunk in data.get("trunks", {}).values():
        for name in TRUNK_FILES:
            (trunk.get("tls") or {}).pop(name, None)
    return data


def _named(config: Config) -> list[str]:
    """The certificates in use."""
    sections = [config.tls, *(trunk.tls for trunk in config.trunks.values())]
    return [str(one.certificate) for one in sections if one is not None and one.certificate is not None]
