"""Where attempts go (RFC 3261 §16.5): the target set of a call, in groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from callgate.proxy.flow import Flow
from callgate.proxy.trunk.health import Health, Standing
from callgate.sip.uri import Uri

if TYPE_CHECKING:
    from callgate.proxy.identity.bindings import Binding
    from callgate.proxy.peers import Gateway
    from callgate.sip.message import Message


DEFLECTION = b"deflection"
"""The `reason` of what a 302 of the PBX asks for."""


class Target:
    """One place to try.

    `flow` is how it is reached; `hostport` stands in the Request-URI behind the number, unless `uri` gives the whole
    of it (a registered contact). `gateway` is None for what belongs to a PBX. `device`: a phone of several, after
    whose refusal others are tried. `route` is a Route value to put on top (a registered Path), empty for none.
    `health` tells whether an address of a gateway is to be used. `binding` is what a registered contact comes from,
    `other` another flow of the same device, for when this one fails (RFC 5626 §5.3). `onward` is the telephone number
    (a URI) that the gate itself carries the call on to (`bridge`), `reason` why, `redirect` the 302 that asks for it.
    """

    __slots__ = (
        "binding",
        "device",
        "flow",
        "gateway",
        "health",
        "hostport",
        "name",
        "onward",
        "other",
        "reason",
        "redirect",
        "route",
        "uri",
    )

    def __init__(
        self,
        flow: Flow,
        hostport: bytes,
        name: str,
        *,
        gateway: Gateway | None = None,
        uri: bytes = b"",
        device: bool = False,
        route: bytes = b"",
        health: Health | None = None,
        binding: Binding | None = None,
        other: Target | None = None,
        onward: bytes = b"",
    ) -> None:
        self.flow = flow
        self.hostport = hostport
        self.name = name
        self.gateway = gateway
        self.uri = uri
        self.device = device
        self.route = route
        self.health = health
        self.binding = binding
        self.other = other
        self.onward = onward
        self.reason = b""
        self.redirect: Message | None = None

    def usable(self, now: float, who: str = "") -> bool:
        """Whether a call may go there; `who`: `Trunk.tells` of its key."""
        health = self.health
        return health is None or health.spotless or health.standing(now, who) is not Standing.SHUT

    def for_user(self, user: bytes) -> Target:
        """This place, where calls are for `user`, whatever number was called; empty: for that number."""
        if not user:
            return self
        scheme = b"sips" if self.flow.listener.secure else b"sip"
        return Target(self.flow, self.hostport, self.name, uri=b"%b:%b@%b" % (scheme, user, self.hostport))

    def request_uri(self, asked: Uri) -> bytes:
        """The Request-URI of a call for `asked` at a PBX: the user part kept, the host of the target."""
        return self.uri or b"%b:%b%b" % (
            b"sips" if asked.scheme == b"sips" else b"sip",
            asked.user + b"@" if asked.user else b"",
            self.hostport,
        )


Groups = Sequence[Sequence[Target]]
"""Tried one after the other; the targets of one group ring at once."""


def secure_only(groups: Groups) -> Groups:
    """The targets that a SIPS URI may lead to: those over TLS (RFC 3261 §26.2.2)."""
    kept = [tuple(target for target in group if target.flow.listener.secure) for group in groups]
    return [group for group in kept if group]
