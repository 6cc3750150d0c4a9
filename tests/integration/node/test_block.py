"""Raw block volumes: the device node that a workload gets is the image, and nothing more."""

import fcntl
import os
import struct
from pathlib import Path

import pytest

from e2e import volume
from rbdcsi.attachments.records import State
from tests.integration.node import lab as labs
from tests.integration.node.lab import MIB, Lab

pytestmark = pytest.mark.usefixtures("nothing_left")

BLKROGET = 0x125E  # linux/fs.h


def test_data_written_at_one_node_is_read_at_the_other(lab: Lab) -> None:
    a, b = lab.nodes
    data = os.urandom(MIB)
    with lab.volume("block-move", at=a, capability=volume.raw()) as made:
        volume.stage(a, made)
        _write(volume.publish(a, made), data, 7 * MIB)
        volume.unpublish(a, made)
        volume.unstage(a, made)
        volume.detach(lab.controller, made, "node-a")
        volume.attach(lab.controller, made, "node-b")
        volume.stage(b, made)
        target = volume.publish(b, made)

        assert _read(target, MIB, 7 * MIB) == data
        with lab.image(made, readonly=True) as image:
            assert image.read(7 * MIB, MIB) == data


def test_device_has_the_size_of_the_volume_and_no_filesystem_is_made(lab: Lab) -> None:
    node = lab.nodes[0]
    with lab.volume("block-size", capability=volume.raw(), size=65 * MIB) as made:
        volume.stage(node, made)
        target = volume.publish(node, made)
        with target.open("rb") as device:
            assert device.seek(0, os.SEEK_END) == 65 * MIB
        assert lab.mark(made) is None
        assert not any(_read(target, MIB, 0))


def test_several_workloads_share_the_device(lab: Lab) -> None:
    node = lab.nodes[0]
    with lab.volume("block-share", capability=volume.raw("SINGLE_NODE_MULTI_WRITER")) as made:
        volume.stage(node, made)
        one, two = (volume.publish(node, made, pod=pod) for pod in ("one", "two"))
        _write(one, b"seen" * 1024, 0)
        assert _read(two, 4096, 0) == b"seen" * 1024


@pytest.mark.parametrize("mode", ["SINGLE_NODE_WRITER", "SINGLE_NODE_READER_ONLY"])
def test_read_only_attachment_gives_a_device_that_cannot_be_written(lab: Lab, mode: str) -> None:
    node = lab.nodes[0]
    with lab.volume("block-ro", capability=volume.raw(mode), readonly=True) as made:
        lab.write(made, b"data")
        before = lab.checksum(made)
        volume.stage(node, made)
        target = volume.publish(node, made, readonly=True)

        with target.open("rb", buffering=0) as device:
            (answer,) = struct.unpack("i", fcntl.ioctl(device, BLKROGET, struct.pack("i", 0)))
            assert answer == 1
            assert device.read(512).startswith(b"data")
        with pytest.raises(OSError, match=r"Operation not permitted|Read-only"):
            _write(target, b"x" * 4096, 0)
        held = lab.record(made, node)
        assert (held.state, held.readonly) == (State.STAGED, True)
        assert {held.client} == lab.watchers(made)
        assert lab.checksum(made) == before


def test_a_writable_device_is_published_read_only_beside_a_writer(lab: Lab) -> None:
    node = lab.nodes[0]
    with lab.volume("block-rw-ro", capability=volume.raw()) as made:
        volume.stage(node, made)
        writer = volume.publish(node, made)
        reader = volume.publish(node, made, readonly=True, pod="reader")
        _write(writer, b"x" * 4096, 0)
        assert _read(reader, 4096, 0) == b"x" * 4096
        readonly = {entry.target: entry.readonly for entry in labs.mounts(node)}
        assert (readonly[writer], readonly[reader]) == (False, True)
        volume.unpublish(node, made, pod="reader")
        _write(writer, b"y" * 4096, 0)


def test_two_nodes_write_one_shared_volume_at_once(lab: Lab) -> None:
    a, b = lab.nodes
    capability = volume.raw("MULTI_NODE_MULTI_WRITER")
    features = {"imageFeatures": "layering"}  # no exclusive lock to hand to and fro
    with lab.volume("block-rwx", at=a, capability=capability, parameters=features) as made:
        other = lab.again_attached(made, b)
        volume.stage(a, made)
        volume.stage(b, other)
        one, two = volume.publish(a, made), volume.publish(b, other)
        assert {lab.record(made, a).client, lab.record(made, b).client} == lab.watchers(made)
        assert lab.record(made, a).client != lab.record(made, b).client

        _write(one, b"a" * 4096, 0)
        _write(two, b"b" * 4096, 4096)
        for target in (one, two):
            assert _read(target, 8192, 0) == b"a" * 4096 + b"b" * 4096

        clients = [lab.record(made, node).client for node in (a, b)]
        volume.stage(a, made)
        volume.stage(b, other)
        assert [lab.record(made, node).client for node in (a, b)] == clients
        volume.unpublish(a, made)
        volume.unstage(a, made)
        _write(two, b"c" * 4096, 0)


def test_device_cannot_be_reached_through_the_target_after_unpublish(lab: Lab) -> None:
    node = lab.nodes[0]
    with lab.volume("block-gone", capability=volume.raw()) as made:
        volume.stage(node, made)
        target = volume.publish(node, made)
        volume.unpublish(node, made)
        assert not target.exists()
        assert labs.loop_devices(node)  # still staged


def _write(device: Path, data: bytes, offset: int) -> None:
    with device.open("r+b", buffering=0) as opened:
        opened.seek(offset)
        opened.write(data)
        os.fsync(opened.fileno())


def _read(device: Path, length: int, offset: int) -> bytes:
    with device.open("rb", buffering=0) as opened:
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        opened.seek(offset)
        return opened.read(length)
