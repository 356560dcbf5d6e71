"""`callgate dial`: what would happen to a dialled string, and why. Needs no running gate and no database."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from callgate.cli import words
from callgate.cli.notes import notes_of
from callgate.config import Config, ConfigError, dial_rules, load_config
from callgate.numbers import Number, read_dialled
from callgate.policy.dial import DialRules, DialVerdict

CHUNK = 65536
LONGEST = 65536
"""Bytes of one line of standard input that are kept; no number needs them, and a file without line ends would
fill the memory."""
SHOWN = 200
"""Characters of a dialled string that a readable line shows."""


class Ambiguous(ValueError):
    """Which contract is meant can't be told: the text says what to add."""


def register(app: typer.Typer) -> None:
    """Add the command to the program."""

    @app.command("dial")
    def dial(
        numbers: Annotated[
            list[str],
            typer.Argument(metavar="NUMBER… | -", help="Dialled strings; -: lines of standard input."),
        ],
        config: Annotated[Path, typer.Option("-c", "--config", help="The config file.")],
        key: Annotated[
            str | None, typer.Option("--key", help="Whose contract, where there are several.")
        ] = None,
        as_json: Annotated[bool, typer.Option("--json", help="One JSON object per number.")] = False,
        why: Annotated[
            bool, typer.Option("--why", help="Say it in words, several lines per number.")
        ] = False,
        lang: Annotated[
            str | None, typer.Option("--lang", help="Of --why: en or ja; else that of the locale.")
        ] = None,
    ) -> None:
        """What would happen to this dialled string, and why."""
        if lang not in (None, "en", "ja"):
            print(f"--lang: there is en and ja, not {lang}", file=sys.stderr)
            raise typer.Exit(2)
        render = json_line if as_json else readable_line
        if why:
            render = partial(json_why if as_json else readable_why, lang=words.language(lang))
        raise typer.Exit(dial_command(config, key, render, numbers))


Render = Callable[[Number, DialVerdict], str]


def dial_command(config: Path, key: str | None, render: Render, numbers: Iterable[str]) -> int:
    """Judge each number, print what `render` makes of it. The exit code is 2 where no contract can be told."""
    try:
        loaded = load_config(config)
        rules, notes = rules_of(loaded, key), notes_of(loaded, key)
    except ConfigError as error:
        for fault in error.faults:
            print(fault, file=sys.stderr)
        return 2
    except Ambiguous as error:
        print(error, file=sys.stderr)
        return 2
    try:
        for batch in batches(numbers):
            judged = [(number, rules.judge(number)) for number in map(read_dialled, batch)]
            if notes is None:
                text = [render(number, verdict) for number, verdict in judged]
            else:
                text = [with_notes(render(*each), notes(each[0].canonical, each[1])) for each in judged]
            sys.stdout.write("".join(text))
            sys.stdout.flush()
    except BrokenPipeError:
        # The reader has seen enough (`| head`). What is still buffered must not fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def rules_of(config: Config, key: str | None) -> DialRules:
    """The number rules of a key's trunk; without a key those of all keys, if they are the same.

    Raises `Ambiguous` for an unknown key, and where the keys stand under different rules.
    """
    known = ", ".join(config.keys)
    if key is not None and key not in config.keys:
        raise Ambiguous(f"--key: there is no key {key}; there is {known}")
    names = [key] if key is not None else list(config.keys)
    found = [_rules(config, name) for name in names]
    if any(one != found[0] for one in found):
        raise Ambiguous(f"--key: the keys stand under different number rules; say which one: {known}")
    return dial_rules(config)[names[0]]


def _rules(config: Config, name: str) -> tuple[object, ...]:
    """What the number rules of a key come from, to tell whether another key has the same."""
    key = config.keys[name]
    trunk = config.trunks[key.trunk]
    return config.profiles[key.trunk].numbers, trunk.numbering, trunk.dial, key.dial


def batches(numbers: Iterable[str]) -> Iterator[Iterable[bytes]]:
    """The dialled strings in order, in batches as they come in: `-` stands for the lines of stdin."""
    for number in numbers:
        if number == "-":
            yield from lines(sys.stdin.buffer)
        else:
            yield (os.fsencode(number),)


def lines(stream: BinaryIO) -> Iterator[list[bytes]]:
    """Lines of a byte stream, those of one read at a time. LF ends a line and nothing else does."""
    read = getattr(stream, "read1", stream.read)
    rest = b""
    while chunk := read(CHUNK):
        *whole, last = chunk.split(b"\n")
        if whole:
            whole[0] = rest + whole[0]
            rest = b""
            yield whole
        rest = (rest + last)[:LONGEST]
    if rest:
        yield [rest]


def json_line(number: Number, verdict: DialVerdict) -> str:
    """One number as a JSON object on a line of its own."""
    return _dump(_fields(number, verdict)) + "\n"


def json_why(number: Number, verdict: DialVerdict, lang: words.Language) -> str:
    """The same with `why`: each line in words."""
    return _dump({**_fields(number, verdict), "why": dict(words.why(number, verdict, lang))}) + "\n"


def with_notes(rendered: str, notes: list[str]) -> str:
    """What was rendered, and what a live call would be held to besides: `notes` of a JSON object, else lines."""
    if not notes:
        return rendered
    if rendered.startswith("{"):
        return f'{rendered.rstrip()[:-1]}, "notes": {_dump(notes)}}}\n'
    return rendered + "".join(f"  note: {note}\n" for note in notes)


def _fields(number: Number, verdict: DialVerdict) -> dict[str, object]:
    return {
        "dialled": number.dialled,
        "canonical": number.canonical or None,
        "class": number.cls,
        "verdict": "allowed" if verdict.allowed else "blocked",
        "rule": verdict.rule or None,
        "code": verdict.code or None,
        "carrier_prefix": number.carrier_prefix,
        "steps": number.steps,
        "reason": verdict.reason,
    }


_dump = json.JSONEncoder(check_circular=False).encode


def _shown(dialled: str) -> str:
    """A dialled string with nothing in it that a terminal would obey."""
    shown = dialled if len(dialled) <= SHOWN else f"{dialled[:SHOWN]}..."
    if shown.isprintable():
        return shown
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in shown)


def readable_line(number: Number, verdict: DialVerdict) -> str:
    """One number as a line for a person."""
    if verdict.allowed:
        said = f"allowed{f' by {verdict.rule}' if verdict.rule else ''}"
    else:
        said = f"blocked by {verdict.rule}, {verdict.code}"
    canonical = f" = {number.canonical}" if number.canonical and number.canonical != number.dialled else ""
    steps = f" [{'; '.join(number.steps)}]" if number.steps else ""
    return f"{_shown(number.dialled)}{_shown(canonical)}: {said}: {verdict.reason} ({number.cls}){steps}\n"


def readable_why(number: Number, verdict: DialVerdict, lang: words.Language) -> str:
    """One number in several lines of words."""
    lines = [f"  {label}: {_shown(text)}\n" for label, text in words.why(number, verdict, lang)]
    return f"{_shown(number.dialled)}\n{''.join(lines)}"
