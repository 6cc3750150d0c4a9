"""A StatefulSet whose Pod writes numbered lines, and reports each one that is durable.

The reports are the Pod's log. They are followed from outside, so they outlive the Pod's machine. A
Pod that finds lines goes on after the last one.
"""

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from e2e import processes
from e2e.kubernetes import chart, workload

_FILE = f"""\
append() {{ echo "$1 $2" >>{workload.MOUNT}/lines; sync {workload.MOUNT}/lines; }}
all() {{ cat {workload.MOUNT}/lines 2>/dev/null || true; }}
"""
# Line n is in sector n.
_SECTORS = f"""\
append() {{
    printf '%-511s\\n' "$1 $2" |
        dd of={workload.DEVICE} bs=512 seek="$1" oflag=direct,dsync conv=notrunc status=none
}}
all() {{ tr -d '\\0' <{workload.DEVICE}; }}
"""
_WRITE = """\
last=$(all | tail -n 1)
number=${last%% *}
while :; do
    number=$((number + 1))
    append "$number" "$NODE"
    echo "durable $number $NODE"
    sleep 0.1 # lines shall not keep an emulated machine from everything else
done
"""
# Until the container runs, --follow returns at once, and with success.
_FOLLOW = 'until "$@" 2>/dev/null | grep -q durable; do sleep 0.5; done; exec "$@" --follow'
_REPORT = re.compile(r"^durable (\d+) (\S+)\n", re.MULTILINE)


class Line(NamedTuple):
    """A line: its number, from 1, and the node that it was written at."""

    number: int
    node: str


class Writer:
    """A StatefulSet of one Pod and one volume.

    Attributes:
        pod: the Pod's name.
        claim: the claim's name.
    """

    def __init__(
        self,
        namespace: workload.Namespace,
        directory: Path,
        name: str,
        *,
        storage_class: str = chart.CLASS,
        block: bool = False,
    ) -> None:
        """Describe it.

        Args:
            namespace: for its objects.
            directory: for the reports.
            name: the StatefulSet's.
            storage_class: of its volume.
            block: whether it writes to a raw volume.
        """
        self.name = name
        self.pod, self.claim = f"{name}-0", f"data-{name}-0"
        self._namespace = namespace
        self._directory = directory
        self._block = block
        self._claim = workload.claim_spec(size="32Mi", storage_class=storage_class, block=block)
        self._script = f"set -e\n{_SECTORS if block else _FILE}"
        self._followers: list[subprocess.Popen[bytes]] = []

    def start(self, node: str) -> None:
        """Make it: its Pod runs at that node as long as it can, otherwise elsewhere."""
        command = ["sh", "-c", self._script + _WRITE]
        where = {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}
        container = {
            **workload.container(command, self.claim, block=self._block),
            "env": [where],
        }
        self._namespace.apply(
            workload.stateful_set(self.name, container, self._claim, prefers=node)
        )

    def follow(self) -> None:
        """Follow the reports of the Pod that there is now, or of the next one, from its start."""
        kubernetes = self._namespace.kubernetes
        words = ("logs", "--namespace", self._namespace.name, self.pod)
        logs = (kubernetes.program, f"--kubeconfig={kubernetes.kubeconfig}", *words)
        file = self._directory / f"{self.name}-{len(self._followers)}.log"
        self._followers.append(processes.start(["sh", "-c", _FOLLOW, "sh", *logs], file))

    def stop_following(self) -> None:
        """End what `follow` started."""
        for follower in self._followers:
            follower.kill()
            follower.wait()

    def reports(self) -> Sequence[Line]:
        """Return the lines that were reported as durable."""
        files = self._directory.glob(f"{self.name}-*.log")
        found = [_REPORT.findall(file.read_text(errors="replace")) for file in files]
        return sorted(Line(int(number), node) for each in found for number, node in each)

    def lines(self) -> Sequence[Line]:
        """Return the lines that the Pod reads now."""
        text = self._namespace.run(self.pod, f"{self._script}all")
        return [Line(int(number), node) for number, node in map(str.split, text.splitlines())]
