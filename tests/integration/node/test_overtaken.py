"""The volume is taken from a node while it stages it: the message names that, not a failed step."""

import contextlib
from collections.abc import Iterator
from concurrent import futures

import pytest
import rbd

from e2e import volume
from e2e.clusters import Cluster, commands
from e2e.volume import Volume
from tests import faults
from tests.integration.node import lab as labs
from tests.integration.node.lab import Lab
from tests.integration.node.slow import SlowNode
from tests.refusal import refused

pytestmark = pytest.mark.usefixtures("nothing_left")

MKFS = "mkfs.ext4"


@contextlib.contextmanager
def _formatting(slow: SlowNode, made: Volume) -> Iterator[futures.Future[None]]:
    """Give the call that stages the volume, whose mkfs waits during the body and then goes on."""
    with slow.waiting(MKFS), futures.ThreadPoolExecutor() as callers:
        call = callers.submit(volume.stage, slow.node, made)
        commands.wait_until(lambda: bool(slow.pids(MKFS)), "mkfs starts")
        try:
            yield call
        finally:
            slow.let_go(MKFS)
            futures.wait([call])


def test_detach_that_fences_the_client_ends_the_attachment(lab: Lab, slow: SlowNode) -> None:
    with lab.volume("overtaken-fenced", at=slow.node) as made:
        with _formatting(slow, made) as call:
            volume.detach(lab.controller, made, labs.node_id(slow.node))
            assert len(lab.fences()) == 1
        with refused("FAILED_PRECONDITION", "not attached", "noticed by", "mkfs"):
            call.result()
        labs.wait_until_free(slow.node)
        volume.attach(lab.controller, made, labs.node_id(slow.node))
        volume.stage(slow.node, made)
    commands.wait_until(lab.all_fenced_are_gone, "the node reports")
    lab.lift_fences()


def test_client_that_is_blocklisted_by_hand_can_be_staged_again(
    lab: Lab, slow: SlowNode, cluster: Cluster
) -> None:
    with lab.volume("overtaken-blocklisted", at=slow.node) as made:
        with _formatting(slow, made) as call:
            (client,) = lab.watchers(made)
            cluster.ceph("osd", "blocklist", "add", client)
        with refused("ABORTED", client, "blocklist", "new client", "noticed by"):
            call.result()
        commands.wait_until(lambda: not lab.watchers(made), "Ceph forgets the watch")
        volume.stage(slow.node, made)
        assert lab.watchers(made) == {lab.record(made, slow.node).client} != {client}
        cluster.ceph("osd", "blocklist", "rm", client)


def test_image_that_goes_is_not_found(lab: Lab, slow: SlowNode) -> None:
    with lab.volume("overtaken-gone", at=slow.node) as made:
        name = made.context["imageName"]
        with _formatting(slow, made) as call:
            rbd.RBD().trash_move(lab.ioctx, name)
            for pid in labs.daemons(slow.node).values():  # as if its objects were removed, too
                faults.kill9(pid)
        with refused("NOT_FOUND", name, "does not exist any more", "noticed by"):
            call.result()
        labs.wait_until_free(slow.node)
        commands.wait_until(lambda: not lab.watchers(made), "Ceph forgets the watch")
        rbd.RBD().trash_restore(lab.ioctx, lab.image_id(made), name)
