"""A reload: another directory takes the place of the present one, in one step, while calls go on.

A key or trunk that has not changed is the same object in both, with all that is known of it. One that has changed is a
new object: what was learned of its gateways, its PBX and its trunk's congestion goes over to it. Calls keep the objects
that they began with; what they hold counts in the sets of the same name.
"""

from __future__ import annotations

from collections.abc import Container
from typing import TYPE_CHECKING

from callgate.proxy.commands import Alert
from callgate.proxy.directory import Directory
from callgate.proxy.peers import Key, Trunk
from callgate.proxy.telemetry.meters import LIMIT_GAUGES

if TYPE_CHECKING:
    from callgate.proxy.core import Core

GAUGES = (
    *("suspended", "registrations", "congestion_level", "queue_depth"),
    *(name for pair in LIMIT_GAUGES.values() for name in pair),
)
"""Of a key: hidden when that is gone. `calls_active` stays, its calls may be up."""


def adopt(core: Core, new: Directory, now: float, *, prepared: Container[str] = ()) -> None:
    """From now on `new` holds. `prepared`: ids of keys whose series are there already."""
    old = core.directory
    for name, trunk in new.trunks.items():
        before = old.trunks.get(name)
        if before is not None and before is not trunk:
            _inherit_trunk(trunk, before)
    for id, key in new.keys.items():
        was = old.keys.get(id)
        if was is key:
            continue
        if was is not None:
            _inherit_key(key, was)
        if id not in prepared:
            core.counts.prepare_key(key)
    core.directory = new
    new.learn_gateways()
    for trunk in new.trunks.values():
        core.counts.prepare_trunk(trunk)
    _hide(core, old, new)
    core.alerts.forget(lambda alert: _is_gone(alert, new))
    core.trunks.adopt(now)
    core.registrations.adopt(new.trunks.values(), now)
    core.suspensions.adopt()
    core.recorders.adopt()
    core.recordings.adopt(now)
    core.pacing.adopt(new.keys, now)


def _inherit_trunk(trunk: Trunk, before: Trunk) -> None:
    """Gateways that are the same keep their addresses and what is known of them."""
    if (
        trunk.register is not None
        and before.register is not None
        and trunk.register.aor == before.register.aor
    ):
        trunk.service_route = before.service_route
    known = {gateway.site.identity: gateway for gateway in before.gateways}
    for index, fresh in enumerate(trunk.gateways):
        gateway = known.pop(fresh.site.identity, None)
        if gateway is not None:
            gateway.index, gateway.trunk = index, trunk
            gateway.site.judge_by(trunk.rules)
            trunk.gateways[index] = gateway


def _inherit_key(key: Key, before: Key) -> None:
    key.slow_like(before)
    site, known = key.pbx_site, before.pbx_site
    if site is not None and known is not None and site.named and site.identity == known.identity:
        key.pbx_site, key.pbx_groups = known, before.pbx_groups


def _hide(core: Core, old: Directory, new: Directory) -> None:
    """Gauges of what the config does not name any more."""
    counts = core.counts
    for id in old.keys:
        if id not in new.keys:
            for metric in GAUGES:
                counts.hide(metric, id)
    for trunk in old.trunks.values():
        after = new.trunks.get(trunk.name)
        if after is None or after.register is None:
            counts.hide("registered", trunk.name)
        kept = {gateway.name for gateway in after.gateways} if after is not None else set()
        for gateway in trunk.gateways:
            if gateway.name not in kept:
                gateway.up_series = -1
                counts.hide("trunk_up", trunk.name, gateway.name)


def _is_gone(alert: Alert, directory: Directory) -> bool:
    """Whether an alert is about something that the config does not name any more."""
    if alert.key and alert.key not in directory.keys:
        return True
    if not alert.trunk:
        return False
    trunk = directory.trunks.get(alert.trunk)
    gateway = alert.details.get("gateway")
    if trunk is None or (alert.rule == "trunk-register" and trunk.register is None):
        return True
    return gateway is not None and all(one.name != gateway for one in trunk.gateways)
