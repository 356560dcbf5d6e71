"""Where the control socket is: for the gate, which binds it, and for the commands, which need nothing else of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

FILE: Final = "control.sock"
PATH_MAX: Final = 100


@contextmanager
def address(path: Path) -> Iterator[str]:
    """What to bind or connect for a socket's path: the kernel takes 107 bytes, and a folder may be deeper than that."""
    if len(os.fsencode(path)) <= PATH_MAX:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
