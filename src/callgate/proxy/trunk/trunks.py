"""Which gateway a call takes, and what is learned of them: look-ups, OPTIONS, calls that fail."""

from __future__ import annotations

from typing import TYPE_CHECKING

from callgate.proxy.answer import Refusal
from callgate.proxy.calls.targets import Groups, Target
from callgate.proxy.commands import Alert, Resolve
from callgate.proxy.flow import UNKNOWN, Trouble
from callgate.proxy.peers import Gateway, Key, Trunk
from callgate.proxy.trunk.health import Standing
from callgate.proxy.trunk.options import Watch
from callgate.proxy.trunk.places import Place, Random
from callgate.proxy.trunk.sites import Site

if TYPE_CHECKING:
    from callgate.proxy.core import Core


class Trunks:
    """`random` orders places of equal rank and spreads OPTIONS over time."""

    def __init__(self, core: Core, random: Random) -> None:
        self._core = core
        self.random = random
        self._watches: dict[Target, Watch] = {}

    def begin(self, now: float) -> None:
        """Watch every gateway whose address is known."""
        for trunk in self._core.directory.trunks.values():
            for gateway in trunk.gateways:
                self._watch(gateway, now)

    def adopt(self, now: float) -> None:
        """The directory has changed: watch what is there now, and nothing else."""
        wanted = {
            target: trunk.rules.interval
            for trunk in self._core.directory.trunks.values()
            for gateway in trunk.gateways
            for target in gateway.site.targets
        }
        for target in [target for target in self._watches if not wanted.get(target)]:
            self._watches.pop(target).stop()
        self.begin(now)

    def stop(self) -> None:
        """Send no more OPTIONS."""
        for watch in self._watches.values():
            watch.stop()
        self._watches.clear()

    def _watch(self, gateway: Gateway, now: float) -> None:
        interval = gateway.trunk.rules.interval
        if not interval:
            return
        for target in gateway.site.targets:
            if target not in self._watches:
                self._watches[target] = Watch(self._core, target, now + interval * self.random())

    # -- a call's way ----------------------------------------------------------------------------------------

    def groups(
        self,
        key: Key,
        now: float,
        first: Target | None = None,
        *,
        trunk: Trunk | None = None,
        every: bool = False,
    ) -> Groups:
        """What a key's call out tries, in order: the gateways of its trunk (or of `trunk`) as configured, those that
        don't answer OPTIONS last, none to which no call may go now (`every`: these at the very end). `first` goes
        before all others, if it is one of them."""
        usual: list[tuple[Target, ...]] = []
        last: list[tuple[Target, ...]] = []
        shut: list[tuple[Target, ...]] = []
        trunk = trunk or key.trunk
        who = trunk.tells(key)
        for gateway in trunk.gateways:
            for group in gateway.site.groups(self.random):
                health = group[0].health
                if health is None or health.spotless:
                    usual.append(tuple(group))
                    continue
                standing = health.standing(now, who)
                by = {Standing.USUAL: usual, Standing.LAST: last, Standing.SHUT: shut}
                by[standing].append(tuple(group))
        usual += last
        if every:
            usual += shut
        if first is not None:
            usual.sort(key=lambda group: group[0] is not first)
        return usual

    def pbx_groups(self, key: Key) -> Groups:
        """What a call in tries: the PBX, or each of its addresses, in the order of this call."""
        site = key.pbx_site
        return site.groups(self.random) if site is not None and site.spread else key.pbx_groups

    def refusal(self, key: Key, now: float) -> Refusal:
        """Why there is no gateway for a key's call now."""
        trunk = key.trunk
        who = trunk.tells(key)
        targets = [target for gateway in trunk.gateways for target in gateway.site.targets]
        if not targets:
            return Refusal("trunk", "no address of a gateway is known", 503)
        ends = [t.health.rests_until(who) for t in targets if t.health is not None]
        pauses = [end - now for end in ends if end > now]
        if pauses:
            return Refusal("K11", f"the trunk asks for a pause of {min(pauses):.0f} s", 503)
        why = next((t.health.why for t in targets if t.health is not None and t.health.why), "")
        if any(t.health is not None and t.health.up for t in targets):
            return Refusal("trunk", f"no gateway takes calls of this key: {why}", 503)
        return Refusal("trunk", f"every gateway is down: {why}", 503)

    # -- what calls show -------------------------------------------------------------------------------------

    def call_well(self, target: Target, key: Key) -> None:
        """A gateway has answered a call."""
        health = target.health
        if health is not None and not health.spotless:
            health.call_well(key.trunk.tells(key))
            self._told(target)

    def call_failed(
        self, target: Target, key: Key, why: str, now: float, *, lost: Trouble | None = None
    ) -> None:
        """A gateway did not take a call; `lost`: why it could not be delivered, None where it was."""
        health = target.health
        if health is None:
            return
        alone = health.call_failed(now, why, key.trunk.tells(key), lost=lost)
        if alone:
            text = f"gateway {target.name} takes no calls of this key ({why}): they go elsewhere for a while"
            details = {"gateway": target.name}
            alert = Alert("trunk-refuses", "warning", key.id, text, trunk=key.trunk.name, details=details)
            self._core.alert(alert, now)
        if target in self._watches and (alone or health.open):
            self._watches[target].hurry(now if alone else health.trial_at)
        self._told(target)
        self._look_again(target)

    def congested(self, key: Key, now: float, *, plain: bool) -> None:
        """The trunk has refused a call because there are too many (K11); `plain`: with nothing but a 503."""
        if key.congestion.heard(now, plain=plain):
            self._core.pacing.slowed(key, now)
            level = key.congestion.level(now)
            text = f"the trunk says that it is congested: new calls are slowed to {key.pace(level)}"
            self._core.alert(Alert("K11", "warning", key.id, text, trunk=key.trunk.name), now)

    def asks_for_pause(self, target: Target, key: Key, seconds: float, now: float) -> None:
        """A Retry-After has come with a 503 to a key's call."""
        if target.health is not None:
            target.health.rest(seconds, now, key.trunk.tells(key))

    # -- what OPTIONS show -----------------------------------------------------------------------------------

    def options_well(self, target: Target, now: float) -> None:
        if target.health is not None:
            target.health.options_well(now)
            self._told(target)

    def options_failed(self, target: Target, why: str, now: float, trouble: Trouble = UNKNOWN) -> None:
        if target.health is not None:
            target.health.options_failed(why, now, trouble)
            self._told(target)
            self._look_again(target)

    def pbx_silent(self, key: Key) -> None:
        """A PBX has not answered a call."""
        if key.pbx_site is not None and key.pbx_site.named:
            self._core.out.append(Resolve(key))

    def _look_again(self, target: Target) -> None:
        """Look the name of a gateway that fails up anew: it may have moved, long before its TTL is over."""
        gateway = target.gateway
        if gateway is not None and gateway.site.named:
            self._core.out.append(Resolve(gateway))

    def _told(self, target: Target) -> None:
        if target.gateway is not None:
            self._settle(target.gateway)

    def _settle(self, gateway: Gateway) -> None:
        """Tell when a gateway has come up or gone down."""
        healths = [target.health for target in gateway.site.targets if target.health is not None]
        up = any(health.up for health in healths) or (not healths and not gateway.asked)
        if up is gateway.up:
            return
        gateway.up = up
        self._core.counts.gateway(gateway)
        bad = next((health for health in healths if health.why), None)
        why, advice = (bad.why, bad.advice) if bad is not None else ("no address is known", "")
        trunk = gateway.trunk.name
        text = f"gateway {gateway.name} of trunk {trunk} is down: {why}"
        details = {"gateway": gateway.name}
        alert = Alert("trunk-down", "critical", "", text, trunk=trunk, details=details, advice=advice)
        if up:
            self._core.alerts.over(alert)
        else:
            self._core.alerts.stands(alert)

    # -- what look-ups show ------------------------------------------------------------------------------------

    def located(self, who: Gateway | Key | Site, places: tuple[Place, ...], trouble: str, now: float) -> None:
        """These are the places of a name now (none: nothing is known); `trouble`: what is wrong with its look-up."""
        directory = self._core.directory
        site = who if isinstance(who, Site) else who.site if isinstance(who, Gateway) else who.pbx_site
        assert site is not None
        before = site.targets
        changed = site.learn(places, directory)
        if isinstance(who, Gateway):
            who.asked = True
            if changed:
                directory.learn_gateways()
            for target in before:
                if target not in site.targets and target in self._watches:
                    self._watches.pop(target).stop()
            self._watch(who, now)
            self._settle(who)
        elif changed and isinstance(who, Key):
            who.pbx_groups = site.groups(self.random)
        self._tell_trouble(who, site, trouble)

    def _tell_trouble(self, who: Gateway | Key | Site, site: Site, trouble: str) -> None:
        now = "" if not trouble else "warning" if site.targets else "critical"
        for severity, what in (("warning", "the last answer serves"), ("critical", "no call can go there")):
            text = f"{site.name} can't be looked up, {what}: {trouble}"
            if isinstance(who, Gateway):
                details = {"gateway": who.name}
                alert = Alert("dns", severity, "", text, trunk=who.trunk.name, details=details)
            else:
                alert = Alert("dns", severity, who.id if isinstance(who, Key) else "", text)
            if severity == now:
                self._core.alerts.stands(alert)
            else:
                self._core.alerts.over(alert)
