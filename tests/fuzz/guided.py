"""The fuzzer led by coverage: `atheris` (libFuzzer) tries out octets and keeps those that reach new lines.

    python -m tests.fuzz.guided FIGURES.json [libFuzzer's options] [FOLDER OF INPUTS]

`tests.fuzz.run` starts it where atheris is installed.
"""

from __future__ import annotations

import gc
import json
import sys
from contextlib import suppress
from pathlib import Path
from time import thread_time

import atheris

with atheris.instrument_imports(include=["callgate"]):
    from tests.fuzz.dice import Octets
    from tests.fuzz.play import Figures, Play, frames, play, same_reading
    from tests.torture.table import CASES

    from callgate.sip.errors import Malformed
    from callgate.sip.fields import parse_name_addr
    from callgate.sip.message import CONTACT, FROM, ROUTE, TO, VIA, parse
    from callgate.sip.uri import parse_uri

STEPS = 30
EVERY = 100
"""Inputs between two writings of the figures: libFuzzer ends the process without a word."""
MESSAGES = [case.data for case in CASES]


def read(data: bytes, figures: Figures) -> None:
    """One message, and all that may be asked of it."""
    began = thread_time()
    with suppress(Malformed):
        found = parse(data)
        for slot in (VIA, ROUTE, CONTACT, FROM, TO):
            for value in found.values(slot):
                with suppress(Malformed):
                    parse_uri(parse_name_addr(value).uri)
        with suppress(Malformed):
            parse_uri(found.uri)
        found.wire()
    figures.took(thread_time() - began, data)
    same_reading(data)


def receive(data: bytes, figures: Figures) -> None:
    """One message, from everybody, with nothing before it."""
    first = Play(Octets(data[:2]), figures)
    first.whole = True
    for side in first.sides:
        first.sends(side, data)
    first.run(0)


def main() -> None:
    file, *options = sys.argv[1:]
    figures = Figures()

    def one(data: bytes) -> None:
        kind, rest = data[0] % 8 if data else 0, data[1:]
        if kind == 0:
            read(rest, figures)
            figures.runs += 1
        elif kind == 1:
            receive(rest, figures)
        elif kind == 2:
            frames(Octets(rest), MESSAGES, figures)
            figures.runs += 1
        else:
            play(Octets(rest), figures, STEPS)
        if figures.runs % EVERY == 0:
            gc.unfreeze()
            gc.collect()  # the worlds of the runs themselves
            shown = vars(figures) | {"slowest_message": figures.slowest_message[:200].decode("latin-1")}
            Path(file).write_text(json.dumps(shown), encoding="utf-8")

    atheris.Setup([sys.argv[0], *options], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
