"""The metrics page, from the gate's shared memory, in the formats of the Prometheus client library."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder, gzip_accepted
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString

from callgate.ops.view import Labels, View
from callgate.proxy.meters import METRICS, PREFIX, Metric


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


def _before(name: str, labels: Labels) -> str:
    """What stands before a value on its line."""
    if not labels:
        return f"{name} "
    found = ",".join([f'{label}="{_escaped(labels[label])}"' for label in sorted(labels)])
    return f"{name}{{{found}}} "


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


_number: Callable[[float], str] = floatToGoString


class _Head(Collector):
    """A metric without samples: what the library writes above them."""

    def __init__(self, name: str, metric: Metric) -> None:
        # The library wants a counter's name without `_total`, and puts it back itself.
        self._family = Family(PREFIX + name.removesuffix("_total"), metric.help, metric.kind)

    def collect(self) -> Iterable[Family]:
        yield self._family


class Page:
    """Renders /metrics, every metric of `METRICS`, also those without a series yet, so that a page always explains
    itself; one page at a time, since two at once would only share one processor.

    The lines of samples are written here, with what stands before each value made once: by the library a page of 2,000
    keys takes three seconds. All else is the library's, and a test compares.
    """

    def __init__(self, view: View, gate_pid: int) -> None:
        self._lock = threading.Lock()
        self._view = view
        self._befores: dict[str, list[str]] = {name: [] for name in METRICS}
        self._heads: dict[str, dict[str, str]] = {}  # by content type
        self._registry = CollectorRegistry(auto_describe=False)
        # CPU, memory and open files of the gate, read from /proc by this process.
        ProcessCollector(namespace=PREFIX.rstrip("_"), pid=lambda: gate_pid, registry=self._registry)

    def render(self, accept: str, accept_encoding: str) -> tuple[bytes, dict[str, str]]:
        """The page and its headers, in the format and compression that the reader's headers ask for."""
        encoder, content_type = choose_encoder(accept)
        with self._lock:
            heads = self._heads.get(content_type)
            if heads is None:
                heads = {name: _head(encoder, name, metric) for name, metric in METRICS.items()}
                self._heads[content_type] = heads
            # The library's end comes last.
            body = "".join(self._lines(heads)).encode() + encoder(self._registry)
        headers = {"Content-Type": content_type, "Vary": "Accept, Accept-Encoding"}
        if gzip_accepted(accept_encoding):
            body = gzip.compress(body, 1)
            headers["Content-Encoding"] = "gzip"
        return body, headers

    def _lines(self, heads: Mapping[str, str]) -> Iterator[str]:
        self._view.refresh()
        values = self._view.values
        for name, series in self._view.series():
            yield heads[name]
            metric = METRICS[name]
            if metric.kind == "histogram":
                for labels, at in series:
                    for sample in _histogram(PREFIX + name, metric, labels, values, at):
                        yield f"{_before(sample.name, sample.labels)}{_number(sample.value)}\n"
                continue
            befores = self._befores[name]
            befores += [_before(PREFIX + name, labels) for labels, _ in series[len(befores) :]]
            for before, (_, at) in zip(befores, series, strict=False):  # a series may have come since
                value = values[at]
                if value == 0.0:
                    yield f"{before}0.0\n"
                elif value == value:  # not ABSENT, which is NaN
                    yield f"{before}{_number(value)}\n"


def _head(encoder: Callable[[Collector], bytes], name: str, metric: Metric) -> str:
    return encoder(_Head(name, metric)).decode().removesuffix("# EOF\n")
