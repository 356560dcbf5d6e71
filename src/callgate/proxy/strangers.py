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
