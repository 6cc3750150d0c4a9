"""Writes docs/metrics.md from rbdcsi.telemetry.metrics; a test compares the two (`make docs`)."""

from collections.abc import Iterator
from pathlib import Path

from prometheus_client.metrics import MetricWrapperBase

from rbdcsi.telemetry import metrics

PAGE = Path(__file__).parents[1] / "docs/metrics.md"

_HEAD = """# Metrics

`rbdcsi serve --metrics-address :9808` shows these at `/metrics`, beside `process_*`. This page is
written by `make docs`.

What the controller counts in Ceph (`rbdcsi_attachments`, `rbdcsi_volumes…`, `rbdcsi_pool_…`) it
counts once a minute, and each replica shows it: take the `max` of them, not the `sum`. While a
cluster does not answer, these are absent rather than old.

| name | type | labels | meaning |
| --- | --- | --- | --- |
"""


def render() -> str:
    """Return the page's text."""
    return _HEAD + "".join(f"| {' | '.join(row)} |\n" for row in sorted(_rows()))


def _rows() -> Iterator[tuple[str, str, str, str]]:
    for value in vars(metrics).values():
        if isinstance(value, metrics.SnapshotGauge):
            yield f"`{value.name}`", "gauge", _words(value.labels), value.documentation
        elif isinstance(value, MetricWrapperBase):
            family = next(iter(value.describe()))
            end = {"counter": "_total", "info": "_info"}.get(family.type, "")
            # the library keeps label names to itself
            labels = _words(value._labelnames) or ("`version`, `python`" if end == "_info" else "")
            yield f"`{family.name}{end}`", family.type, labels, family.documentation


def _words(labels: tuple[str, ...]) -> str:
    return ", ".join(f"`{label}`" for label in labels)


if __name__ == "__main__":
    PAGE.write_text(render())
