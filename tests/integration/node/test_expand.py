"""NodeExpandVolume, and growth at stage: device and filesystem are as large as the image."""

import contextlib
import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from e2e import volume
from e2e.clusters import commands
from e2e.driver import Driver
from e2e.volume import Volume
from rbdcsi.api import csi_pb2
from rbdcsi.host import command
from rbdcsi.host.block import devices
from tests.integration.node import lab as labs
from tests.integration.node.lab import MIB, Lab
from tests.integration.node.slow import SlowNode
from tests.refusal import refused

pytestmark = pytest.mark.usefixtures("nothing_left")

SMALL, LARGE = 320 * MIB, 640 * MIB
_CAP_SYS_RESOURCE = 24
# The kernel grows no mounted ext4 without this capability; tests/vm have ext4, too.
GROWN_HERE = ["xfs", "btrfs"]


def may_grow_ext4() -> bool:
    """Return whether this machine has the capability by which the kernel lets ext4 be grown."""
    status = Path("/proc/self/status").read_text()
    (effective,) = (line.split()[1] for line in status.splitlines() if line.startswith("CapEff"))
    return bool(int(effective, 16) >> _CAP_SYS_RESOURCE & 1)


def test_the_capability_is_claimed(lab: Lab) -> None:
    rpc = csi_pb2.NodeServiceCapability.RPC
    answer = lab.nodes[0].node.NodeGetCapabilities(csi_pb2.NodeGetCapabilitiesRequest())
    assert rpc.EXPAND_VOLUME in {each.rpc.type for each in answer.capabilities}


@pytest.mark.parametrize("fs_type", GROWN_HERE)
def test_a_filesystem_grows_while_it_is_written_to(lab: Lab, fs_type: str) -> None:
    node = lab.nodes[0]
    with lab.volume(f"grow-{fs_type}", capability=volume.mounted(fs_type), size=SMALL) as made:
        volume.stage(node, made)
        target = volume.publish(node, made)
        with _writer(target) as written:
            for size in (400 * MIB, 512 * MIB, LARGE):
                answer = volume.expand(lab.controller, made, size)
                assert answer.node_expansion_required
                for _ in range(2):  # a repeat changes nothing
                    assert volume.expand_on_node(node, made, size, path=target) == size
                assert _device_size(node) == size
                assert _filesystem_size(target) > 0.7 * size
        (target / "large").write_bytes(os.urandom(400 * MIB // 8))
        for name, digest in written.items():
            assert hashlib.sha256((target / name).read_bytes()).hexdigest() == digest


def test_a_raw_block_device_grows(lab: Lab) -> None:
    node = lab.nodes[0]
    with lab.volume("grow-raw", capability=volume.raw()) as made:
        volume.stage(node, made)
        target = volume.publish(node, made)
        assert volume.expand(lab.controller, made, 128 * MIB).node_expansion_required
        for path in (target, made.staging(node)):
            assert volume.expand_on_node(node, made, 128 * MIB, path=path) == 128 * MIB
        with target.open("r+b") as device:
            device.seek(127 * MIB)
            device.write(b"end" * 100)
            os.fsync(device.fileno())
        assert lab.content(made, 127 * MIB, 3) == b"end"
        volume.unpublish(node, made)


def test_a_raw_volume_that_grew_while_it_was_not_staged_needs_no_call(lab: Lab) -> None:
    node = lab.nodes[0]
    with lab.volume("grow-raw-off", capability=volume.raw()) as made:
        volume.expand(lab.controller, made, 128 * MIB)
        volume.stage(node, made)
        assert _device_size(node) == 128 * MIB


@pytest.mark.parametrize("fs_type", GROWN_HERE)
@pytest.mark.parametrize("repeated", [False, True])
def test_a_filesystem_smaller_than_its_device_grows_at_stage(
    lab: Lab, fs_type: str, repeated: bool
) -> None:
    node = lab.nodes[0]
    with lab.volume(f"stage-{fs_type}", capability=volume.mounted(fs_type), size=SMALL) as made:
        volume.stage(node, made)
        (made.staging(node) / "file").write_text("kept")
        volume.unstage(node, made)
        with lab.image(made) as image:
            image.resize(LARGE)
        volume.stage(node, made)
        assert _filesystem_size(made.staging(node)) > 0.7 * LARGE
        assert (made.staging(node) / "file").read_text() == "kept"
        steps = node.words().count("stage.grow")
        volume.unstage(node, made)
        volume.stage(node, made)
        if repeated:
            volume.stage(node, made)
        assert node.words().count("stage.grow") == steps  # it does not try for ever


@pytest.mark.parametrize("step", ["stage.mount", "stage.grow"])
@pytest.mark.parametrize("fs_type", GROWN_HERE)
def test_a_node_that_died_after_the_mount_grows_it_in_the_repeated_call(
    lab: Lab, victim: Driver, fs_type: str, step: str
) -> None:
    capability = volume.mounted(fs_type)
    with lab.volume(f"dies-{fs_type}", capability=capability, size=SMALL, at=victim) as made:
        volume.stage(victim, made)
        volume.unstage(victim, made)
        with lab.image(made) as image:
            image.resize(LARGE)
        victim.stop()
        victim.start(kill_after=step)
        with contextlib.suppress(grpc.RpcError):
            volume.stage(victim, made)
        victim.wait_for_death()
        victim.stop()
        labs.start_reconciled(victim)
        volume.until_let_through(lambda: volume.stage(victim, made))
        assert _filesystem_size(made.staging(victim)) > 0.7 * LARGE


@pytest.mark.parametrize("step", ["expand.device", "expand.filesystem"])
def test_a_node_that_dies_while_it_grows_is_finished_by_the_repeated_call(
    lab: Lab, victim: Driver, step: str
) -> None:
    with lab.volume("dies", capability=volume.mounted("xfs"), size=SMALL, at=victim) as made:
        volume.stage(victim, made)
        volume.expand(lab.controller, made, LARGE)
        victim.stop()
        assert _device_size(victim) == SMALL
        victim.start(kill_after=step)
        with refused("UNAVAILABLE"):
            volume.expand_on_node(victim, made, LARGE)
        victim.wait_for_death()
        victim.stop()
        labs.start_reconciled(victim)
        volume.until_let_through(lambda: _expand(victim, made, LARGE))
        assert _filesystem_size(made.staging(victim)) > 0.7 * LARGE


def test_a_read_only_attachment_grows_nothing(lab: Lab) -> None:
    node = lab.nodes[0]
    with lab.volume("grow-ro", capability=volume.mounted("xfs"), size=SMALL) as made:
        volume.stage(node, made)
        volume.unstage(node, made)
        volume.detach(lab.controller, made, labs.node_id(node))
        volume.attach(lab.controller, made, labs.node_id(node), readonly=True)
        assert not volume.expand(lab.controller, made, LARGE).node_expansion_required
        volume.stage(node, made)
        before = _filesystem_size(made.staging(node))
        volume.expand_on_node(node, made, LARGE)
        volume.stage(node, made)
        assert before == _filesystem_size(made.staging(node)) < SMALL


def test_a_volume_published_read_only_grows_at_its_staging_path(lab: Lab) -> None:
    node = lab.nodes[0]
    with lab.volume("grow-ro-pod", capability=volume.mounted("xfs"), size=SMALL) as made:
        volume.stage(node, made)
        target = volume.publish(node, made, readonly=True)
        volume.expand(lab.controller, made, LARGE)
        volume.expand_on_node(node, made, LARGE, path=target)
        assert _filesystem_size(target) > 0.7 * LARGE


def test_a_mount_that_was_asked_to_be_read_only_stays_as_it_is(lab: Lab) -> None:
    node = lab.nodes[0]
    capability = volume.mounted("xfs")
    with lab.volume("grow-flag", capability=capability, size=SMALL) as made:
        volume.stage(node, made)
        volume.unstage(node, made)
        made.capability = volume.mounted("xfs", flags=["ro"])
        volume.expand(lab.controller, made, LARGE)
        volume.stage(node, made)
        assert volume.expand_on_node(node, made, LARGE) == LARGE
        assert _filesystem_size(made.staging(node)) < SMALL


def test_a_read_only_filesystem_after_an_error_is_refused_in_words(lab: Lab) -> None:
    node = lab.nodes[0]
    with lab.volume("grow-err", capability=volume.mounted("btrfs"), size=SMALL) as made:
        volume.stage(node, made)
        command.run(("mount", "-o", "remount,ro", str(made.staging(node))), seconds=20)
        _writable_mount_of_read_only_filesystem(made.staging(node))
        volume.expand(lab.controller, made, LARGE)
        with refused("FAILED_PRECONDITION", "read-only, as the kernel makes it after an error"):
            volume.expand_on_node(node, made, LARGE)


@pytest.mark.skipif(may_grow_ext4(), reason="this kernel lets the driver grow a mounted ext4")
def test_a_filesystem_that_cannot_grow_is_used_as_it_is(lab: Lab) -> None:
    node = lab.nodes[0]
    with lab.volume("grow-not", size=64 * MIB) as made:
        volume.stage(node, made)
        (made.staging(node) / "file").write_text("kept")
        volume.expand(lab.controller, made, 128 * MIB)
        with refused("FAILED_PRECONDITION", "growing ext4", "Permission denied", "its old size"):
            volume.expand_on_node(node, made, 128 * MIB)
        volume.unstage(node, made)
        volume.stage(node, made)
        assert (made.staging(node) / "file").read_text() == "kept"
        assert "the filesystem keeps its size" in node.words()
        assert _device_size(node) == 128 * MIB


def test_a_growth_that_takes_long_outlives_its_call(lab: Lab, slow: SlowNode) -> None:
    node = slow.node
    with lab.volume("grow-slow", capability=volume.mounted("xfs"), size=SMALL, at=node) as made:
        volume.stage(node, made)
        volume.expand(lab.controller, made, LARGE)
        with slow.waiting("xfs_growfs"):
            with pytest.raises(grpc.RpcError):
                volume.expand_on_node(node, made, LARGE, timeout=3)
            commands.wait_until(
                lambda: "is not interrupted" in node.words(), "the call has left its child"
            )
            with refused("ABORTED", "growing xfs", "still lives"):
                volume.expand_on_node(node, made, LARGE)
            slow.let_go("xfs_growfs")
        volume.until_let_through(lambda: _expand(node, made, LARGE))
        assert _filesystem_size(made.staging(node)) > 0.7 * LARGE


def test_what_is_not_there_is_not_found(lab: Lab) -> None:
    node = lab.nodes[0]
    with lab.volume("grow-none") as made:
        with refused("NOT_FOUND", "is not staged or published at"):
            volume.expand_on_node(node, made)
        volume.stage(node, made)
        request = csi_pb2.NodeExpandVolumeRequest
        with refused("NOT_FOUND", "is not staged or published at"):
            node.node.NodeExpandVolume(request(volume_id=made.id, volume_path="/dev/null"))
        with refused("INVALID_ARGUMENT", "volume_path is missing"):
            node.node.NodeExpandVolume(request(volume_id=made.id))
        with refused("NOT_FOUND"):
            node.node.NodeExpandVolume(request(volume_id="none", volume_path="/x"))


def test_a_fenced_client_is_named(lab: Lab) -> None:
    node = lab.nodes[0]
    with lab.volume("grow-fenced", capability=volume.raw()) as made:
        volume.stage(node, made)
        (client,) = lab.record(made, node).clients
        volume.expand(lab.controller, made, 128 * MIB)
        lab.cluster.ceph("osd", "blocklist", "add", client.address)
        try:
            with refused("FAILED_PRECONDITION", client.address, "Ceph's blocklist", "detached"):
                volume.expand_on_node(node, made, 128 * MIB)
        finally:
            lab.cluster.ceph("osd", "blocklist", "rm", client.address)


def test_the_controller_must_come_first(lab: Lab) -> None:
    node = lab.nodes[0]
    with lab.volume("grow-order") as made:
        volume.stage(node, made)
        with refused("OUT_OF_RANGE", "has 67108864 bytes", "ControllerExpandVolume must come"):
            volume.expand_on_node(node, made, 128 * MIB)
        assert volume.expand_on_node(node, made) == 64 * MIB


def _expand(node: Driver, made: Volume, size: int) -> None:
    assert volume.expand_on_node(node, made, size) == size


@contextlib.contextmanager
def _writer(directory: Path) -> Iterator[dict[str, str]]:
    """Write small files with fsync during the body; the body gets their names and checksums."""
    written: dict[str, str] = {}
    ended = threading.Event()

    def write() -> None:
        while not ended.is_set():
            data = os.urandom(100_000)
            name = f"file-{len(written) % 200}"
            with (directory / name).open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            written[name] = hashlib.sha256(data).hexdigest()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield written
    finally:
        ended.set()
        thread.join()
    assert written


def _writable_mount_of_read_only_filesystem(path: Path) -> None:
    """Make the mount writable again while its filesystem stays read-only, as after an error."""
    command.run(("mount", "-o", "remount,bind,rw", str(path)), seconds=20)
    entry = labs.mount_at(path)
    assert entry.readonly
    assert not entry.refuses_writes


def _filesystem_size(path: Path) -> int:
    status = os.statvfs(path)
    return status.f_blocks * status.f_frsize


def _device_size(node: Driver) -> int:
    (device,) = labs.loop_devices(node)  # each test has one volume
    return devices.size(device)
