"""Copies on a real kernel, which mounts one filesystem of a UUID (Linux before 6.7)."""

import pytest
import rbd

from e2e import volume
from e2e.volume import Volume
from rbdcsi.attachments import store
from rbdcsi.ceph import cloning
from tests.vm import lab as labs
from tests.vm.lab import Lab
from tests.vm.test_faults import wait_for_progress, writing
from tests.vm.test_life import EACH_MAPPER, FILESYSTEMS


@pytest.mark.parametrize("fs_type", FILESYSTEMS)
def test_copy_is_used_beside_its_source_and_read_on_two_nodes(lab: Lab, fs_type: str) -> None:
    first, second = lab.nodes
    size = FILESYSTEMS[fs_type]
    with lab.volume("krbd", capability=volume.mounted(fs_type), size=size) as source:
        volume.stage(first, source)
        written = labs.write(first, volume.publish(first, source))
        capability = volume.mounted(fs_type, "MULTI_NODE_READER_ONLY")
        with (
            lab.volume(
                "krbd", capability=volume.mounted(fs_type), size=2 * size, source=source.id
            ) as copy,
            lab.volume("krbd", capability=capability, size=size, source=source.id) as read,
        ):
            volume.stage(first, copy)
            target = volume.publish(first, copy)
            assert labs.checksum(first, target) == written
            assert labs.write(first, target, 1) != written
            assert labs.checksum(first, source.target(first)) == written

            volume.stage(first, read)
            there = Volume(read.id, read.capability, read.size, read.context)
            volume.attach(lab.controller, there, second.name)
            volume.stage(second, there)
            for node, made in ((first, read), (second, there)):
                assert labs.checksum(node, volume.publish(node, made)) == written
                device = labs.device_of(node, made)
                assert node.run(f"cat /sys/block/{device.removeprefix('/dev/')}/ro") == "1"


@EACH_MAPPER
def test_copy_is_flattened_while_a_workload_writes(lab: Lab, mapper: str) -> None:
    a, b = lab.nodes
    capability, size = volume.mounted("ext4"), FILESYSTEMS["ext4"]
    with lab.volume(mapper, capability=capability, size=size) as source:
        volume.stage(a, source)
        written = labs.write(a, volume.publish(a, source))
        labs.take_down(a, source)
        with lab.volume(mapper, capability=capability, size=size, source=source.id) as copy:
            volume.stage(a, copy)
            target, image_id = volume.publish(a, copy), lab.image_id(copy)
            with writing(a, target):
                writers = store.Records(lab.ioctx).get(image_id).writers()
                assert writers
                cloning.flatten(lab.ioctx, image_id, writers, lambda: False, lambda: True)
                wait_for_progress(a)
            assert labs.checksum(a, target) == written
            with lab.image(copy, readonly=True) as image:
                with pytest.raises(rbd.ImageNotFound):
                    image.parent_info()
                assert image.flags() == 0
            lab.move(copy, a, b)
            volume.stage(b, copy)
            assert labs.checksum(b, volume.publish(b, copy)) == written
