"""How often the gate answers somebody it does not know: once per source and second, else silence."""

from __future__ import annotations


class Strangers:
    """Bounded: when too many sources are remembered, all are forgotten; each then gets one more answer."""

    SOURCES = 4096

    def __init__(self) -> None:
        self._answered: dict[str, float] = {}

    def may_answer(self, source: str, now: float) -> bool:
        last = self._answered.get(source)
        if last is not None and now - last < 1.0:
            return False
        if len(self._answered) >= self.SOURCES:
            self._answered.clear()
        self._answered[source] = now
        return True


class Allowance:
    """So many answers per source in each second, for whoever may turn out to be no stranger. Bounded in the same
    way."""

    SOURCES = 4096

    def __init__(self, per_second: int) -> None:
        self._per_second = per_second
        self._given: dict[str, tuple[float, int]] = {}  # source → beginning of its second, answers in it

    def may_answer(self, source: str, now: float) -> bool:
        began, given = self._given.get(source, (now, 0))
        if now - began >= 1.0:
            began, given = now, 0
        if given >= self._per_second:
            return False
        if given == 0 and len(self._given) >= self.SOURCES:
            self._given.clear()
        self._given[source] = (began, given + 1)
        return True
