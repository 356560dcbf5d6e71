#!/usr/bin/env python3
"""Draws docs/images/demo.svg: the demo's live view as it was in the last second of its load, of a real run.

.venv/bin/python tools/demo_picture.py [SECONDS]
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from rich.console import Console, RenderableType

from callgate.cli import demo
from callgate.sim import view
from callgate.sim.board import Board

PICTURE = Path(__file__).parent.parent / "docs" / "images" / "demo.svg"


def main() -> int:
    """Run the demo, keep the last frame of the overload, export it."""
    frames: list[RenderableType] = []
    draw = view.live

    def keep(board: Board) -> RenderableType:
        frame = draw(board)
        if board.phase == "overload":
            frames.append(frame)
        return frame

    view.live = keep
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 15.0
    code = demo.run(seconds, gated=True, console=Console(width=80, force_terminal=True))
    paper = Console(width=80, record=True, force_terminal=True, color_system="truecolor")
    paper.print(frames[-1])
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    drawn = paper.export_svg(title="callgate demo")
    PICTURE.write_text(
        re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL)
    )  # no fonts from elsewhere
    return code


if __name__ == "__main__":
    sys.exit(main())
