"""The life of a volume on a real kernel, with krbd and with nbd."""

import hashlib

import pytest

from e2e import volume
from e2e.volume import Volume
from rbdcsi.api import csi_pb2
from tests.refusal import refused
from tests.vm import lab as labs
from tests.vm.lab import MAPPERS, MIB, Lab

FILESYSTEMS = {"ext4": 64 * MIB, "xfs": 320 * MIB, "btrfs": 160 * MIB}  # near their smallest
TIB = 1 << 40
EACH_MAPPER = pytest.mark.parametrize("mapper", MAPPERS)


@pytest.mark.parametrize(
    ("mapper", "fs_type"),
    [
        pytest.param("krbd", "ext4", marks=pytest.mark.smoke),
        ("krbd", "xfs"),
        ("krbd", "btrfs"),
        pytest.param("nbd", "ext4", marks=pytest.mark.smoke),
        ("nbd", "xfs"),
    ],
)
def test_data_moves_from_one_machine_to_the_other(lab: Lab, mapper: str, fs_type: str) -> None:
    a, b = lab.nodes
    capability, size = volume.mounted(fs_type), FILESYSTEMS[fs_type]
    with lab.volume(mapper, capability=capability, size=size) as made:
        volume.stage(a, made)
        target = volume.publish(a, made)
        shown = labs.mount_at(a, target)
        assert shown
        assert (shown.fs_type, shown.source[: len(MAPPERS[mapper])]) == (fs_type, MAPPERS[mapper])
        written = labs.write(a, target)

        lab.move(made, a, b)
        assert labs.held_at(a) == []
        volume.stage(b, made)

        assert labs.checksum(b, volume.publish(b, made)) == written


@EACH_MAPPER
def test_every_call_may_be_repeated(lab: Lab, mapper: str) -> None:
    node = lab.nodes[0]
    with lab.volume(mapper) as made:
        for _ in range(2):
            volume.attach(lab.controller, made, node.name)
            volume.stage(node, made)
            target = volume.publish(node, made)
        device = labs.device_of(node, made)
        assert [entry.source for entry in labs.mounts(node)] == [device, device]

        for _ in range(2):
            volume.unpublish(node, made)
        assert node.run(f"test -e {target} || echo gone") == "gone"
        for _ in range(2):
            volume.unstage(node, made)
        for _ in range(2):
            volume.detach(lab.controller, made, node.name)


@EACH_MAPPER
def test_client_in_the_record_is_the_one_that_ceph_sees(lab: Lab, mapper: str) -> None:
    node = lab.nodes[0]
    with lab.volume(mapper) as made:
        volume.stage(node, made)

        assert lab.watchers(made) == {lab.record(made, node).client}
        assert node.machine.address in str(lab.record(made, node).client)


@pytest.mark.smoke
@EACH_MAPPER
def test_second_machine_is_refused_and_the_holder_named(lab: Lab, mapper: str) -> None:
    a, b = lab.nodes
    with lab.volume(mapper) as made:
        volume.stage(a, made)

        with refused("FAILED_PRECONDITION", a.name, "staged"):
            volume.attach(lab.controller, made, b.name)
        with refused("FAILED_PRECONDITION", b.name):
            volume.stage(b, made)
        assert labs.held_at(b) == []


@EACH_MAPPER
def test_two_machines_read_what_one_wrote(lab: Lab, mapper: str) -> None:
    a, b = lab.nodes
    with lab.volume(mapper) as made:
        volume.stage(a, made)
        written = labs.write(a, volume.publish(a, made))
        labs.take_down(a, made)
        lab.detach(made, a)

        made.capability = volume.mounted(mode="MULTI_NODE_READER_ONLY")
        for node in (a, b):
            volume.attach(lab.controller, made, node.name)
            volume.stage(node, made)
            target = volume.publish(node, made)
            assert labs.checksum(node, target) == written
            assert node.run(f"blockdev --getro {labs.device_of(node, made)}") == "1"
            said = node.run(f"touch {target}/new 2>&1 || true")
            assert "Read-only file system" in said


@EACH_MAPPER
def test_raw_block_volume_is_the_whole_image(lab: Lab, mapper: str) -> None:
    a, b = lab.nodes
    with lab.volume(mapper, capability=volume.raw(), size=12 * MIB) as made:
        volume.stage(a, made)
        target = volume.publish(a, made)
        assert a.run(f"blockdev --getsize64 {target}") == str(made.size)
        a.run(f"head -c {made.size} /dev/urandom | dd of={target} bs=1M iflag=fullblock conv=fsync")
        written = a.run(f"sha256sum <{target}")
        assert hashlib.sha256(lab.content(made)).hexdigest() == written.split()[0]

        lab.move(made, a, b)
        volume.stage(b, made)

        assert b.run(f"sha256sum <{volume.publish(b, made)}") == written


@EACH_MAPPER
def test_volume_of_many_tebibytes_is_mapped_to_its_end(lab: Lab, mapper: str) -> None:
    """Past what 32 bits of sectors count; to remove the largest, librbd takes many minutes."""
    node, size = lab.nodes[0], 64 * TIB
    layout = {"objectSize": "32M"}
    with lab.volume(mapper, capability=volume.raw(), size=size, parameters=layout) as made:
        volume.stage(node, made)
        target = volume.publish(node, made)
        assert node.run(f"blockdev --getsize64 {target}") == str(size)
        last = f"bs=1M seek={size // MIB - 1} count=1 conv=fsync,notrunc"
        node.run(f"head -c {MIB} /dev/urandom >/run/last; dd if=/run/last of={target} {last}")

        written = node.run("sha256sum </run/last").split()[0]
        assert hashlib.sha256(lab.content(made, size - MIB, MIB)).hexdigest() == written


@EACH_MAPPER
def test_statistics_are_those_of_the_filesystem(lab: Lab, mapper: str) -> None:
    node = lab.nodes[0]
    with lab.volume(mapper) as made:
        volume.stage(node, made)
        target = volume.publish(node, made)
        total = node.run(f"df -B1 --output=size {target} | tail -1")

        usage = _statistics(lab, made, str(target))

        assert usage[csi_pb2.VolumeUsage.BYTES].total == int(total)
        assert usage[csi_pb2.VolumeUsage.INODES].used > 0


@EACH_MAPPER
def test_open_device_is_not_unmapped_and_its_user_is_named(lab: Lab, mapper: str) -> None:
    node = lab.nodes[0]
    with lab.volume(mapper) as made:
        volume.stage(node, made)
        device = labs.device_of(node, made)
        user = node.machine.spawn("/dev/null", "sh", "-c", f"exec sleep 600 <{device}")
        try:
            with refused("ABORTED", device, f"pid {user}", "sleep"):
                volume.unstage(node, made)
            assert lab.watchers(made), "it is mapped still"
        finally:
            node.run(f"kill {user}")
        volume.unstage(node, made)

        assert lab.watchers(made) == set()


@EACH_MAPPER
def test_trimmed_space_is_given_back_to_ceph(lab: Lab, mapper: str) -> None:
    node = lab.nodes[0]
    with lab.volume(mapper) as made:
        volume.stage(node, made)
        target = volume.publish(node, made)
        labs.write(node, target, 32)
        full = lab.occupied(made)
        node.run(f"rm {target}/data; sync -f {target}; fstrim {target}; sync -f {target}")

        assert lab.occupied(made) <= full - 31 * MIB


@EACH_MAPPER
def test_discarded_block_volume_is_empty(lab: Lab, mapper: str) -> None:
    node = lab.nodes[0]
    with lab.volume(mapper, capability=volume.raw()) as made:
        volume.stage(node, made)
        target = volume.publish(node, made)
        node.run(f"dd if=/dev/urandom of={target} bs=1M count=16 conv=fsync")
        assert lab.objects(made) == 4
        node.run(f"blkdiscard {target}; sync {target}")  # librbd answers before a discard is done

        assert lab.objects(made) == 0
        assert not any(lab.content(made, 0, 16 * MIB))


def _statistics(lab: Lab, made: Volume, path: str) -> dict[int, csi_pb2.VolumeUsage]:
    request = csi_pb2.NodeGetVolumeStatsRequest(volume_id=made.id, volume_path=path)
    return {usage.unit: usage for usage in lab.nodes[0].node.NodeGetVolumeStats(request).usage}
