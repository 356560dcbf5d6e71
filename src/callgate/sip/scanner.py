"""The C scanner where it could be built, else nothing: `message.parse_slowly` reads everything."""

from __future__ import annotations

from typing import Any

__all__ = ["built", "scan"]


def _none(data: bytes, names: tuple[bytes, ...] = ()) -> tuple[Any, ...] | None:
    """Stands for the scanner: knows no message."""
    return None


try:
    from callgate.sip._scan import scan
except ImportError:  # no compiler at the installation
    scan = _none


def built() -> bool:
    """Whether the C scanner reads the plain messages."""
    return scan is not _none
