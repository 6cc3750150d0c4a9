"""Plugins that die, machines that boot, an OSD that goes and comes: with volumes in use."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e import clusters, volume
from e2e.clusters import commands
from e2e.vm.node import Node
from tests import faults
from tests.refusal import refused
from tests.vm import lab as labs
from tests.vm.lab import MAPPERS, Lab

EACH_MAPPER = pytest.mark.parametrize("mapper", MAPPERS)
# Writes and syncs one line after the other, and ends at the first error.
WRITER = 'set -e; i=0; while :; do i=$((i+1)); echo $i >>"$0"; sync "$0"; sleep 0.05; done'


@contextlib.contextmanager
def writing(node: Node, target: Path) -> Iterator[Path]:
    """Write to a file of the volume all the time; every line must be in it, in order, after."""
    file = target / "lines"
    pid = node.machine.spawn("/run/writer.log", "sh", "-c", WRITER, file)
    try:
        wait_for_progress(node, file)
        yield file
        wait_for_progress(node, file)
    finally:
        node.run(
            f"kill {pid} && while kill -0 {pid}; do sleep 0.1; done 2>/dev/null", ok=range(256)
        )
    numbers = node.machine.read(file).split()
    assert numbers == [str(i + 1) for i in range(len(numbers))]
    assert node.run("cat /run/writer.log") == ""


def wait_for_progress(node: Node, file: Path, seconds: float = 60) -> None:
    """Return when three further lines are durable."""
    now = lines(node, file)
    commands.wait_until(lambda: lines(node, file) > now + 3, f"{file} grows", seconds)


def lines(node: Node, file: Path) -> int:
    return int(node.run(f"wc -l <{file} 2>/dev/null || echo 0"))


@EACH_MAPPER
def test_io_goes_on_while_the_plugin_is_dead_and_it_finds_all_again(lab: Lab, mapper: str) -> None:
    node = lab.nodes[0]
    with lab.volume(mapper) as made:
        volume.stage(node, made)
        target = volume.publish(node, made)
        device, client = labs.device_of(node, made), lab.record(made, node).client
        with writing(node, target) as file:
            node.kill()
            wait_for_progress(node, file)
            node.start()
            wait_for_progress(node, file)

            volume.stage(node, made)
            assert volume.publish(node, made) == target
        assert labs.device_of(node, made) == device
        assert lab.record(made, node).client == client
        volume.unpublish(node, made)
        volume.unstage(node, made)
        assert labs.held_at(node) == []


@EACH_MAPPER
def test_plugin_that_dies_after_mapping_adopts_the_device(lab: Lab, mapper: str) -> None:
    node = lab.nodes[0]
    with lab.volume(mapper) as made:
        node.kill()
        node.start(kill_after="stage.map")
        with refused("UNAVAILABLE"):
            volume.stage(node, made)
        node.forget()
        mapped = lab.watchers(made)
        assert len(mapped) == 1
        node.start()
        volume.stage(node, made)

        assert lab.watchers(made) == mapped == {lab.record(made, node).client}


@EACH_MAPPER
@pytest.mark.parametrize("block", [False, True])
def test_machine_that_boots_with_a_staged_volume_stages_it_again(
    lab: Lab, mapper: str, block: bool
) -> None:
    node = lab.nodes[0]
    with lab.volume(mapper, capability=volume.raw() if block else None) as made:
        volume.stage(node, made)
        target = volume.publish(node, made)
        file = target if block else target / "data"
        node.run(f"dd if=/dev/urandom of={file} bs=1M count=4 conv=fsync")
        written = node.run(f"head -c 4M {file} | sha256sum")
        node.machine.reboot()
        node.forget()
        node.start()

        assert node.run(f"stat -c %F {made.staging(node)}") == "directory", "on the machine's disk"
        assert labs.mounts(node) == []
        with refused("FAILED_PRECONDITION", "NodeStageVolume must come first"):
            volume.publish(node, made)
        assert node.run(f"ls {made.staging(node)}") in ("", "device")
        volume.stage(node, made, timeout=90)
        assert volume.publish(node, made) == target
        assert node.run(f"head -c 4M {file} | sha256sum") == written


@EACH_MAPPER
def test_machine_that_boots_with_a_staged_volume_gives_it_back(lab: Lab, mapper: str) -> None:
    node = lab.nodes[0]
    with lab.volume(mapper) as made:
        volume.stage(node, made)
        target = volume.publish(node, made)
        node.run(f"sync -f {node.kubelet}")
        node.machine.kill()
        node.forget()
        node.machine.start()
        node.start()

        volume.unpublish(node, made)
        volume.unstage(node, made)
        assert node.run(f"test -e {target} || echo gone") == "gone"


@EACH_MAPPER
def test_io_waits_for_an_osd_and_goes_on(lab: Lab, cluster: clusters.Cluster, mapper: str) -> None:
    node = lab.nodes[0]
    with lab.volume(mapper) as made:
        volume.stage(node, made)
        with writing(node, volume.publish(node, made)) as file:
            with faults.stopped_osd(cluster):
                before = lines(node, file)
                assert lines(node, file) <= before + 1, "nothing is durable without an OSD"
            wait_for_progress(node, file, 120)


@EACH_MAPPER
def test_io_waits_for_the_network_and_goes_on(lab: Lab, mapper: str) -> None:
    node = lab.nodes[0]
    with lab.volume(mapper) as made:
        volume.stage(node, made)
        with writing(node, volume.publish(node, made)) as file:
            node.machine.cut()
            try:
                before = lines(node, file)
                node.run("sleep 3")
                assert lines(node, file) <= before + 1
            finally:
                node.machine.join()
            wait_for_progress(node, file, 120)
