"""The tokens of one outbound call: `take → sent → release`, seen from the call.

The carrier counts arrivals of calls that it has not seen, and any copy of an INVITE may be the first to arrive. So
a copy goes out at once while its call's token is out; when the token has come back the copy needs a new one, ahead of
any new call; and so does the attempt at a further gateway. Both wait in the key's queue (`pacing`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from callgate.policy.claim import Claim, Verdict, Window
from callgate.policy.ledger import ASK_SECONDS, LEASE, MARGIN
from callgate.proxy.commands import Release, Withdraw
from callgate.proxy.lanes import Parts, Rank, Ticket
from callgate.proxy.transactions import AnyClient, InviteClientTransaction
from callgate.sip.transaction import NEVER, State

if TYPE_CHECKING:
    from callgate.proxy.attempts import Attempts
    from callgate.proxy.context import Context


class Again(Ticket):
    """A copy of an INVITE that waits for a token, or (`client` None) the attempt at a further gateway."""

    __slots__ = ("call", "client")

    def __init__(self, call: Attempts, client: InviteClientTransaction | None, now: float) -> None:
        key = call.core.held_to(call)
        until = NEVER
        if client is None and key.queue_seconds is not None:
            until = now + key.queue_seconds
        super().__init__(key, Rank.GATEWAY if client is None else Rank.COPY, now, until)
        self.call = call
        self.client = client

    def parts(self, now: float) -> Parts:
        # A copy is no new call to the carrier: congestion (K11) does not hold it up.
        key = self.key
        parts = key.claims(now)[1] if self.client is None else key.attempt
        trunk = self.call.core.directory.trunks.get(key.trunk.name)
        if trunk is not None and trunk.window is not key.trunk.window:
            parts = _under(trunk.window, parts, key.trunk.window)
        return key.to_number(parts, self.call.record.canonical, first=False) if key.gap else parts

    def told(self, verdict: Verdict, now: float) -> None:
        self.call.copies.told(self, verdict, now)

    def let_go(self) -> None:
        self.call.copies.forget(self)

    @property
    def gone(self) -> bool:
        return not (self.call.wants_gateway if self.client is None else _wants_copy(self.client))


class Copies:
    """`granted` are all claims of the call, to be released at its end. It is handed its call each time: a pointer
    back would be a cycle."""

    __slots__ = ("_waiting", "granted")

    def __init__(self) -> None:
        self._waiting: dict[InviteClientTransaction | None, Again] | None = None
        self.granted: tuple[int, ...] = ()

    @property
    def wait_for_gateway(self) -> bool:
        """Whether the attempt at a further gateway waits for its token."""
        return self._waiting is not None and None in self._waiting

    def first(
        self, call: Attempts, client: InviteClientTransaction, claim_id: int, *, arrived: float | None
    ) -> None:
        """An attempt begins under a claim that was granted. `arrived`: when the INVITE came, or left the queue; None
        for a further attempt."""
        client.claim = claim_id
        call.core.sent_at[claim_id] = NEVER if arrived is None else -arrived

    def due(self, call: Attempts, client: InviteClientTransaction, now: float) -> None:
        """Timer A: another copy is due."""
        last = call.core.sent_at.get(client.claim)  # None: its token was of an earlier start
        held = last is not None and (
            last < 0.0  # the shell still holds the first copy
            or now < last + call.key.token_seconds + MARGIN
        )
        if call.free or not call.key.attempt or held:
            call.core.layer.repeat(client)
        elif call.emergency:
            call.core.sent_at.pop(client.claim, None)
            client.claim = self.force(call, now)
            call.core.sent_at[client.claim] = NEVER
            call.core.layer.repeat(client)
        else:
            self.ask(call, client, now)

    def force(self, call: Attempts, now: float) -> int:
        """A token for an emergency call, be it over the limit: nobody waits for the store. The number of its claim."""
        core = call.core
        claim = Claim(core.next_id(), call.key.attempt, now + ASK_SECONDS, LEASE, force=True)
        core.ask(call, call.key, claim, now)
        return claim.id

    def ask(self, call: Attempts, client: InviteClientTransaction | None, now: float) -> None:
        """Claim a token for a copy, or (None) for the attempt at the next gateway."""
        waiting = self._waiting = self._waiting or {}
        if client not in waiting:
            ticket = waiting[client] = Again(call, client, now)
            call.core.pacing.enter(ticket, now)

    def told(self, ticket: Again, verdict: Verdict, now: float) -> None:
        """Its turn has come, or (an attempt at a gateway) it is told no."""
        call, client, core = ticket.call, ticket.client, ticket.call.core
        self._forget(client)
        if verdict.granted:
            self.granted += (ticket.claim,)
        elif client is not None or not call.key.shadow:
            if call.wants_gateway:
                call.conclude(now)  # with the last gateway's answer
            return
        if client is None:
            call.free = False  # only the first gateway had seen it
            call.attempt(ticket.claim, now)
        else:
            core.sent_at.pop(client.claim, None)
            client.claim = ticket.claim
            core.sent_at[ticket.claim] = NEVER
            core.layer.repeat(client)

    def forget(self, ticket: Again) -> None:
        """It waits no more."""
        if self._waiting and self._waiting.get(ticket.client) is ticket:
            self._forget(ticket.client)

    def _forget(self, client: AnyClient | None) -> Again | None:
        waiting = self._waiting
        if not waiting:
            return None
        ticket = waiting.pop(client, None)  # type: ignore[arg-type]
        if not waiting:
            self._waiting = None
        return ticket

    def leave(self, call: Context, client: AnyClient | None, now: float) -> None:
        """What waits for a token is not wanted any more."""
        ticket = self._forget(client)
        if ticket is not None:
            call.core.pacing.leave(ticket, now)

    def stop(self, call: Context, client: AnyClient, now: float) -> None:
        """No further copies of this attempt, and not the first one either where the shell still holds it."""
        last = call.core.sent_at.pop(client.claim, 0.0)
        if last < 0.0 or last == NEVER:
            call.core.out.append(Withdraw(client.claim))
            call.core.pacing.unsent(call.key, client.claim)
        client.claim = 0
        if self._waiting:
            self.leave(call, client, now)

    def release(self, call: Context) -> None:
        """Give everything back."""
        out = call.core.out
        for claim_id in self.granted:
            out.append(Release(claim_id))
        self.granted = ()


def _under(window: Window | None, parts: Parts, before: Window | None) -> Parts:
    """What a further attempt claims where the rate of its trunk is another one since: a reload has changed that, and
    moved the key, or removed it."""
    rest = tuple([part for part in parts if before is None or part.name != before.name])
    return rest if window is None else (*rest, window)


def _wants_copy(client: InviteClientTransaction) -> bool:
    return client.state is State.CALLING and bool(client.claim) and client.rtx_at != NEVER
