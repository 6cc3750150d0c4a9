"""Runs csi-sanity against a driver that listens on its sockets, and counts what it did."""

import json
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from e2e.sanity import build
from rbdcsi import errors

_SKIPPED = {"skipped", "pending"}
_HARMLESS = {"passed", *_SKIPPED}
_GRACE = 60  # seconds for the tests under way to stop and to clean up, once their time is over


@dataclass(frozen=True)
class Result:
    """What csi-sanity found: numbers of test cases, the names of those that failed, its output.

    `skips` has the reason of each skip; one that csi-sanity itself has put aside is "pending".
    """

    ran: int
    passed: int
    failed: int
    skips: tuple[str, ...]
    failures: tuple[str, ...]
    output: str

    def __str__(self) -> str:
        counts = (
            f"{self.ran} ran, {self.passed} passed, {self.failed} failed, {len(self.skips)} skipped"
        )
        return "\n  failed: ".join([f"csi-sanity: {counts}", *self.failures])


def run(
    controller_socket: Path,
    node_socket: Path,
    workdir: Path,
    parameters: Mapping[str, str],
    flags: Sequence[str] = (),
    timeout: float = 1800,
) -> Result:
    """Run every test, print the numbers and return them; failed tests are a result, not an error.

    The node must tell a small limit of volumes: one test attaches that many, and one more.

    Args:
        controller_socket: where the identity and controller services listen.
        node_socket: where the identity and node services listen.
        workdir: an existing directory of its own; report, output and mount points go there.
        parameters: of the volumes, as a StorageClass has them.
        flags: more arguments for csi-sanity, such as `-csi.testvolumesize=1073741824`.
        timeout: seconds for the whole run.

    Raises:
        DeadlineExceeded: it had to be killed; mounts of the tests may be left behind.
        Failed: it ended without having written its report.
    """
    wanted = workdir / "parameters.yaml"
    wanted.write_text(yaml.safe_dump(dict(parameters)))
    report, log = workdir / "report.json", workdir / "output.txt"
    report.unlink(missing_ok=True)
    arguments = [
        f"-csi.endpoint=unix:{node_socket}",
        f"-csi.controllerendpoint=unix:{controller_socket}",
        f"-csi.mountdir={workdir / 'mount'}",
        f"-csi.stagingdir={workdir / 'staging'}",
        f"-csi.testvolumeparameters={wanted}",
        "-csi.testnodevolumeattachlimit",
        f"-ginkgo.json-report={report}",
        f"-ginkgo.timeout={timeout:g}s",
        "-ginkgo.no-color",
        *flags,
    ]
    _run([build.build(), *arguments], log, timeout + _GRACE)
    result = _read(report, log)
    print(result)
    return result


def _run(argv: Sequence[str | Path], log: Path, timeout: float) -> None:
    with log.open("w") as output:
        try:
            subprocess.run(
                argv, stdout=output, stderr=subprocess.STDOUT, timeout=timeout, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise errors.DeadlineExceeded(
                f"csi-sanity did not end within {timeout:g} s and was killed: see {log}, "
                "and unmount what is left below its directory"
            ) from error


def _read(report: Path, log: Path) -> Result:
    output = log.read_text()
    if not report.exists():
        raise errors.Failed(f"csi-sanity ended without a report; {log} begins: {output[:500]}")
    cases = list(_cases(json.loads(report.read_text())))
    states = Counter(case["State"] for case in cases)
    skips = tuple(_reason(case) for case in cases if case["State"] in _SKIPPED)
    failed = len(cases) - states["passed"] - len(skips)  # panicked, timedout, interrupted, too
    names = tuple(_name(case) for case in cases if case["State"] not in _HARMLESS)
    return Result(states["passed"] + failed, states["passed"], failed, skips, names, output)


def _cases(report: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the test cases, and the set-up and clean-up steps around them when they failed."""
    for suite in report:
        for each in suite["SpecReports"]:
            if each["LeafNodeType"] == "It" or each["State"] not in _HARMLESS:
                yield each


def _reason(case: dict[str, Any]) -> str:
    return str(case.get("Failure", {}).get("Message") or case["State"])


def _name(case: dict[str, Any]) -> str:
    return " / ".join([*(case["ContainerHierarchyTexts"] or []), case["LeafNodeText"]])
