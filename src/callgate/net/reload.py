"""SIGHUP, or `callgate reload`: the config is read again and takes the place of the present one, while calls go on.

It is read, checked and made ready in a thread, for a large one takes seconds; then it is adopted in one step, all of
it, or nothing where anything in it is wrong or needs a restart.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any, Final, NamedTuple

from callgate.config import Config, ConfigError, Fault, effective_limits, load_config, mode_of
from callgate.net.gate import Gate
from callgate.net.log import Log
from callgate.net.tls import Contexts
from callgate.net.wiring import contexts_of, directory_of, same_key, same_trunk
from callgate.policy.numberlist import Table
from callgate.policy.profile import LIMIT_FIELDS
from callgate.proxy.directory import Directory

RESTART: Final = (
    *("listen", "ops", "database", "store", "state_dir", "secret"),
    *("streams", "strangers", "dns", "log", "records", "admin", "webhooks", "notify", "hep"),
)
"""What is bound, opened or started once."""
TLS_FILES: Final = ("certificate", "private_key", "ca", "verify_client")
SLICE_SECONDS = 0.002
"""How long the loop works on a reload at a time."""
SWITCH_SECONDS = 0.0005
"""How soon the loop has the interpreter back from the thread that reads."""


class Plan(NamedTuple):
    """A config that is ready to be adopted. `keys` and `trunks`: what has become of which, by `added`, `changed`,
    `removed`; `others`: what else has changed at the top level."""

    config: Config
    directory: Directory
    contexts: Contexts | None
    keys: dict[str, list[str]]
    trunks: dict[str, list[str]]
    others: list[str]

    @property
    def changes(self) -> dict[str, Any]:
        """What has changed, for a person; nothing that has not."""
        found: dict[str, Any] = {}
        for name, changes in (("keys", self.keys), ("trunks", self.trunks)):
            found |= {f"{name}_{what}": ids for what, ids in changes.items() if ids}
        if self.others:
            found["changed"] = self.others
        return found


class Outcome(NamedTuple):
    """Of one reload: `faults` is empty where it was adopted."""

    faults: tuple[str, ...]
    changes: dict[str, Any]


Note = Callable[..., object]
"""(what, before, after, who): a line for the audit log."""


class Reload:
    """`note` hears of each reload. `config` is the one that holds."""

    def __init__(self, gate: Gate, config: Config, log: Log, note: Note) -> None:
        self._gate = gate
        self.config = config
        self._log = log
        self._note = note
        self._task: asyncio.Task[None] | None = None
        self._waiting: list[tuple[str, asyncio.Future[Outcome]]] = []

    def ask(self) -> None:
        """SIGHUP was heard."""
        self.request("signal SIGHUP")

    def request(self, who: str) -> asyncio.Future[Outcome]:
        """Reload, for somebody who wants to know what came of it. One that comes while another is at work is not lost:
        those that wait have the next one in common."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Outcome] = loop.create_future()
        self._waiting.append((who, answer))
        if self._task is None or self._task.done():
            self._task = loop.create_task(self._work(), name="reload")
        return answer

    async def _work(self) -> None:
        while self._waiting:
            waiting, self._waiting = self._waiting, []
            outcome = await self._reload(", ".join(dict.fromkeys(who for who, _ in waiting)))
            for _, answer in waiting:
                if not answer.done():
                    answer.set_result(outcome)

    async def _reload(self, who: str) -> Outcome:
        began = monotonic()
        try:
            plan = await asyncio.to_thread(self._read)
            prepared = await self._prepare(plan)
            self._gate.adopt(plan.config, plan.directory, prepared)
        except ConfigError as error:
            return self._refused(who, tuple(map(str, error.faults)))
        except Exception as error:  # a fault of ours must not end the gate
            self._log.error("internal error", where="reload", error=repr(error), exc_info=error)
            return self._refused(who, (f"internal error: {error!r}",))
        self._gate.entry.contexts = plan.contexts
        self._gate.check_certificates()
        before, self.config = self.config, plan.config
        seconds = round(monotonic() - began, 3)
        said = {**plan.changes, "certificates": _named(plan.config), "list_files": _counts(plan.config)}
        said["consents"] = {
            key.id: len(key.consent) for key in plan.directory.keys.values() if key.consent is not None
        }
        self._log.info("callgate reloaded", **said, seconds=seconds, who=who)
        ids = [key_id for those in plan.keys.values() for key_id in those]
        old, new = await asyncio.to_thread(lambda: (_terms(before, ids), _terms(plan.config, ids)))
        differ = [key_id for key_id in ids if old.get(key_id) != new.get(key_id)]
        was = {"terms": {key_id: old.get(key_id) for key_id in differ}} if differ else None
        now = {"terms": {key_id: new.get(key_id) for key_id in differ}} if differ else {}
        self._note("reload", before=was, after=said | now, who=who)
        gone = [t for path, t in before.list_files.items() if plan.config.list_files.get(path) is not t]
        if gone:
            await asyncio.to_thread(_let_go, gone)
        return Outcome((), plan.changes)

    def _refused(self, who: str, faults: tuple[str, ...]) -> Outcome:
        self._log.warning("callgate reload refused", reason="; ".join(faults), faults=list(faults), who=who)
        self._note("reload refused", after={"faults": list(faults)}, who=who)
        return Outcome(faults, {})

    def _read(self) -> Plan:
        """The thread's part. Raises ConfigError with every fault."""
        with soon_switching():
            old = self.config
            fresh = load_config(old.path, rest=_rest_a_while, before=old)
            faults = list(_needs_restart(old, fresh))
            if faults:
                raise ConfigError(faults)
            present = self._gate.directory
            directory = directory_of(fresh, present.listeners, (old, present))
            return Plan(
                fresh,
                directory,
                contexts_of(fresh),
                _changes(old.keys, fresh.keys, lambda key: same_key(key, fresh, old)),
                _changes(old.trunks, fresh.trunks, lambda name: same_trunk(name, fresh, old)),
                _others(old, fresh),
            )

    async def _prepare(self, plan: Plan) -> set[str]:
        """Make the series of keys that are new or have changed, some at a time; the ids of those keys."""
        prepared: set[str] = set()
        until = monotonic() + SLICE_SECONDS
        for key_id in (*plan.keys["added"], *plan.keys["changed"]):
            self._gate.prepare(plan.directory.keys[key_id])
            prepared.add(key_id)
            if monotonic() >= until:
                await asyncio.sleep(0)
                until = monotonic() + SLICE_SECONDS
        return prepared


@contextmanager
def soon_switching() -> Iterator[None]:
    """While other threads work hard: the loop gets the processor from them soon."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(min(before, SWITCH_SECONDS))
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def _needs_restart(old: Config, new: Config) -> Iterator[Fault]:
    file = str(new.path)
    for name in RESTART:
        if getattr(old, name) != getattr(new, name):
            yield Fault(file, None, name, "has changed, which needs a restart; or put back what was there")
    one, other = (
        {} if config.tls is None else config.tls.model_dump(exclude=set(TLS_FILES)) for config in (old, new)
    )
    if (old.tls is None) != (new.tls is None) or one != other:
        text = "only certificates, keys and authorities can change without a restart"
        yield Fault(file, None, "tls", text)


def _terms(config: Config, ids: list[str]) -> dict[str, dict[str, Any]]:
    """What keys are held to, for the audit log (T13): no number, no secret."""
    found = {}
    for key_id in ids:
        key = config.keys.get(key_id)
        if key is not None:
            limits = effective_limits(config, key_id)
            values = {name: getattr(limits, name) for name in LIMIT_FIELDS if name != "more"}
            found[key_id] = {"trunk": key.trunk, "mode": mode_of(config, key)} | {
                name: value for name, value in values.items() if value is not None
            }
            if limits.more:
                found[key_id]["more"] = [str(one) for one in limits.more]
    return found


def _others(old: Config, new: Config) -> list[str]:
    """Top-level keys besides trunks and keys that say something else now."""
    names = [name for name in type(new).model_fields if name not in ("trunks", "keys")]
    return sorted(name for name in names if getattr(old, name) != getattr(new, name))


def _changes(old: Any, new: Any, same: Callable[[str], bool]) -> dict[str, list[str]]:
    return {
        "added": [name for name in new if name not in old],
        "changed": [name for name in new if name in old and not same(name)],
        "removed": [name for name in old if name not in new],
    }


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
