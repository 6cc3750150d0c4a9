"""Runs Kubernetes' own external-storage suite against the driver that a Kubernetes has."""

import contextlib
import subprocess
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from e2e import ginkgo, processes
from e2e.kubernetes import build
from e2e.kubernetes.client import Kubernetes

TESTDRIVER = Path(__file__).with_name("testdriver.yaml")

_GRACE = 120  # seconds for the specs under way to clean up, once their time is over
_ALL = "External.Storage"
# Left out everywhere, with the reason.
IMPOSSIBLE = {
    "with any volume data source": "volume populators: their images come from a registry only",
    # 16 MiB is the smallest volume with ext4, and the provisioner refuses to restore it to less.
    "volumegroupsnapshottable": "it restores 16 MiB into claims of 1 MiB; see test_groups.py",
}


@dataclass(frozen=True)
class Selection:
    """Which specs: regular expressions over their full names."""

    focus: str
    skip: Sequence[str]


# To the driver each is the double of one that stays: kubelet or sidecar alone do it otherwise.
_DOUBLES = (
    r"\(ext4\)",  # which is the default filesystem
    r"\(immediate-binding\)\] ephemeral",  # the same with late binding stays
    r"fsgroupchangepolicy \(Always\)",  # the kubelet changes owners: OnRootMismatch stays
    "fsgroupchangepolicy .*(?:initial fsgroup, new pod|same fsgroup)",
    # One subPath for reading and one that is taken away stay: the kubelet binds them.
    "subPath should support (?:existing (?:directory|single)|file|non-existent|readOnly)",
)
_LONG = (r"\[Slow\]", r"\[Serial\]", r"\[Disruptive\]")
_LEFT_OUT = (*_LONG, r"\[Feature:", *_DOUBLES)
# What follows a spec's pattern is the name of its part of the suite.
_DATA = r"\[Testpattern: [^]]*\] (?:volumes|provisioning|ephemeral)"
_PATHS = r"\[Testpattern: [^]]*\] (?:subPath|fsgroupchangepolicy)"
_GROWTH = r"\[Testpattern: [^]]*\] volume-expand"
# What changes have to pass: each spec is in one of these, which take some minutes each.
CHOSEN = {
    "data": Selection(f"{_ALL}.*{_DATA}", _LEFT_OUT),
    "paths": Selection(f"{_ALL}.*{_PATHS}", _LEFT_OUT),
    "snapshots": Selection(rf"{_ALL}.*\[Feature:VolumeSnapshotDataSource\]", (*_LONG, *_DOUBLES)),
    "growth": Selection(f"{_ALL}.*{_GROWTH}", _LEFT_OUT),
    "rest": Selection(_ALL, (*_LEFT_OUT, _DATA, _PATHS, _GROWTH)),
}
_STOPS_KUBELETS = r"\[Disruptive\]"
# To be run by one process: any other spec would miss the kubelet.
DISRUPTIVE = Selection(f"{_ALL}.*{_STOPS_KUBELETS}", ())
EVERYTHING_ELSE = Selection(_ALL, (_STOPS_KUBELETS,))


def run(
    kubernetes: Kubernetes,
    directory: Path,
    selection: Selection,
    *,
    processes: int = 4,
    login_key: Path | None = None,
    timeout: float = 1800,
) -> ginkgo.Result:
    """Run the selected specs, print the numbers and return them; a failed one is a result.

    Args:
        kubernetes: with the driver installed, and its StorageClass.
        directory: exists; for report and output.
        selection: which specs.
        processes: of ginkgo; specs mostly wait for Pods.
        login_key: with which it may log in to nodes as root; without it skips what needs that.
        timeout: seconds, then the specs under way are ended, and the rest is not run.

    Raises:
        Failed: it ended, or had to be ended, without having written its report.
    """
    report, log = directory / "report.json", directory / "output.txt"
    report.unlink(missing_ok=True)
    skip = "|".join([*selection.skip, *IMPOSSIBLE])
    argv: list[str | Path] = [
        build.build("ginkgo"),
        f"--procs={processes}",
        f"--timeout={timeout:g}s",
        f"--focus={selection.focus}",
        f"--skip={skip}",
        f"--output-dir={directory}",
        f"--json-report={report.name}",
        "--no-color",
        "-v",  # each spec's name as it ends: what a run that is cut off has shown
        "--silence-skips",
        build.build("e2e.test"),
        "--",
        f"--kubeconfig={kubernetes.kubeconfig}",
        f"--kubectl-path={kubernetes.program}",
        f"--storage.testdriver={TESTDRIVER}",
        "--provider=local",
        "--node-os-distro=debian",
    ]
    environment = [f"TMPDIR={directory}"]  # the suite leaves kubeconfigs there
    if login_key:
        environment += ["KUBE_SSH_USER=root", f"LOCAL_SSH_KEY={login_key}"]
    _run(["env", *environment, *argv], log, timeout + _GRACE)
    result = ginkgo.read("external-storage suite", report, log)
    print(result)
    for reason, count in Counter(result.skips).most_common():
        print(f"  skipped {count}: {reason}")
    return result


def _run(argv: Sequence[str | Path], log: Path, seconds: float) -> None:
    """Run ginkgo to its end; none of its processes goes on after this one, whatever ends it."""
    isolated = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
    spawner = processes.Spawner("ginkgo")
    child = spawner.spawn([*isolated, *argv], log)
    try:
        with contextlib.suppress(subprocess.TimeoutExpired):  # it then has no report
            child.wait(seconds)
    finally:
        spawner.close()
        child.wait()
