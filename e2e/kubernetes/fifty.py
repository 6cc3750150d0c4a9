"""Fifty claims and Pods at once: how long each call of the driver took, beside Pods without one."""

import json
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from e2e import golang
from e2e.kubernetes import chart, workload
from e2e.kubernetes.client import Kubernetes

COUNT = 50
STEPS = {
    "create": "CreateVolume",
    "attach": "ControllerPublishVolume",
    "stage": "NodeStageVolume",
    "publish": "NodePublishVolume",
}
_PICTURE = golang.ROOT / "build/fifty.svg"
_SECONDS = 900
_LOG_LINES = "5000"
_ROW, _LEFT, _WIDTH = 24, 130, 480  # pixels


@dataclass(frozen=True)
class Figures:
    """Seconds: of each call of the driver by step, and from the first Pod made to all running."""

    calls: Mapping[str, Sequence[float]]
    with_volumes: float
    without: float

    def __str__(self) -> str:
        lines = [
            f"{step:8} {len(found):3} calls  p50 {_quantile(found, 50):6.2f} s  "
            f"p95 {_quantile(found, 95):6.2f} s"
            for step, found in self.calls.items()
        ]
        return "\n".join(
            [
                *lines,
                f"{COUNT} Pods with a volume each run after {self.with_volumes:.0f} s",
                f"{COUNT} Pods without after {self.without:.0f} s",
            ]
        )


def measure(kubernetes: Kubernetes) -> Figures:
    """Make the claims and Pods, wait until all run, and read the driver's logs.

    Raises:
        DeadlineExceeded: not all of them run.
    """
    with workload.namespace(kubernetes) as empty:
        without = _time(empty, [""] * COUNT)
    with workload.namespace(kubernetes) as full:
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        names = [f"data-{number}" for number in range(COUNT)]
        full.apply(*(workload.claim(name) for name in names))
        with_volumes = _time(full, names)
        calls = _calls(kubernetes, since)
    return Figures(calls, with_volumes, without)


def draw(figures: Figures) -> Path:
    """Write the picture of the figures into this tree's build directory, and return the file."""
    _PICTURE.parent.mkdir(exist_ok=True)
    _PICTURE.write_text(_svg(figures))
    return _PICTURE


def _svg(figures: Figures) -> str:
    """Return a bar to the median and a line to the 95th percentile for each step."""
    longest = max(_quantile(found, 95) for found in figures.calls.values())
    scale = _WIDTH / longest
    rows = "\n".join(
        _svg_row(step, found, at * _ROW, scale)
        for at, (step, found) in enumerate(figures.calls.items())
    )
    height = (len(figures.calls) + 2) * _ROW
    note = (
        f"{COUNT} Pods at once: all run after {figures.with_volumes:.0f} s with a volume each, "
        f"after {figures.without:.0f} s without"
    )
    width = _LEFT + _WIDTH + 170
    return f"""<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"
 font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="white"/>
{rows}
<text x="4" y="{height - 10}">{escape(note)}</text>
</svg>
"""


def _time(namespace: workload.Namespace, volumes: Sequence[str]) -> float:
    """Make a Pod for each volume, at once; return the seconds until all run."""
    begin = time.monotonic()
    pods = {f"pod-{number}": volume for number, volume in enumerate(volumes)}
    namespace.apply(*(workload.pod(name, volume) for name, volume in pods.items()))

    def all_run() -> bool:
        found = namespace.kubernetes.list("pods", namespace.name)
        running = [pod for pod in found if pod["status"].get("phase") == "Running"]
        return len(running) == COUNT

    namespace.kubernetes.wait(all_run, f"{COUNT} Pods run", _SECONDS)
    return time.monotonic() - begin


def _calls(kubernetes: Kubernetes, since: str) -> Mapping[str, Sequence[float]]:
    """Return the seconds of each successful call since then, by step."""
    lines = list(_log_lines(kubernetes, since))
    return {
        step: [
            line["seconds"]
            for line in lines
            if line.get("method") == method and line.get("code") == "OK"
        ]
        for step, method in STEPS.items()
    }


def _log_lines(kubernetes: Kubernetes, since: str) -> Iterator[Mapping[str, Any]]:
    for pod in kubernetes.list("pods", chart.NAMESPACE):
        words = ("logs", "-n", chart.NAMESPACE, pod["metadata"]["name"], "-c", "driver")
        limits = (f"--since-time={since}", f"--tail={_LOG_LINES}")
        for line in kubernetes.kubectl(*words, *limits).splitlines():
            if line.startswith("{"):
                yield json.loads(line)


def _svg_row(step: str, found: Sequence[float], top: int, scale: float) -> str:
    middle, most = _quantile(found, 50), _quantile(found, 95)
    y = top + _ROW // 2
    return (
        f'<text x="4" y="{y + 4}">{step}, {len(found)} calls</text>\n'
        f'<rect x="{_LEFT}" y="{top + 4}" width="{middle * scale:.0f}" height="{_ROW - 8}" '
        'fill="#4a7fb5"/>\n'
        f'<line x1="{_LEFT}" x2="{_LEFT + most * scale:.0f}" y1="{y}" y2="{y}" stroke="black"/>\n'
        f'<text x="{_LEFT + most * scale + 6:.0f}" y="{y + 4}">p50 {middle:.2f} s, '
        f"p95 {most:.2f} s</text>"
    )


def _quantile(found: Sequence[float], percent: int) -> float:
    return statistics.quantiles(found, n=100, method="inclusive")[percent - 1]
