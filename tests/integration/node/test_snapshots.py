"""Snapshots of volumes that a node has in use."""

import functools
import os
from pathlib import Path

import pytest

from e2e import groups, snapshots, volume
from e2e.clusters import commands
from rbdcsi import errors
from rbdcsi.ceph import cloning
from rbdcsi.ceph.open_image import OpenImage
from rbdcsi.model import ids
from tests import faults
from tests.integration.controller import at_once
from tests.integration.node import lab as labs
from tests.integration.node.lab import Lab
from tests.refusal import refused

pytestmark = [pytest.mark.usefixtures("nothing_left"), pytest.mark.timeout(300)]


def _write(file: Path, text: str) -> None:
    with file.open("w") as opened:
        opened.write(text)
        opened.flush()
        os.fsync(opened.fileno())


def test_what_was_synced_is_in_the_snapshot(lab: Lab) -> None:
    node, other = lab.nodes
    with lab.volume("snapped") as made:
        volume.stage(node, made)
        file = volume.publish(node, made) / "file"
        _write(file, "before")
        taken = snapshots.create(lab.controller, "s", made.id)
        file.write_text("after!")
        with lab.volume("restored", at=other, source=taken.snapshot_id) as restored:
            volume.stage(other, restored)
            assert (volume.publish(other, restored) / "file").read_text() == "before"
        snapshots.delete(lab.controller, taken.snapshot_id)


def test_no_snapshot_is_taken_of_a_volume_whose_client_does_not_answer(lab: Lab) -> None:
    """librbd would break its lock, and Ceph forgets its watch after 30 s."""
    node = lab.nodes[0]
    with lab.volume("frozen") as made:
        volume.stage(node, made)
        (volume.publish(node, made) / "file").write_text("data")
        (daemon,) = labs.daemons(node).values()
        take = functools.partial(snapshots.create, lab.controller, "s", made.id)
        (client,) = lab.watchers(made)
        with faults.frozen(daemon):
            with refused("ABORTED", "does not answer"):
                take()
            commands.wait_until(lambda: not lab.watchers(made), "the watch is gone")
            with refused("ABORTED", client, "does not answer"):
                take()
            with lab.image(made, readonly=True) as image:
                assert list(image.list_snaps()) == []
        taken = at_once.repeated(take, seconds=60)
        assert list(snapshots.listed(lab.controller)) == [taken]
        with lab.image(made) as image:
            assert [each["name"] for each in image.list_snaps()] == ["csi-snap-s"]
        snapshots.delete(lab.controller, taken.snapshot_id)


def test_a_client_that_does_not_answer_keeps_its_lock(lab: Lab) -> None:
    """Without its lock, it would invalidate the object map with its next write."""
    node = lab.nodes[0]
    with lab.volume("cut-off") as made:
        volume.stage(node, made)
        file = volume.publish(node, made) / "file"
        taken = snapshots.create(lab.controller, "s", made.id)
        group = groups.create(lab.controller, "g", [made.id])
        image_id = ids.parse(made.id).image_id
        (daemon,) = labs.daemons(node).values()
        (client,) = lab.watchers(made)
        _write(file, "before")  # it has the lock again
        with faults.frozen(daemon):
            commands.wait_until(lambda: not lab.watchers(made), "the watch is gone")
            with refused("ABORTED", client, "does not answer"):
                snapshots.delete(lab.controller, taken.snapshot_id)
            with refused("ABORTED", client, "does not answer"):
                groups.delete(lab.controller, group.group_snapshot_id)
            with pytest.raises(errors.Busy, match="does not answer"):
                cloning.flatten(
                    lab.ioctx, image_id, frozenset({client}), lambda: False, lambda: True
                )
            with lab.image(made, readonly=True) as image:
                assert OpenImage(image_id, image).lock_owners() == {client}
        _write(file, "after")
        delete = functools.partial(snapshots.delete, lab.controller, taken.snapshot_id)
        at_once.repeated(delete, seconds=60)
        groups.delete(lab.controller, group.group_snapshot_id)
        with lab.image(made, readonly=True) as image:
            assert image.flags() == 0  # the object map is valid
