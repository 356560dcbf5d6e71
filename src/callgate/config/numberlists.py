"""Lists of numbers: those written in the config, and the files that they name.

A file holds one entry a line, as a list in the config does; `# ` begins a comment. A million lines take a few seconds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import BinaryIO

from callgate.config.faults import Fault
from callgate.policy.numberlist import MANY_SHARDS, EntryError, NumberList, Table

FILE = "file:"
MOST_FAULTS = 20
"""Faults of one file that are named one by one."""
MOST_BYTES = 512 * 1024 * 1024
CHUNK = 65_536
FEW = 1_000_000
"""Bytes up to which a file is small: its table needs no shards."""

Rest = Callable[[], None]
"""Called between two pieces of a long file, so that a gate at work gets its turn."""


class ListFiles:
    """The files of one load, each read once, however many lists name it. `known` are those of the load before: what has
    not changed since is taken from there."""

    def __init__(self, rest: Rest | None = None, known: Mapping[Path, Table] | None = None) -> None:
        self.tables: dict[Path, Table] = {}
        self._rest = rest
        self._known = known or {}

    def read(self, path: Path, faults: list[Fault]) -> Table:
        """The table of a file. What is wrong with it goes to `faults`, with its line."""
        path = path.absolute()
        table = self.tables.get(path)
        if table is None:
            table = self.tables[path] = self._read(path, faults)
        return table

    def drop(self) -> None:
        """Nobody wants them: let go of what was read for this load, a little at a time."""
        for path, table in self.tables.items():
            if table is not self._known.get(path):
                for _ in table.retire():
                    if self._rest is not None:
                        self._rest()

    def _read(self, path: Path, faults: list[Fault]) -> Table:
        try:
            size = path.stat().st_size
            if size > MOST_BYTES:
                faults.append(
                    Fault(str(path), None, "", f"larger than {MOST_BYTES >> 20} MB; this can't be a list")
                )
                return Table()
            with path.open("rb") as stream:
                known = self._known.get(path)
                if known is not None and known.mark == hashlib.file_digest(stream, "sha256").hexdigest():
                    return known
                stream.seek(0)
                return self._lines(path, stream, Table(MANY_SHARDS if size > FEW else 1), faults)
        except IsADirectoryError:
            text = "is a directory; name the file in it"
        except OSError as error:
            text = f"can't be read: {error.strerror or error}"
        faults.append(Fault(str(path), None, "", text))
        return Table()

    def _lines(self, path: Path, stream: BinaryIO, table: Table, faults: list[Fault]) -> Table:
        add, add_digits = table.add, table.add_digits
        number, wrong = 0, 0
        digest = hashlib.sha256()
        while lines := stream.readlines(CHUNK):
            digest.update(b"".join(lines))
            for raw in lines:
                number += 1
                try:
                    line = raw.decode("utf-8-sig" if number == 1 else "utf-8").strip()
                    if line.removeprefix("+").isdigit() and line.isascii() and len(line) <= 32:
                        table.count += 1
                        add_digits(line)
                    elif entry := _without_comment(line):
                        add(entry)
                except (EntryError, UnicodeDecodeError) as error:
                    text = str(error) if isinstance(error, EntryError) else "not UTF-8 text"
                    wrong += 1
                    if wrong <= MOST_FAULTS:
                        faults.append(Fault(str(path), number, "", text))
            if self._rest is not None:
                self._rest()
        table.mark = digest.hexdigest()
        if wrong > MOST_FAULTS:
            faults.append(Fault(str(path), None, "", f"{wrong - MOST_FAULTS} more lines that can't be read"))
        return table


def _without_comment(line: str) -> str:
    """A line up to its comment: `#` alone, or with a space behind it. `#7119` is a number."""
    if line[:1] == "#" and line[1:2] in ("", " ", "#", "\t", "-", "="):
        return ""
    return line.partition(" #")[0].partition("\t#")[0].strip()


def number_list(
    entries: Iterable[str],
    base: Path,
    files: ListFiles,
    faults: list[Fault],
    wrong: Callable[[int, str], None],
) -> NumberList:
    """The list that `entries` are: `file:PATH` (relative to `base`) stands for the entries of a file.

    `wrong` takes (which entry, what is wrong with it).
    """
    inline, tables = Table(), []
    written = []
    for n, entry in enumerate(entries):
        if entry.startswith(FILE):
            name = entry.removeprefix(FILE).strip()
            if not name:
                wrong(n, "`file:` and the path of a file, such as file:blocked.txt")
                continue
            path = base / name
            if not path.exists():
                wrong(n, f"there is no file `{path}`")
                continue
            tables.append(files.read(path, faults))
            continue
        written.append(entry)
        try:
            inline.add(entry)
        except EntryError as error:
            wrong(n, str(error))
    inline.mark = "\n".join(written)
    return NumberList(inline, *tables)
