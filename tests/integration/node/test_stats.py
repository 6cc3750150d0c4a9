"""NodeGetVolumeStats: how full a volume is, by the filesystem's own count."""

import os
import shutil
from pathlib import Path

import pytest

from e2e import driver, volume
from e2e.driver import Driver
from e2e.volume import Volume
from rbdcsi.api import csi_pb2
from tests.integration.node.conftest import wait_until_registered
from tests.integration.node.lab import MIB, Lab
from tests.refusal import refused

pytestmark = pytest.mark.usefixtures("nothing_left")

BYTES, INODES = csi_pb2.VolumeUsage.BYTES, csi_pb2.VolumeUsage.INODES


def _stats(node: Driver, made: Volume, path: object) -> dict[int, csi_pb2.VolumeUsage]:
    answer = node.node.NodeGetVolumeStats(
        csi_pb2.NodeGetVolumeStatsRequest(volume_id=made.id, volume_path=str(path))
    )
    return {usage.unit: usage for usage in answer.usage}


@pytest.mark.parametrize("fs_type", ["ext4", "xfs", "btrfs"])
def test_bytes_and_inodes_follow_what_is_written(lab: Lab, fs_type: str) -> None:
    node = lab.nodes[0]
    capability = volume.mounted(fs_type)
    with lab.volume(f"stats-{fs_type}", capability=capability, size=400 * MIB) as made:
        volume.stage(node, made)
        target = volume.publish(node, made)
        before = _stats(node, made, target)
        with (target / "file").open("wb") as file:
            file.write(os.urandom(20 * MIB))
            file.flush()
            os.fsync(file.fileno())
        after = _stats(node, made, target)

        assert after[BYTES].used - before[BYTES].used >= 20 * MIB
        assert before[BYTES].available - after[BYTES].available >= 20 * MIB
        assert after[BYTES].total == before[BYTES].total
        assert 300 * MIB < after[BYTES].total <= 400 * MIB
        found = os.statvfs(target)
        assert (after[INODES].total, after[INODES].available) == (found.f_files, found.f_ffree)
        assert after[INODES].used == found.f_files - found.f_ffree
        assert _stats(node, made, made.staging(node)) == after


def test_block_volume_has_its_size_and_no_inodes(lab: Lab) -> None:
    node = lab.nodes[0]
    with lab.volume("stats-block", capability=volume.raw()) as made:
        volume.stage(node, made)
        found = _stats(node, made, volume.publish(node, made))
        assert set(found) == {BYTES}
        assert found[BYTES].total == made.size


def test_path_without_the_volume_is_not_found(lab: Lab) -> None:
    node = lab.nodes[0]
    with lab.volume("stats-one") as one, lab.volume("stats-two") as two:
        for made in (one, two):
            volume.stage(node, made)
        target = volume.publish(node, one)
        (target / "inside").mkdir()
        plain = node.kubelet / "plain"
        plain.mkdir()
        for made, path in (
            (two, target),
            (one, two.target(node)),
            (one, plain),
            (one, target / "inside"),
            (one, node.kubelet / "missing"),
            (one, "/"),
        ):
            with refused("NOT_FOUND", made.id, str(path)):
                _stats(node, made, path)
        plain.rmdir()


@pytest.fixture(scope="module")
def hindered(lab: Lab, installation: driver.Installation) -> Driver:
    """Give a node where a command can be put before the one that asks how full a filesystem is."""
    node = installation.node("node-h")
    program = node.directory / "bin/stat"
    program.parent.mkdir()
    line = f'for path; do :; done; . {_before(node)}; exec {shutil.which("stat")} "$@"'
    program.write_text(f"#!/bin/sh\n{line}\n")
    program.chmod(0o755)
    node.environment = {"PATH": f"{program.parent}:{os.environ['PATH']}"}
    wait_until_registered(lab.ioctx, node.start())
    return node


def _before(node: Driver) -> Path:
    return node.directory / "before"


@pytest.mark.parametrize("line", ['umount "$path"', 'umount "$path"; rmdir "$path"'])
def test_volume_that_is_unpublished_meanwhile_is_not_found(
    lab: Lab, hindered: Driver, line: str
) -> None:
    _before(hindered).write_text(line)
    with lab.volume("stats-race", at=hindered) as made:
        volume.stage(hindered, made)
        target = volume.publish(hindered, made)
        with refused("NOT_FOUND", made.id, str(target)):
            _stats(hindered, made, target)


def test_volume_that_is_not_there_is_not_found(lab: Lab) -> None:
    node = lab.nodes[0]
    with lab.volume("stats-unstaged") as made, refused("NOT_FOUND", made.id):
        _stats(node, made, made.target(node))
    with refused("NOT_FOUND", "does not exist"):
        _stats(node, Volume("nonsense", volume.mounted()), "/x")


def test_call_without_its_arguments_is_invalid(lab: Lab) -> None:
    node = lab.nodes[0]
    with refused("INVALID_ARGUMENT", "volume_id"):
        _stats(node, Volume("", volume.mounted()), "/x")
    with refused("INVALID_ARGUMENT", "volume_path"):
        _stats(node, Volume("v1:local:1::1", volume.mounted()), "")
