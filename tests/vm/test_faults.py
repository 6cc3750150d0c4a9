"""Plugins that die, machines that boot, an OSD that goes and comes: with volumes in use."""

import contextlib
import functools
import hashlib
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e import clusters, volume
from e2e.vm.node import Node
from e2e.volume import Volume
from tests import faults
from tests.refusal import refused
from tests.vm import lab as labs
from tests.vm.lab import MAPPERS, Lab

EACH_MAPPER = pytest.mark.parametrize("mapper", MAPPERS)
# Writes and syncs one line after the other, notes that outside, and ends at the first error.
DURABLE = "/run/durable"
WRITER = (
    'set -e; i=0; while :; do i=$((i+1)); echo $i >>"$0"; sync "$0"; '
    f"echo $i >>{DURABLE}; sleep 0.05; done"
)


@contextlib.contextmanager
def writing(node: Node, target: Path) -> Iterator[None]:
    """Write to a file of the volume all the time; every line must be in it, in order, after."""
    file = target / "lines"
    node.run(f": >{DURABLE}")
    pid = node.machine.spawn("/run/writer.log", "sh", "-c", WRITER, file)
    try:
        wait_for_progress(node)
        yield
        wait_for_progress(node)
    finally:
        node.run(
            f"kill {pid} && while kill -0 {pid}; do sleep 0.1; done 2>/dev/null", ok=range(256)
        )
    numbers = node.machine.read(file).split()
    assert numbers == [str(i + 1) for i in range(len(numbers))]
    assert len(numbers) >= durable(node)
    assert node.run("cat /run/writer.log") == ""


@contextlib.contextmanager
def volume_written_to(lab: Lab, mapper: str) -> Iterator[tuple[Node, Volume]]:
    """Give a node and a volume to which it writes all the time, see `writing`."""
    node = lab.nodes[0]
    with lab.volume(mapper) as made:
        volume.stage(node, made)
        with writing(node, volume.publish(node, made)):
            yield node, made


def wait_for_progress(node: Node, seconds: float = 60) -> None:
    """Return when more than three further lines are durable."""
    lines = f"$(wc -l <{DURABLE})"
    node.run(f"n={lines}; until (({lines} > n + 3)); do sleep 0.1; done", seconds=seconds)


def assert_no_progress(node: Node) -> None:
    """Wait a while; at most the line that was on its way has become durable since."""
    before = durable(node)
    node.run("sleep 3")
    assert durable(node) <= before + 1


def unfenced(cluster: clusters.Cluster) -> set[str]:
    """Lift all fences; returns of whom they were."""
    fenced = set(cluster.ceph("osd", "dump")["blocklist"])
    for client in fenced:
        cluster.ceph("osd", "blocklist", "rm", client)
    return fenced


def durable(node: Node) -> int:
    """Return how many lines are; the file itself is not looked at, for that may hang."""
    return int(node.run(f"wc -l <{DURABLE}"))


@pytest.mark.smoke
@EACH_MAPPER
def test_io_goes_on_while_the_plugin_is_dead_and_it_finds_all_again(lab: Lab, mapper: str) -> None:
    node = lab.nodes[0]
    with lab.volume(mapper) as made:
        volume.stage(node, made)
        target = volume.publish(node, made)
        device, client = labs.device_of(node, made), lab.record(made, node).client
        with writing(node, target):
            node.kill()
            wait_for_progress(node)
            node.start()
            wait_for_progress(node)

            volume.stage(node, made)
            assert volume.publish(node, made) == target
        assert labs.device_of(node, made) == device
        assert lab.record(made, node).client == client
        volume.unpublish(node, made)
        volume.unstage(node, made)
        assert labs.held_at(node) == []


@EACH_MAPPER
def test_plugin_that_dies_after_the_record_adopts_the_device(lab: Lab, mapper: str) -> None:
    node = lab.nodes[0]
    with lab.volume(mapper) as made:
        node.kill()
        node.start(kill_after="stage.record")
        with refused("UNAVAILABLE"):
            volume.stage(node, made)
        node.forget()
        mapped = lab.watchers(made)
        assert len(mapped) == 1
        node.start()
        volume.stage(node, made)

        assert lab.watchers(made) == mapped == {lab.record(made, node).client}


def test_machine_that_boots_with_staged_volumes_stages_them_again(
    lab: Lab, cluster: clusters.Cluster
) -> None:
    """Of each mapper one with a filesystem and a raw one, together: a boot takes long."""
    node = lab.nodes[0]
    kinds = itertools.product(MAPPERS, (volume.mounted(), volume.raw()))
    with contextlib.ExitStack() as ending:
        staged = [ending.enter_context(lab.volume(m, capability=kind)) for m, kind in kinds]
        written = {made.id: written_to(node, made) for made in staged}
        before = {lab.record(made, node).client for made in staged}
        node.reboot()

        assert labs.mounts(node) == []
        for made in staged:
            assert_staged_again(node, made, written[made.id])
        assert before.isdisjoint(lab.record(made, node).client for made in staged)
        assert unfenced(cluster) == before, "by the new clients, when they took the images' locks"


def written_to(node: Node, made: Volume) -> str:
    """Stage, publish and fill the volume; returns the checksum of what was written."""
    volume.stage(node, made)
    file = file_of(made, volume.publish(node, made))
    node.run(f"dd if=/dev/urandom of={file} bs=1M count=4 conv=fsync")
    return node.run(f"head -c 4M {file} | sha256sum")


def assert_staged_again(node: Node, made: Volume, written: str) -> None:
    """Do what the kubelet does after a boot; the data must be there, and can be written to."""
    assert node.run(f"stat -c %F {made.staging(node)}") == "directory", "on the machine's disk"
    with refused("FAILED_PRECONDITION", "NodeStageVolume must come first"):
        volume.publish(node, made)
    assert node.run(f"ls {made.staging(node)}") in ("", "device")
    volume.stage(node, made, timeout=90)
    file = file_of(made, volume.publish(node, made))
    assert node.run(f"head -c 4M {file} | sha256sum") == written
    node.run(f"dd if=/dev/urandom of={file} bs=1M count=1 conv=fsync,notrunc")


def file_of(made: Volume, target: Path) -> Path:
    return target if made.capability.HasField("block") else target / "data"


def test_power_failure_loses_nothing_synced_and_volumes_are_given_back(lab: Lab) -> None:
    node = lab.nodes[1]
    with contextlib.ExitStack() as ending:
        staged = [ending.enter_context(lab.volume(mapper)) for mapper in MAPPERS]
        for made in staged:
            lab.move(made, lab.nodes[0], node)
            volume.stage(node, made)
            known = volume.publish(node, made) / "known"
            node.run(f"cat >{known}; sync {known}", stdin=known_of(made))
        node.run(f"sync -f {node.kubelet}")
        node.machine.kill()
        node.forget()

        for made in staged:
            assert known_of(made) in lab.content(made)
        node.machine.start()
        node.start()
        for made in staged:
            volume.unpublish(node, made)
            volume.until_let_through(functools.partial(volume.unstage, node, made))
        assert labs.held_at(node) == []


def known_of(made: Volume) -> bytes:
    return hashlib.blake2b(made.id.encode()).digest() * 1024


@EACH_MAPPER
def test_no_write_is_acknowledged_before_ceph_has_it(
    lab: Lab, cluster: clusters.Cluster, mapper: str
) -> None:
    """librbd's cache does that, and forgets the error if Ceph then refuses the write."""
    node = lab.nodes[0]
    with lab.volume(mapper, capability=volume.raw()) as made:
        volume.stage(node, made)
        device = volume.publish(node, made)
        write = f"dd if=/dev/zero of={device} bs=4k count=1 oflag=direct status=none"
        node.run(f"rm -f {DURABLE}; {write} conv=fsync")  # the cache works from the first flush on
        with faults.frozen_osd(cluster):
            node.machine.spawn("/run/writer.log", "sh", "-c", f"{write} && touch {DURABLE}")
            node.run("sleep 3")
            assert node.run(f"ls {DURABLE} 2>/dev/null || true") == ""
        node.run(f"until ls {DURABLE}; do sleep 0.1; done")


@EACH_MAPPER
def test_io_waits_for_an_osd_and_goes_on(lab: Lab, cluster: clusters.Cluster, mapper: str) -> None:
    with volume_written_to(lab, mapper) as (node, _):
        with faults.stopped_osd(cluster):
            assert_no_progress(node)
        wait_for_progress(node, 120)


@EACH_MAPPER
def test_io_waits_for_the_network_and_goes_on(lab: Lab, mapper: str) -> None:
    with volume_written_to(lab, mapper) as (node, _):
        node.machine.cut()
        try:
            assert_no_progress(node)
        finally:
            node.machine.join()
        wait_for_progress(node, 120)
