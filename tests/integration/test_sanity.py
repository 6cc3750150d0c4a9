"""csi-sanity, the public conformance test of CSI, against a controller and a node on real Ceph."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from e2e import driver
from e2e.clusters import Cluster
from e2e.driver import Driver
from e2e.sanity import run

SECONDS = 900
LIMIT = 4  # volumes a node: one test attaches that many, and one more

# What this version does not claim to do, as csi-sanity's reasons for a skip name it.
NOT_CLAIMED = ("Modify", "Health", "SNAPSHOT_ACCESSIBILITY")

pytestmark = [pytest.mark.usefixtures("nothing_left"), pytest.mark.timeout(SECONDS + 120)]


@pytest.fixture
def workdir(temporary: Path) -> Iterator[Path]:
    """Give a directory of csi-sanity's own, which the node takes for the kubelet's."""
    with tempfile.TemporaryDirectory(prefix="s", dir=temporary) as directory:
        yield Path(directory)


@pytest.fixture
def node(installation: driver.Installation, workdir: Path) -> Iterator[Driver]:
    """Give a node with a small limit that mounts below csi-sanity's directory."""
    flags = ("--max-volumes", str(LIMIT), "--kubelet-dir", str(workdir))
    node = installation.node("node-s", *flags).start()
    yield node
    node.stop()


def test_csi_sanity_finds_no_failure_and_skips_what_is_not_claimed(
    cluster: Cluster,
    pool: str,
    controller: Driver,
    node: Driver,
    workdir: Path,
    figures: Callable[[str], None],
) -> None:
    cluster.wait_until_counted(pool)  # it asks for the capacity
    parameters, flags = {"clusterID": driver.CLUSTER_ID}, ["-csi.testvolumesize=67108864"]
    result = run.run(controller.socket, node.socket, workdir, parameters, flags, timeout=SECONDS)
    figures(str(result))
    assert result.failed == 0, result.output
    assert result.passed > 0
    unfounded = [
        reason
        for reason in result.skips
        if reason != "pending" and not any(word.lower() in reason.lower() for word in NOT_CLAIMED)
    ]
    assert unfounded == []
