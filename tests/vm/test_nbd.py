"""What is rbd-nbd's alone: a process that may still start when its plugin dies."""

from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from e2e import volume
from e2e.clusters import Cluster
from tests import faults
from tests.vm import lab as labs
from tests.vm.lab import Lab

STATE = "/run/rbdcsi/nbd"
# It has been sent SIGTERM (signal 15), which waits while it is stopped; or it was forgotten.
ENDING = "grep -q '^ShdPnd:.*[4567c-f]...$' /proc/$(pgrep -o -x rbd-nbd)/status"
FORGOTTEN = f'[ -z "$(ls -A {STATE})" ]'


def test_one_that_was_starting_when_the_plugin_died_maps_nothing(
    lab: Lab, cluster: Cluster
) -> None:
    node = lab.nodes[0]
    with lab.volume("nbd") as made, ThreadPoolExecutor() as background:
        stopping = background.submit(node.run, "until pkill -STOP -x rbd-nbd; do :; done")
        call = background.submit(volume.stage, node, made)
        stopping.result()
        with faults.frozen_osd(cluster):
            node.run("pkill -CONT -x rbd-nbd")
            # It forks before it opens the image.
            node.run('until [ "$(pgrep -c -x rbd-nbd)" = 2 ]; do sleep 0.1; done; sleep 3')
            node.kill()
            node.run("pkill -STOP -x rbd-nbd")
        with pytest.raises(grpc.RpcError):
            call.result()
        assert node.run(f"pgrep -c -x rbd-nbd; ls {STATE} | wc -l").split() == ["2", "1"]
        node.start()
        node.run(f"until {ENDING} || {FORGOTTEN}; do sleep 0.1; done")

        node.run("pkill -CONT -x rbd-nbd; sleep 5")
        assert node.run("cat /sys/block/nbd*/pid || true") == ""
        assert lab.watchers(made) == set()
        volume.unstage(node, made)
        assert labs.held_at(node) == []


def test_one_keeps_its_directory_locked_while_the_device_is_mapped(lab: Lab) -> None:
    node = lab.nodes[0]
    with lab.volume("nbd") as made:
        volume.stage(node, made)
        try_lock = f"flock --nonblock --conflict-exit-code 9 {STATE}/* true || echo $?"
        assert node.run(try_lock) == "9"

        volume.unstage(node, made)
        assert labs.held_at(node) == []
