"""A file of telephone numbers, one a line: who has agreed to be called (T14).

# a remark
+819012345678
090-1234-5678
+8150123456{00-99}
"""

from __future__ import annotations

import re
from pathlib import Path

from callgate.config.values import Numbers
from callgate.policy.numberset import NumberSet

MAX_BYTES = 256 * 1024 * 1024
USUAL = re.compile(rb"\+(?:81[1-9][0-9]{8,9}|(?!81)[1-9][0-9]{6,14})\r?")
FAULTS = 5
"""So many bad lines are named; more of them are one fault of another kind."""


class BadNumbers(ValueError):
    """The text says what is wrong, with the lines."""


def read_numbers(path: Path) -> NumberSet:
    """The numbers of a file. Raises `BadNumbers`."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise BadNumbers(f"larger than {MAX_BYTES >> 20} MB")
        data = path.read_bytes()
    except OSError as error:
        raise BadNumbers(f"can't be read: {error.strerror or error}") from None
    ranges: list[tuple[int, int]] = []
    faults: list[str] = []
    usual = USUAL.fullmatch
    for at, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if usual(line):  # read quickly: there may be a million of them
            number = int(line)
            ranges.append((number, number))
            continue
        text = line.partition(b"#")[0].strip()
        if not text:
            continue
        try:
            numbers = Numbers.parse(text.decode())
        except ValueError as error:  # bytes that are no UTF-8 too
            why = "not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
            faults.append(f"line {at}: {why}")
            if len(faults) >= FAULTS:
                break
            continue
        ranges.append((int(numbers.first), int(numbers.last)))
    if faults:
        raise BadNumbers("; ".join(faults))
    return NumberSet(ranges)
