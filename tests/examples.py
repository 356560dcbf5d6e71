"""How many examples a promise is tried with.

The suite tries as many as a change can wait for; before a release, or after a change to what a promise is about, ask
for more: `EXAMPLES=20 make test TESTS=tests/numbers` tries twenty
times as many.
"""

from __future__ import annotations

import os

TIMES = float(os.environ.get("EXAMPLES", "1"))


def many(count: int) -> int:
    """So many, times what the environment asks for."""
    return max(1, round(count * TIMES))
