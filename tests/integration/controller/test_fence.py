"""A node that does not release a volume is fenced: nothing that it does changes the volume then."""

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import cast

import grpc
import pytest
import rados

from e2e import leftovers, volume
from e2e.clusters import Cluster, commands
from e2e.driver import Driver, Installation
from e2e.pool import image_id
from e2e.volume import Volume
from rbdcsi.attachments import store
from rbdcsi.attachments.fences import Fence, Fences
from rbdcsi.attachments.records import Client, State, VolumeRecord
from rbdcsi.runtime import clock
from tests import dying, faults
from tests.integration.controller.view import View
from tests.integration.node.conftest import wait_until_registered

pytestmark = [pytest.mark.usefixtures("nothing_left"), pytest.mark.timeout(240)]

A, B = "node-a", "node-b"
DEAD = "127.0.0.1:0/4242"  # the client of a process that is gone


@pytest.fixture(autouse=True)
def both(nodes: tuple[Driver, Driver], view: View) -> tuple[Driver, Driver]:
    """Give two nodes that run and are registered."""
    for each in nodes:
        wait_until_registered(view.ioctx, each)
    return nodes


@contextlib.contextmanager
def used_at(node: Driver, made: Volume) -> Iterator[Path]:
    """Give the volume's directory as a workload of the node has it, with a file in it."""
    volume.stage(node, made)
    target = volume.publish(node, made)
    _write(target / "old", "written by the old node")
    try:
        yield target
    finally:
        _repeated(lambda: volume.unpublish(node, made))
        _repeated(lambda: volume.unstage(node, made))


def _repeated(call: Callable[[], None]) -> None:
    """Call as the kubelet does, again while the plugin itself works on the volume."""

    def succeeds() -> bool:
        try:
            call()
        except grpc.RpcError as error:
            if cast(grpc.Call, error).code() is grpc.StatusCode.ABORTED:
                return False
            raise
        return True

    commands.wait_until(succeeds, "the call succeeds")


def _write(path: Path, text: str) -> None:
    path.write_text(text)
    _sync(path)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def fence_of(view: View, address: str) -> Fence | None:
    """Return the driver's note of a fence."""
    return Fences(view.ioctx).get(address)


def test_the_next_node_has_all_data_and_the_old_one_writes_no_more(
    controller: Driver, both: tuple[Driver, Driver], view: View, admin: rados.Rados, made: Volume
) -> None:
    volume.attach(controller, made, A)
    with used_at(both[0], made) as old:
        client = view.record(made).attachments[A].clients[0]
        volume.detach(controller, made, A)
        assert view.record(made).attachments == {}
        assert client.address in set(leftovers.blocklisted(admin))
        note = fence_of(view, client.address)
        assert note
        assert (note.node_id, note.machine_id) == (A, client.machine_id)
        assert (note.volume, note.gone) == (made.id, None)
        assert note.epoch
        volume.attach(controller, made, B)
        with used_at(both[1], made) as new:
            assert (new / "old").read_text() == "written by the old node"
            with pytest.raises(OSError, match="error"):
                _write(old / "late", "too late")
            _write(new / "new", "written by the new node")
            assert not (new / "late").exists()
        volume.detach(controller, made, B)
    commands.wait_until(
        lambda: fence_of(view, client.address) is None, "the fence is lifted", timeout=120
    )
    assert client.address not in set(leftovers.blocklisted(admin))


@pytest.mark.parametrize(
    "step", ["detach.begin", "fence.note", "fence.blocklist", "fence.lock", "detach.record"]
)
def test_a_controller_that_dies_at_any_step_leaves_the_rest_to_the_repeat(
    installation: Installation,
    controller: Driver,
    both: tuple[Driver, Driver],
    view: View,
    admin: rados.Rados,
    made: Volume,
    step: str,
) -> None:
    volume.attach(controller, made, A)
    dying = installation.controller(f"dies-{step}").start(kill_after=step)
    with used_at(both[0], made):
        client = view.record(made).attachments[A].clients[0]
        with pytest.raises(Exception, match="UNAVAILABLE"):
            volume.detach(dying, made, A)
        dying.wait_for_death()
        volume.detach(controller, made, A)
        assert view.record(made).attachments == {}
        assert client.address in set(leftovers.blocklisted(admin))


@pytest.mark.parametrize("step", ["fence.renew", "fence.lift", "fence.forget"])
def test_a_controller_that_dies_in_its_upkeep_leaves_the_rest_to_the_next(
    installation: Installation,
    controller: Driver,
    view: View,
    admin: rados.Rados,
    cluster: Cluster,
    step: str,
) -> None:
    now, fences = clock.now(), Fences(view.ioctx)
    fence = Fence(DEAD, "v1:local:1::a", A, "elsewhere", "its boot", now, now, epoch=1)
    if step == "fence.lift":
        fence = dataclasses.replace(fence, gone=now)
    if step == "fence.forget":
        fence = dataclasses.replace(fence, node_id="node-retired")
    controller.stop()
    cluster.ceph("osd", "blocklist", "add", DEAD, "3600")
    fences.put(fence)
    dying.in_background(installation.controller(f"dies-{step}"), step)
    controller.start()
    if step == "fence.renew":  # once more, when its client is gone
        renewed = fences.get(DEAD)
        assert renewed
        assert renewed.until > now
        assert DEAD in set(leftovers.blocklisted(admin))
        fences.put(dataclasses.replace(renewed, gone=clock.now()))
    commands.wait_until(lambda: fences.get(DEAD) is None, "it is over", timeout=90)
    if step == "fence.forget":  # Ceph ends the entry by itself
        cluster.ceph("osd", "blocklist", "rm", DEAD)
    assert DEAD not in set(leftovers.blocklisted(admin))


def test_other_clients_of_the_node_go_on(
    controller: Driver, both: tuple[Driver, Driver], view: View, made: Volume
) -> None:
    other = volume.create(controller, "goes-on")
    for each in (made, other):
        volume.attach(controller, each, A)
    with used_at(both[0], made), used_at(both[0], other) as target:
        volume.detach(controller, made, A)
        _write(target / "more", "still written")
        assert view.record(made).attachments == {}
    volume.detach(controller, other, A)
    volume.delete(controller, other)


def test_a_call_that_comes_late_does_not_fence_a_newer_attachment(
    controller: Driver, both: tuple[Driver, Driver], view: View, made: Volume
) -> None:
    volume.attach(controller, made, A)
    volume.stage(both[0], made)
    client = view.record(made).attachments[A].clients[0]
    records = store.Records(view.ioctx)
    newer = dataclasses.replace(client, address="10.9.9.9:0/1")
    with faults.frozen(both[0].pid), futures.ThreadPoolExecutor() as callers:
        call = callers.submit(volume.detach, controller, made, A)
        commands.wait_until(
            lambda: view.record(made).attachments[A].state is State.DETACHING, "it asks the node"
        )
        records.change(image_id(made), lambda record: _attached_again(record, newer))
        call.result()
    (attachment,) = view.record(made).attachments.values()
    assert (attachment.state, attachment.clients) == (State.STAGED, (newer,))
    assert fence_of(view, newer.address) is None
    records.change(image_id(made), lambda record: record.without(A))
    _repeated(lambda: volume.unstage(both[0], made))


def _attached_again(record: VolumeRecord, client: Client) -> VolumeRecord:
    """Return the record after another controller has attached it again, and it is staged."""
    generation = record.generation + 1
    attachment = dataclasses.replace(
        record.attachments[A], generation=generation, state=State.STAGED
    )
    changed = record.having(A, attachment.having_clients((client,)))
    return dataclasses.replace(changed, generation=generation)
