"""The CSeq numbers of a PBX towards a trunk whose challenges the gate answers itself.

Each answer to a challenge is a new request with a higher CSeq (RFC 3261 §22.2), of which the PBX knows nothing. So
the PBX's number n leaves as n + offset from then on, and whatever names such a number (ACK, RAck) is raised alike;
what comes back has the PBX's own number again.
"""

from __future__ import annotations

from collections.abc import Sequence

LIMIT = 1 << 31
"""CSeq numbers are below it (RFC 3261 §8.1.1.5)."""
JUMP = 1 << 16
"""By how much the numbers of a dialog are raised that an earlier start of the gate knew: more than the challenges that
it can have answered in it. A dialog's numbers may leave gaps (RFC 3261 §12.2.1.1)."""
INVITES = 8
"""INVITEs of one call that are remembered, for ACKs that come late."""
SHIFTS = 10_000
"""Dialogs without a call whose numbers are remembered."""


class Shift:
    """What the numbers of one Call-ID and one From tag are raised by. All dialogs of a forked call share it: the offset
    only grows, so that in each of them the numbers do.

    `offset` is what is added to the PBX's next number, `top` the highest number that has left. `ahead`: what the next
    request is raised by besides, because some challenges may have been forgotten.
    """

    __slots__ = ("_ahead", "_first", "_invites", "offset", "top")

    def __init__(self, offset: int = 0, *, ahead: int = 0) -> None:
        self.offset = self._first = offset
        self.top = 0
        self._ahead = ahead
        # (number of the PBX, number that left, its credentials) of the last INVITEs
        self._invites: tuple[tuple[int, int, Sequence[bytes]], ...] = ()

    @property
    def row(self) -> tuple[int, int, tuple[tuple[int, int, tuple[bytes, ...]], ...]]:
        """All there is to it, to be kept: for `recalled`."""
        invites = tuple([(number, left, tuple(lines)) for number, left, lines in self._invites])
        return self.offset, self.top, invites

    @classmethod
    def recalled(
        cls, offset: int, top: int, invites: tuple[tuple[int, int, tuple[bytes, ...]], ...]
    ) -> Shift:
        """What a row was made of, at an earlier start: some challenges may have been answered since."""
        shift = cls(offset, ahead=JUMP)
        shift.top = top
        shift._invites = invites
        return shift

    def leave(self, number: int) -> int:
        """The number that a request of the PBX leaves with; 0 where all are used up."""
        if self._ahead:
            if number + self.offset + self._ahead < LIMIT // 2:
                self.offset += self._ahead
            self._ahead = 0
        raised = number + self.offset
        if raised >= LIMIT:
            return 0
        self.top = max(self.top, raised)
        return raised

    def again(self, number: int) -> int:
        """The number for that request's next copy with credentials, above all that have left; 0 where all are used
        up."""
        raised = self.top + 1
        if raised >= LIMIT:
            return 0
        self.top = raised
        self.offset = max(self.offset, raised - number)
        return raised

    def own(self) -> int:
        """The number of a request that the gate makes itself in the PBX's place (a BYE); the PBX's next one is above
        it. 0 where all are used up."""
        return self.again(self.top - self.offset)

    def note(self, number: int, raised: int, credentials: Sequence[bytes] = ()) -> None:
        """An INVITE has left with these header lines of ours."""
        self._invites = (*self._invites[1 - INVITES :], (number, raised, credentials))

    def of_invite(self, number: int, raised: int = 0) -> tuple[int, Sequence[bytes]]:
        """The number with which the PBX's INVITE `number` left last, and its credentials. `raised`: the one that a
        response named, where that is known. An INVITE that left before this was made was raised by what that began
        with, however far later requests have gone."""
        for known, left, credentials in reversed(self._invites):
            if (left == raised) if raised else (known == number):
                return left, credentials
        return raised or min(number + self._first, LIMIT - 1), ()


class Shifts:
    """The numbers of dialogs that are no calls (SUBSCRIBE), of calls that are known by their token only, and of
    requests outside dialogs, by Call-ID and the PBX's tag. The one that was not used for longest is forgotten first;
    should it go on, its numbers jump."""

    def __init__(self) -> None:
        self._known: dict[tuple[bytes, bytes], Shift] = {}

    def of(self, call_id: bytes, tag: bytes, offset: int = 0, *, ahead: int = 0) -> Shift:
        """The one of this Call-ID and tag, made with `offset` and `ahead` where it is new."""
        name = (call_id, tag)
        shift = self._known.pop(name, None)
        if shift is None:
            shift = Shift(offset, ahead=ahead)
            if len(self._known) >= SHIFTS:
                del self._known[next(iter(self._known))]
        self._known[name] = shift
        return shift

    def __len__(self) -> int:
        return len(self._known)
