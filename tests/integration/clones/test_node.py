"""Copies on nodes: they mount beside their source, and nothing that may hold data is formatted."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from e2e import volume
from e2e.volume import Volume
from rbdcsi.model import format_mark
from rbdcsi.model.format_mark import MARK, Mark, Phase
from tests.integration.node import lab as labs
from tests.integration.node.lab import MIB, Lab
from tests.refusal import refused

pytestmark = pytest.mark.usefixtures("nothing_left")

FILESYSTEMS = ("ext4", "xfs", "btrfs")
SIZE = 400 * MIB


def _write(path: Path, text: str) -> None:
    """Write a file and fsync it, so that it is only in the log of some filesystems."""
    with path.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


@pytest.mark.parametrize("fs_type", FILESYSTEMS)
def test_copy_mounts_beside_its_mounted_source_with_its_files(lab: Lab, fs_type: str) -> None:
    node, capability = lab.nodes[0], volume.mounted(fs_type)
    with lab.volume("source", capability=capability, size=SIZE) as source:
        volume.stage(node, source)
        _write(source.staging(node) / "before", "both have this")
        with lab.volume("copy", capability=capability, size=SIZE, source=source.id) as copy:
            assert lab.mark(copy) == Mark(Phase.FORMATTED, fs_type, copied=True)
            _write(source.staging(node) / "after", "the source alone")
            volume.stage(node, copy)
            assert lab.mark(copy) == Mark(Phase.FORMATTED, fs_type)
            assert (copy.staging(node) / "before").read_text() == "both have this"
            assert not (copy.staging(node) / "after").exists()
            _write(copy.staging(node) / "own", "the copy alone")
            assert not (source.staging(node) / "own").exists()
            with lab.volume("third", capability=capability, size=SIZE, source=copy.id) as third:
                volume.stage(node, third)
                assert (third.staging(node) / "own").read_text() == "the copy alone"
            volume.unstage(node, copy)
            volume.stage(node, copy)
            assert (copy.staging(node) / "own").read_text() == "the copy alone"
        assert (source.staging(node) / "after").read_text() == "the source alone"


def test_raw_copy_has_the_data_of_its_source(lab: Lab) -> None:
    node = lab.nodes[0]
    with lab.volume("source", capability=volume.raw()) as source:
        lab.write(source, b"data" * 1024, 20 * MIB)
        with lab.volume("copy", capability=volume.raw(), source=source.id) as copy:
            volume.stage(node, copy)
            with (volume.publish(node, copy)).open("rb") as device:
                device.seek(20 * MIB)
                assert device.read(4096) == b"data" * 1024


def test_copy_of_a_volume_that_was_never_used_is_formatted(lab: Lab) -> None:
    node = lab.nodes[0]
    with lab.volume("source") as source, lab.volume("copy", source=source.id) as copy:
        assert lab.mark(copy) is None
        volume.stage(node, copy)
        assert lab.mark(copy) == Mark(Phase.FORMATTED, "ext4")
        assert lab.mark(source) is None


def test_copy_of_a_volume_whose_mkfs_was_cut_off_is_formatted(lab: Lab) -> None:
    node = lab.nodes[0]
    with lab.volume("source") as source:
        lab.set_metadata(source, format_mark.KEY, MARK.encode(Mark(Phase.FORMATTING, "ext4")))
        lab.write(source, b"half of a superblock", 1024)
        with lab.volume("copy", source=source.id) as copy:
            assert lab.mark(copy) == Mark(Phase.FORMATTING, "ext4")
            volume.stage(node, copy)
            _write(copy.staging(node) / "file", "works")


def _raw_data(lab: Lab, source: Volume) -> None:
    lab.set_metadata(source, format_mark.KEY, MARK.encode(Mark(Phase.RAW, "ext4")))


def _raw_only(_lab: Lab, _source: Volume) -> None:
    pass


@pytest.mark.parametrize("prepare", [_raw_data, _raw_only])
def test_copy_of_a_raw_volume_is_never_formatted(
    lab: Lab, prepare: Callable[[Lab, Volume], None]
) -> None:
    node = lab.nodes[0]
    capability = volume.raw() if prepare is _raw_only else volume.mounted()
    with lab.volume("source", capability=capability) as source:
        prepare(lab, source)
        with lab.volume("copy", source=source.id) as copy:
            assert lab.mark(copy) == Mark(Phase.RAW, "ext4")
            before = lab.checksum(copy)
            with refused("FAILED_PRECONDITION", "was used as a raw block device"):
                volume.stage(node, copy)
            with lab.volume("third", source=copy.id) as third:
                assert lab.mark(third) == Mark(Phase.RAW, "ext4")
            assert lab.checksum(copy) == before


def test_copy_of_an_unmanaged_image_is_never_formatted(lab: Lab) -> None:
    node = lab.nodes[0]
    with lab.volume("source") as source:
        text = lab.metadata(source)["rbdcsi.volume"]
        lab.remove_metadata(source, "rbdcsi.volume")
        with (
            lab.volume("copy", source=source.id) as copy,
            refused("FAILED_PRECONDITION", "formatted as ext4, but reads as blank"),
        ):
            volume.stage(node, copy)
        lab.set_metadata(source, "rbdcsi.volume", text)  # so that it can be deleted


@pytest.mark.parametrize("features", ["layering,exclusive-lock,object-map,fast-diff", "layering"])
@pytest.mark.parametrize(("at", "words"), [(30 * MIB, "holds data between"), (0, "but holds")])
def test_data_of_the_source_counts_as_data_of_a_copy_without_a_mark(
    lab: Lab, features: str, at: int, words: str
) -> None:
    node, parameters = lab.nodes[0], {"imageFeatures": features}
    with lab.volume("source", parameters=parameters) as source:
        lab.write(source, b"data of a stranger", at)
        with lab.volume("copy", source=source.id, parameters=parameters) as copy:
            assert lab.mark(copy) is None
            with lab.volume("third", source=copy.id, parameters=parameters) as third:
                for each in (copy, third):
                    before = lab.checksum(each)
                    with refused("FAILED_PRECONDITION", words):
                        volume.stage(node, each)
                    assert lab.checksum(each) == before


def test_xfs_is_always_mounted_without_a_look_at_its_uuid(lab: Lab) -> None:
    node = lab.nodes[0]
    with lab.volume("xfs", capability=volume.mounted("xfs"), size=SIZE) as made:
        volume.stage(node, made)
        assert "nouuid" in labs.mount_at(made.staging(node)).super_options
