"""Runs csi-sanity against a driver that listens on its sockets, and counts what it did."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from e2e import errors, ginkgo
from e2e.sanity import build

_GRACE = 60  # seconds for the tests under way to stop and to clean up, once their time is over


def run(
    controller_socket: Path,
    node_socket: Path,
    workdir: Path,
    parameters: Mapping[str, str],
    flags: Sequence[str] = (),
    timeout: float = 1800,
) -> ginkgo.Result:
    """Run every test and return the numbers; failed tests are a result, not an error.

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
    return ginkgo.read("csi-sanity", report, log)


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
