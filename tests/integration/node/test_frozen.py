"""Ceph does not answer: calls end in their time, say so, and work again without a restart."""

import time
from collections.abc import Iterator
from concurrent import futures

import pytest

from e2e import driver, errors, volume
from e2e.clusters import Cluster, commands
from e2e.driver import Driver
from e2e.volume import Volume
from rbdcsi.api import csi_pb2
from rbdcsi.attachments.records import State
from tests import faults
from tests.integration.node import lab as labs
from tests.integration.node.conftest import wait_until_registered
from tests.integration.node.lab import Lab
from tests.refusal import refused

pytestmark = pytest.mark.usefixtures("nothing_left")

HANG = 60.0  # seconds; the caller's own end, long after the driver's


@pytest.fixture(scope="module")
def hasty(lab: Lab, installation: driver.Installation) -> Driver:
    """Give a node that waits for Ceph for a short time only."""
    node = installation.node("node-h", "--operation-timeout", "2").start()
    wait_until_registered(lab.ioctx, node)
    return node


@pytest.fixture
def published(lab: Lab) -> Iterator[Volume]:
    """Give a volume that node-a has published, with a file that is synced."""
    node = lab.nodes[0]
    with lab.volume("frozen-in-use") as made:
        volume.stage(node, made)
        (volume.publish(node, made) / "file").write_text("data")
        yield made


@pytest.mark.parametrize(("what", "code"), [("osd", "UNAVAILABLE"), ("mon", "DEADLINE_EXCEEDED")])
def test_stage_gives_up_and_works_when_ceph_is_back(
    lab: Lab, hasty: Driver, cluster: Cluster, what: str, code: str
) -> None:
    frozen = faults.frozen_osd if what == "osd" else faults.frozen_mon
    with lab.volume("frozen-stage", at=hasty) as made:
        # the deadline is the caller's: with a frozen monitor it is the mapping that waits for it
        with frozen(cluster), refused(code):
            volume.stage(hasty, made, timeout=8)
        volume.until_let_through(lambda: volume.stage(hasty, made))
        assert lab.record(made, hasty).state is State.STAGED
        assert len(labs.daemons(hasty)) == 1
        _until_watched_by_one(lab, made, hasty, cluster)


def test_no_write_is_acknowledged_before_ceph_has_it(lab: Lab, cluster: Cluster) -> None:
    """librbd's cache does that, and forgets the error if Ceph then refuses the write."""
    node = lab.nodes[0]
    with lab.volume("frozen-write", capability=volume.raw()) as made:
        volume.stage(node, made)
        write = ["dd", "if=/dev/zero", f"of={volume.publish(node, made)}", "bs=4k", "count=1"]
        write.append("oflag=direct")
        commands.run([*write, "conv=fsync"])  # the cache works from the first flush on
        with futures.ThreadPoolExecutor() as background:
            with faults.frozen_osd(cluster):
                writing = background.submit(commands.run, write)
                with pytest.raises(futures.TimeoutError):
                    writing.result(3)
            writing.result(HANG)


def test_publish_asks_nothing_of_ceph(lab: Lab, cluster: Cluster, published: Volume) -> None:
    node = lab.nodes[0]
    with faults.frozen_mon(cluster), faults.frozen_osd(cluster):
        target = volume.publish(node, published, pod="second")
        assert target.is_mount()
        volume.unpublish(node, published, pod="second")
        assert not target.exists()


def test_statistics_of_a_frozen_volume_come_or_end_in_time(
    lab: Lab, cluster: Cluster, published: Volume
) -> None:
    node = lab.nodes[0]
    with faults.frozen_osd(cluster):
        begun = time.monotonic()
        answer = node.node.NodeGetVolumeStats(
            csi_pb2.NodeGetVolumeStatsRequest(
                volume_id=published.id, volume_path=str(published.target(node))
            ),
            timeout=HANG,
        )
        assert time.monotonic() - begun < HANG / 2
    assert answer.usage


def test_unstage_of_unsynced_data_waits_for_ceph_and_loses_nothing(
    lab: Lab, cluster: Cluster, published: Volume
) -> None:
    node = lab.nodes[0]
    (published.target(node) / "later").write_text("not synced yet")
    volume.unpublish(node, published)
    with faults.frozen_osd(cluster), pytest.raises(Exception, match=r"DEADLINE_EXCEEDED|ABORTED"):
        node.node.NodeUnstageVolume(
            csi_pb2.NodeUnstageVolumeRequest(
                volume_id=published.id, staging_target_path=str(published.staging(node))
            ),
            timeout=5,
        )
    volume.until_let_through(lambda: volume.unstage(node, published))
    assert lab.record(published, node).state is State.RELEASED
    volume.stage(node, published)
    kept = {path.name: path.read_text() for path in published.staging(node).glob("[fl]*[er]")}
    assert kept == {"file": "data", "later": "not synced yet"}


def _until_watched_by_one(lab: Lab, made: Volume, node: Driver, cluster: Cluster) -> None:
    """Wait for Ceph to drop the watch of a daemon that was killed just after it opened the image.

    Ceph drops it after 30 s. If the daemon's connection ended before the OSD had executed the
    watch, the OSD has no timer for it (PrimaryLogPG::do_osd_op_effects), and keeps the watch until
    it peers again.
    """
    client = lab.record(made, node).client

    def is_alone() -> bool:
        return lab.watchers(made) == {client}

    try:
        commands.wait_until(is_alone, "the watch of the dead daemon ends", timeout=40)
    except errors.DeadlineExceeded:
        assert len(labs.daemons(node)) == 1, "the other watcher is of a daemon that lives"
        cluster.ceph("osd", "down", "0")
        commands.wait_until(is_alone, "the OSD that peered again drops the watch", timeout=HANG)
