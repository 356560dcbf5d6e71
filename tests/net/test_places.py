"""RFC 2782: the order of one call's targets, with the dice in hand."""

from __future__ import annotations

from collections import Counter
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from callgate.proxy.trunk.places import Place, in_order


def place(name: str, priority: int = 0, weight: int = 0) -> Place:
    return Place(priority, weight, b"UDP", 5060, (name,))


def names(places: list[Place]) -> str:
    return "".join(p.hosts[0] for p in places)


def test_a_lower_priority_comes_first() -> None:
    found = in_order([place("c", 30), place("a", 10), place("b", 20)], lambda: 0.0)
    assert names(found) == "abc"


def test_the_weight_decides_among_equals() -> None:
    """The running sums are 1 and 4: a number from 0 to 4 is drawn."""
    one, three = place("a", 0, 1), place("b", 0, 3)
    assert [names(in_order([one, three], lambda x=x: x)) for x in (0.0, 0.39, 0.41, 0.99)] == [
        *("ab", "ab", "ba", "ba")
    ]


def test_weight_zero_has_a_small_chance() -> None:
    """RFC 2782: zeroes are put first, so that the number 0 chooses one."""
    zero, heavy = place("z"), place("h", 0, 9)
    assert names(in_order([heavy, zero], lambda: 0.09)) == "zh"
    assert names(in_order([heavy, zero], lambda: 0.11)) == "hz"


def test_the_shares() -> None:
    random = Random(7)
    places = [place("a", 0, 60), place("b", 0, 30), place("c", 0, 10)]
    first = Counter(names(in_order(places, random.random))[0] for _ in range(20_000))
    assert abs(first["a"] / 20_000 - 0.60) < 0.02
    assert abs(first["b"] / 20_000 - 0.30) < 0.02


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 65_535)), max_size=8), st.randoms())
def test_each_place_once_and_priorities_kept(records: list[tuple[int, int]], random: Random) -> None:
    places = [place(str(n), *record) for n, record in enumerate(records)]
    found = in_order(places, random.random)
    assert Counter(found) == Counter(places)
    assert [p.priority for p in found] == sorted(p.priority for p in places)
