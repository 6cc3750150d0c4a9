"""Metrics, from their declarations, and the chart's alerts."""

from collections.abc import Iterable, Iterator

import yaml
from prometheus_client.metrics import MetricWrapperBase

from tools.reference import markdown, sources


def metrics() -> str:
    """Return the table of the metrics."""
    return markdown.table(("name", "type", "labels", "meaning"), sorted(_metrics()))


def alerts() -> str:
    """Return the table of the alerts."""
    return markdown.table(("alert", "severity", "after", "what to do"), _alerts())


def _metrics() -> Iterator[tuple[str, str, str, str]]:
    for value in vars(sources.METRICS).values():
        if isinstance(value, sources.METRICS.SnapshotGauge):
            yield f"`{value.name}`", "gauge", _labels(value.labels), value.documentation
        elif isinstance(value, MetricWrapperBase):
            family = next(iter(value.describe()))
            end = {"counter": "_total", "info": "_info"}.get(family.type, "")
            # the library keeps label names to itself
            labels = _labels(value._labelnames) or ("`version`, `python`" if end == "_info" else "")
            yield f"`{family.name}{end}`", family.type, labels, family.documentation


def _labels(labels: Iterable[str]) -> str:
    return ", ".join(f"`{label}`" for label in labels)


def _alerts() -> Iterator[tuple[str, str, str, str]]:
    (group,) = yaml.safe_load((sources.CHART / "files/alerts.yaml").read_text())["groups"]
    for rule in group["rules"]:
        text = f"{rule['annotations']['summary']}. {rule['annotations']['description']}"
        shown = text.replace("{{ $labels.", "<").replace(" }}", ">")
        yield (
            markdown.code(rule["alert"]),
            rule["labels"]["severity"],
            rule["for"],
            shown.replace("<", "&lt;").replace(">", "&gt;"),
        )
