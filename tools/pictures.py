#!/usr/bin/env python3
"""Draws docs/images/top.svg and docs/images/key.svg from one real run: a gate with three keys under load, `callgate
top` looking at it, and a Prometheus (Debian's) that scrapes it with the config of deploy/.

.venv/bin/python tools/pictures.py [SECONDS]

key.svg shows what the queries of the dashboard `key` find, each panel's as a plain line; it is not Grafana's picture.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from html import escape
from io import StringIO
from pathlib import Path

from rich.console import Console

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

from tests.e2e.test_dashboards import Prometheus  # noqa: E402

from callgate.cli.top import view  # noqa: E402
from callgate.cli.top.link import Link  # noqa: E402
from callgate.cli.top.state import State  # noqa: E402
from callgate.sim.carrier import Carrier  # noqa: E402
from callgate.sim.gate import FIRST_WINDOW, GateProcess  # noqa: E402
from callgate.sim.meter import Contract  # noqa: E402
from callgate.sim.pbx import Pbx  # noqa: E402
from callgate.sim.plan import Arrival, Offer  # noqa: E402
from callgate.sim.wire import host_port  # noqa: E402
from callgate.store.socket_path import FILE  # noqa: E402
from dashboards import KEY, Panel  # noqa: E402

IMAGES = ROOT / "docs" / "images"
SIZE = (100, 30)
NUMBERS = {"acme": "+815012345678", "harbour": "+815012345679", "shop": "+815012345670"}
CALLED = ("0312345678", "0612345678", "09012345678", "+81312345678")
FORBIDDEN = ("0120123456", "0570012345", "00380312345678", "0990512345")
LIMITS = {
    "acme": "outbound_cps: 3\n      on_rate_exceeded: queue\n      queue_seconds: 1.5\n      inbound_calls: 8\n"
    "      forwarded_calls: 4\n      lines: 20\n      recordings: 4",
    "harbour": "outbound_cps: 2\n      inbound_calls: 10\n      recordings: 2",
    "shop": "outbound_cps: 1",
}
RATES = {"acme": 3.2, "harbour": 1.9, "shop": 0.4}
COLOURS = ("#3b82f6", "#f59e0b", "#10b981", "#ef4444", "#8b5cf6", "#64748b")
WIDE, HIGH = 320, 160


# -- the run ---------------------------------------------------------------------------------------------------


def offers(key: str, seconds: float) -> list[Offer]:
    """Evenly, in bursts of five now and then; every twelfth call is one that the contract forbids."""
    found = []
    for n in range(int(seconds * RATES[key])):
        forbidden = n % 12 == 5
        dialled = FORBIDDEN[n // 12 % len(FORBIDDEN)] if forbidden else CALLED[n % len(CALLED)]
        at = n / RATES[key] if n // 5 % 3 else n // 5 * 5 / RATES[key]
        found.append(Offer(at, dialled, forbidden, 4.0 + n % 7, None, recorded=n % 9 == 0))
    return sorted(found, key=lambda offer: offer.at)


async def run(seconds: float, folder: Path) -> None:
    carrier = Carrier(Contract(calls_per_second=1000, inbound_calls=1000), seed=1)
    pbxes = {key: Pbx(seed=n, number=number) for n, (key, number) in enumerate(NUMBERS.items())}
    carrier.start("127.0.0.10")
    for n, pbx in enumerate(pbxes.values()):
        pbx.start(f"127.0.0.{11 + n}")
    gate = GateProcess(
        folder, carrier=carrier.address, pbx=("127.0.0.1", 0), number="", contract=Contract(3, 8)
    )
    gate.config.write_text(config(gate, carrier, pbxes))
    gate.start()
    await gate.ready()
    prometheus = Prometheus(folder, "127.0.0.1", gate.ops)
    try:
        await asyncio.sleep(FIRST_WINDOW)
        for key, pbx in pbxes.items():
            pbx.offer(offers(key, seconds), gate.address)
        calls_in = [Arrival(n / 1.6, "0312345678", 5.0, None) for n in range(int(seconds * 1.6))]
        carrier.bring(calls_in, NUMBERS["acme"], gate.address)
        await asyncio.sleep(seconds * 0.8)
        link = Link(folder / "state" / FILE)
        await link.ask("keys.suspend", key="shop", reason="unpaid")
        await asyncio.sleep(seconds * 0.2 - 1)
        await picture_of_top(link)
        await asyncio.to_thread(picture_of_key, prometheus, seconds)
    finally:
        prometheus.close()
        for agent in (carrier, *pbxes.values()):
            agent.close()
        await gate.stop()


def config(gate: GateProcess, carrier: Carrier, pbxes: dict[str, Pbx]) -> str:
    keys = "".join(
        f'  {key}:\n    sources: ["{pbx.address[0]}/32"]\n    pbx: "sip:{host_port(pbx.address).decode()}"\n'
        f'    numbers: ["{NUMBERS[key]}"]\n    limits:\n      {LIMITS[key]}\n'
        for key, pbx in pbxes.items()
    )
    return (
        f'listen: ["udp://{host_port(gate.address).decode()}"]\nops: "http://{host_port(gate.ops).decode()}"\n'
        'state_dir: "./state"\ndrain_seconds: 1\ntrunks:\n  carrier:\n'
        f'    gateways: ["sip:{host_port(carrier.address).decode()}"]\n'
        f"    health: {{interval_seconds: 0}}\nkeys:\n{keys}"
    )


# -- callgate top ----------------------------------------------------------------------------------------------


async def picture_of_top(link: Link) -> None:
    paper = Console(
        width=SIZE[0],
        height=SIZE[1],
        record=True,
        file=StringIO(),
        force_terminal=True,
        color_system="truecolor",
    )
    state = State(focus="calls")
    for _ in range(2):  # the second time it is known how many rows each pane wants
        for name, height in view.heights(state, SIZE[1]).items():
            state.panes[name].height = height
        state.take(await link.ask("overview", **state.asks()))
    for name, height in view.heights(state, SIZE[1]).items():
        state.panes[name].height = height
    paper.print(view.draw(state, paper))
    drawn = paper.export_svg(title="callgate top")
    (IMAGES / "top.svg").write_text(re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL))


# -- the dashboard's data --------------------------------------------------------------------------------------

Line = tuple[str, list[tuple[float, float]]]


def picture_of_key(prometheus: Prometheus, seconds: float) -> None:
    end = time.time()
    panels = [(panel, found(prometheus, panel, end - seconds, end)) for panel in KEY]
    columns = 3
    rows = -(-len(panels) // columns)
    body = "".join(
        f'<g transform="translate({n % columns * WIDE},{n // columns * HIGH + 30})">{drawn(panel, lines)}</g>'
        for n, (panel, lines) in enumerate(panels)
    )
    title = f"The key “acme” for {seconds:.0f} s: what the queries of the dashboard “CallGate: key” find"
    (IMAGES / "key.svg").write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {columns * WIDE} {rows * HIGH + 46}" '
        f'font-family="sans-serif" font-size="11">\n<rect width="100%" height="100%" fill="#111827"/>\n'
        f'<text x="10" y="20" fill="#e5e7eb" font-size="14">{escape(title)}</text>\n{body}</svg>\n'
    )


def found(prometheus: Prometheus, panel: Panel, start: float, end: float) -> list[Line]:
    """Legend and points of every series that a panel's queries find."""
    lines: list[Line] = []
    for query, legend in panel[3]:
        text = query.replace("$__rate_interval", "10s").replace("$key", "acme")
        asked = urllib.parse.urlencode({"query": text, "start": start, "end": end, "step": 1})
        with urllib.request.urlopen(f"http://{prometheus.address}/api/v1/query_range?{asked}") as answer:
            for series in json.load(answer)["data"]["result"]:
                label = legend
                for name, value in series["metric"].items():
                    label = label.replace(f"{{{{{name}}}}}", value)
                points = [(at, float(value)) for at, value in series["values"] if value != "NaN"]
                lines.append((label.strip(), points))
    if len(lines) > 3:  # most rules refuse nothing
        lines = [line for line in lines if any(value for _, value in line[1])]
    return lines


def drawn(panel: Panel, lines: list[Line]) -> str:
    """A panel: its lines over time, from 0 to the highest value."""
    title, _, unit, _ = panel
    top = max([value for _, points in lines for _, value in points], default=0.0) or 1.0
    begin = min([points[0][0] for _, points in lines if points], default=0.0)
    width = max([points[-1][0] - begin for _, points in lines if points], default=0.0) or 1.0
    left, above, across, down = 34, 24, WIDE - 50, HIGH - 72
    out = [f'<text x="10" y="14" fill="#e5e7eb" font-size="12">{escape(title)}</text>']
    for share in (0, 1):
        y = above + down * (1 - share)
        out.append(f'<path d="M{left} {y}h{across}" stroke="#374151"/>')
        out.append(
            f'<text x="{left - 4}" y="{y + 4}" fill="#9ca3af" text-anchor="end">{top * share:.3g}</text>'
        )
    if not any(points for _, points in lines):
        out.append(f'<text x="{left + 8}" y="{above + down / 2}" fill="#9ca3af">nothing</text>')
    x, y = 10.0, above + down + 16
    for n, (label, points) in enumerate(lines):
        colour = COLOURS[n % len(COLOURS)]
        path = "".join(
            f"{'L' if i else 'M'}{left + (at - begin) / width * across:.1f} {above + down * (1 - value / top):.1f}"
            for i, (at, value) in enumerate(points)
        )
        out.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        name = f"{label}{f' ({unit})' if unit != 'none' else ''}"
        size = 6.5 * len(name) + 10
        if x + size > WIDE:
            x, y = 10.0, y + 13
        out.append(f'<text x="{x:.0f}" y="{y}" fill="{colour}">{escape(name)}</text>')
        x += size
    return "".join(out) + "\n"


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    with tempfile.TemporaryDirectory(prefix="callgate-pictures-") as folder:
        asyncio.run(run(seconds, Path(folder)))


if __name__ == "__main__":
    main()
