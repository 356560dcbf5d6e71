"""The numbers of a PBX towards a trunk: whatever is challenged, they rise in each dialog, and each INVITE keeps its
own."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from callgate.proxy.calls import cseq
from callgate.proxy.calls.cseq import INVITES, JUMP, LIMIT, Shift, Shifts

steps = st.lists(
    st.tuples(
        st.sampled_from("abc"), st.sampled_from(["new", "new", "challenge", "own"]), st.integers(1, 1000)
    ),
    max_size=60,
)


@given(steps, st.integers(0, 50), st.sampled_from([0, JUMP]))
def test_numbers_rise_in_every_dialog(steps: list[tuple[str, str, int]], offset: int, ahead: int) -> None:
    """Several dialogs of one From tag, each with numbers of its own; any request may be challenged, late ones too."""
    shift = Shift(offset, ahead=ahead)
    pbx = dict.fromkeys("abc", 0)
    left: dict[str, list[tuple[int, int]]] = {d: [] for d in "abc"}  # (the PBX's, as it left)
    highest = 0
    for dialog, what, step in steps:
        if what == "new":
            pbx[dialog] += step
            number = shift.leave(pbx[dialog])
            assert all(number > before for _, before in left[dialog])
            left[dialog].append((pbx[dialog], number))
        elif what == "challenge" and left[dialog]:
            asked, _ = left[dialog][step % len(left[dialog])]
            number = shift.again(asked)
            assert number > highest
            left[dialog].append((asked, number))
        elif what == "own":
            number = shift.own()
            assert number > highest
        else:
            continue
        highest = max(highest, number)
        assert shift.top == highest


@given(st.integers(1, LIMIT - 1), st.integers(0, 10), st.integers(0, 10))
def test_no_number_reaches_the_limit(number: int, challenges: int, more: int) -> None:
    shift = Shift(ahead=JUMP)
    last = shift.leave(number)
    assert 0 < last < LIMIT
    for _ in range(challenges):
        raised = shift.again(number)
        assert raised == last + 1 if last + 1 < LIMIT else raised == 0
        last = raised or last
    for n in range(number + 1, min(number + more, LIMIT)):
        assert shift.leave(n) < LIMIT
    assert shift.of_invite(LIMIT - 1)[0] < LIMIT


def test_an_invite_is_found_by_the_number_of_either_side() -> None:
    shift = Shift()
    shift.note(1, shift.leave(1))
    shift.note(1, shift.again(1), [b"credentials"])
    shift.again(1)
    shift.note(2, shift.leave(2))
    assert shift.of_invite(1) == (2, [b"credentials"])
    assert shift.of_invite(1, 1) == (1, ())
    assert shift.of_invite(2) == (4, ())
    assert shift.of_invite(7) == (7, ()), "of one that left before this was made"
    for n in range(3, 20):
        shift.note(n, shift.leave(n))
    assert shift.of_invite(19) == (21, ())
    assert len(shift._invites) == INVITES


def test_an_invite_of_an_earlier_start_has_the_number_that_it_left_with() -> None:
    """However far later requests have jumped."""
    shift = Shift(2, ahead=JUMP)
    shift.leave(2)
    shift.again(2)
    assert shift.of_invite(1) == (3, ())
    assert Shift(LIMIT).of_invite(1) == (LIMIT - 1, ())


def test_the_oldest_numbers_are_forgotten_first() -> None:
    limit, cseq.SHIFTS = cseq.SHIFTS, 3
    try:
        shifts = Shifts()
        for name in b"abc":
            shifts.of(b"%c" % name, b"tag").again(1)
        assert shifts.of(b"a", b"tag").top == 1
        shifts.of(b"d", b"tag")
        assert len(shifts) == 3
        assert shifts.of(b"a", b"tag").top == 1
        assert shifts.of(b"b", b"tag", ahead=JUMP).leave(1) == 1 + JUMP
    finally:
        cseq.SHIFTS = limit
