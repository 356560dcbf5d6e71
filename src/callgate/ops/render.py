"""The metrics page, written by the Prometheus client library from the gate's shared memory."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterable, Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder, gzip_accepted
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from callgate.ops.view import Labels, View
from callgate.proxy.meters import METRICS, PREFIX, Metric


class GateCollector(Collector):
    """Every metric of `METRICS`, also those without a series yet, so that a page always explains itself."""

    def __init__(self, view: View) -> None:
        self._view = view

    def collect(self) -> Iterable[Family]:
        """One family per metric."""
        self._view.refresh()
        values = self._view.values
        for name, series in self._view.series():
            metric = METRICS[name]
            # The library wants a counter's name without `_total`, and puts it back itself.
            family = Family(PREFIX + name.removesuffix("_total"), metric.help, metric.kind)
            if metric.kind == "histogram":
                for labels, at in series:
                    family.samples.extend(_histogram(PREFIX + name, metric, labels, values, at))
            else:
                full = PREFIX + name
                for labels, at in series:
                    value = values[at]
                    if value == value:  # not ABSENT, which is NaN
                        family.samples.append(Sample(full, labels, value))
            yield family


def _histogram(
    name: str, metric: Metric, labels: Labels, values: memoryview[float], at: int
) -> Iterator[Sample]:
    """The gate keeps each bucket's own count; on the page they add up."""
    size = len(metric.buckets) + 1
    counts = list(accumulate(values[at : at + size]))
    for bound, count in zip((*map(str, metric.buckets), "+Inf"), counts, strict=True):
        yield Sample(f"{name}_bucket", {**labels, "le": bound}, count)
    yield Sample(f"{name}_count", labels, counts[-1])
    yield Sample(f"{name}_sum", labels, values[at + size])


class Page:
    """Renders /metrics; one at a time, since two at once would only share one processor."""

    def __init__(self, view: View, gate_pid: int) -> None:
        self._lock = threading.Lock()
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(GateCollector(view))
        # CPU, memory and open files of the gate, read from /proc by this process.
        ProcessCollector(namespace=PREFIX.rstrip("_"), pid=lambda: gate_pid, registry=self._registry)

    def render(self, accept: str, accept_encoding: str) -> tuple[bytes, dict[str, str]]:
        """The page and its headers, in the format and compression that the reader's headers ask for."""
        encoder, content_type = choose_encoder(accept)
        with self._lock:
            body = encoder(self._registry)
        headers = {"Content-Type": content_type, "Vary": "Accept, Accept-Encoding"}
        if gzip_accepted(accept_encoding):
            body = gzip.compress(body, 1)
            headers["Content-Encoding"] = "gzip"
        return body, headers
