"""A program of the host that fails: the message has step, object and cause, and no arguments."""

from concurrent import futures
from typing import cast

import grpc
import pytest
import rbd

from e2e import volume
from e2e.clusters import commands
from tests.integration.node import lab as labs
from tests.integration.node.lab import Lab
from tests.integration.node.slow import SlowNode
from tests.refusal import refused

pytestmark = pytest.mark.usefixtures("nothing_left")

DAEMON = "qemu-storage-daemon"


def test_failed_program_is_named_by_its_step_and_its_arguments_are_in_the_log_only(
    lab: Lab, slow: SlowNode
) -> None:
    with lab.volume("message", at=slow.node) as made, futures.ThreadPoolExecutor() as callers:
        with slow.waiting(DAEMON):
            call = callers.submit(volume.stage, slow.node, made)
            commands.wait_until(lambda: bool(slow.pids(DAEMON)), "the daemon starts")
            slow.let_go(DAEMON, exit_code="3")
            with pytest.raises(grpc.RpcError) as caught:
                call.result()
        error = cast(grpc.Call, caught.value)
        details = error.details() or ""
        assert error.code() is grpc.StatusCode.INTERNAL
        assert details.startswith("exporting ")
        assert made.context["imageName"] in details
        assert details.endswith("was told to fail")
        assert "{" not in details
        assert "--" not in details
        assert len(details) < 200
        assert "--blockdev" in slow.node.words()
        volume.stage(slow.node, made)


def test_image_that_goes_while_it_is_mapped_is_not_found(lab: Lab, slow: SlowNode) -> None:
    with lab.volume("message-gone", at=slow.node) as made, futures.ThreadPoolExecutor() as callers:
        with slow.waiting(DAEMON):
            call = callers.submit(volume.stage, slow.node, made)
            commands.wait_until(lambda: bool(slow.pids(DAEMON)), "the daemon starts")
            rbd.RBD().trash_move(lab.ioctx, made.context["imageName"])
            slow.let_go(DAEMON)
            with refused("NOT_FOUND", made.context["imageName"], "does not exist any more"):
                call.result()
        rbd.RBD().trash_restore(lab.ioctx, lab.image_id(made), made.context["imageName"])
        assert labs.held_at(slow.node) == []
        volume.stage(slow.node, made)
