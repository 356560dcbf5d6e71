"""The tokens of one outbound call: `take → sent → release`, seen from the call.

The carrier counts arrivals of calls that it has not seen, and any copy of an INVITE may be the first to arrive. So
a copy goes out at once while its call's token is out; when the token has come back the copy needs a new one, ahead of
any new call; and so does the attempt at a further gateway.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from callgate.policy.claim import Claim, Verdict
from callgate.policy.ledger import MARGIN
from callgate.proxy.commands import Release, Withdraw
from callgate.proxy.transactions import AnyClient, InviteClientTransaction
from callgate.sip.transaction import NEVER, State

if TYPE_CHECKING:
    from callgate.proxy.attempts import Attempts
    from callgate.proxy.context import Context

ASK_SECONDS = 0.2
"""How long the store may think."""
LEASE = 900.0
"""Seconds a call that nobody has answered may hold what it claimed; renewed while it rings."""


class Copies:
    """`granted` are all claims of the call, to be released at its end. It is handed its call each time: a pointer
    back would be a cycle."""

    __slots__ = ("_asked", "granted")

    def __init__(self) -> None:
        self._asked: dict[int, InviteClientTransaction | None] | None = None
        self.granted: tuple[int, ...] = ()

    @property
    def wait_for_gateway(self) -> bool:
        """Whether the attempt at a further gateway waits for its token."""
        return self._asked is not None and None in self._asked.values()

    def first(
        self, call: Attempts, client: InviteClientTransaction, claim_id: int, *, arrived: float | None
    ) -> None:
        """An attempt begins under a claim that was granted. `arrived`: when the INVITE came, None for a further
        attempt."""
        client.claim = claim_id
        call.core.sent_at[claim_id] = NEVER if arrived is None else -arrived

    def due(self, call: Attempts, client: InviteClientTransaction, now: float) -> None:
        """Timer A: another copy is due."""
        last = call.core.sent_at.get(client.claim, NEVER)
        if (
            call.free
            or not call.key.attempt
            or last < 0.0  # the shell still holds the first copy
            or now < last + call.key.token_seconds + MARGIN
        ):
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
        if client is None and self.wait_for_gateway:
            return
        # A copy is no new call to the carrier: congestion (K11) does not hold it up.
        key = call.core.current(call.key)
        parts = key.claims(now)[1] if client is None else key.attempt
        if key.gap:
            parts = key.to_number(parts, call.record.canonical, first=False)
        claim = Claim(call.core.next_id(), parts, now + ASK_SECONDS, LEASE, force=key.shadow)
        self._asked = self._asked or {}
        self._asked[claim.id] = client
        call.core.ask(call, key, claim, now)

    def answered(self, call: Attempts, claim_id: int, verdict: Verdict, now: float) -> None:
        """The store's verdict on such a claim."""
        core = call.core
        client = self._asked.pop(claim_id, None) if self._asked is not None else None
        wanted = call.wants_gateway if client is None else _wants_copy(client)
        if not wanted:
            if verdict.granted:
                core.out.append(Release(claim_id))
        elif verdict.granted or (client is None and call.key.shadow):
            if verdict.granted:
                self.granted += (claim_id,)
            if client is None:
                call.free = False  # only the first gateway had seen it
                call.attempt(claim_id, now)
            else:
                core.sent_at.pop(client.claim, None)
                client.claim = claim_id
                core.sent_at[claim_id] = NEVER
                core.layer.repeat(client)
        elif client is None:
            call.conclude(now)  # a refusing key ends with the last gateway's answer
        else:
            waiting = client
            core.wait(verdict.free_at, lambda then: self._retry(call, waiting, then), now)

    def _retry(self, call: Attempts, client: InviteClientTransaction, now: float) -> None:
        """A token may be free for a copy that had to wait."""
        if _wants_copy(client):
            self.ask(call, client, now)

    def stop(self, call: Context, client: AnyClient) -> None:
        """No further copies of this attempt, and not the first one either where the shell still holds it."""
        last = call.core.sent_at.pop(client.claim, 0.0)
        if last < 0.0 or last == NEVER:
            call.core.out.append(Withdraw(client.claim))
        client.claim = 0

    def release(self, call: Context) -> None:
        """Give everything back."""
        out = call.core.out
        for claim_id in self.granted:
            out.append(Release(claim_id))
        self.granted = ()


def _wants_copy(client: InviteClientTransaction) -> bool:
    return client.state is State.CALLING and bool(client.claim) and client.rtx_at != NEVER
