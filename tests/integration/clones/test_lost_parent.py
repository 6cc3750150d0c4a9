"""Clones whose flattening was cut off at its end, when Ceph has removed their parent's snapshot."""

import pytest
import rbd

from e2e import driver, volume
from e2e.clusters import commands
from e2e.volume import MIB, Volume
from rbdcsi.ceph.flattening import Claims
from rbdcsi.ceph.images import Images
from rbdcsi.volumes.clone_upkeep import CloneUpkeep
from tests.integration.clones.lost_parent import lose
from tests.integration.node.lab import Lab

pytestmark = pytest.mark.usefixtures("nothing_left")

SIZE = 64 * MIB
OBJECT = 4 * MIB
CLIENT = "127.0.0.1:0/4242"  # of a process that is gone


def _copy_of(lab: Lab, source: Volume, name: str) -> Volume:
    return volume.create(
        lab.controller, name, size=SIZE, capability=source.capability, source=source.id
    )


def _copy_all(lab: Lab, copy: Volume) -> None:
    """Write each object of a copy, as flattening does."""
    with lab.image(copy) as image:
        for at in range(0, SIZE, OBJECT):
            image.write(image.read(at, OBJECT), at)


def _end_claims(lab: Lab) -> None:
    """Look after clones as a controller does each minute."""
    pooled = lab.pooled()
    CloneUpkeep(driver.CLUSTER_ID, pooled, pooled).run()
    assert Claims(lab.ioctx).all() == {}
    lab.cluster.ceph("osd", "blocklist", "rm", CLIENT)


def test_copy_of_which_all_was_copied_is_detached_and_keeps_its_data(lab: Lab) -> None:
    with lab.volume("source", size=SIZE, capability=volume.raw()) as source:
        lab.write(source, b"data", 20 * MIB)
        copy = _copy_of(lab, source, "copy")
        before, image_id, claims = lab.checksum(copy), lab.image_id(copy), Claims(lab.ioctx)
        assert claims.begin(image_id, CLIENT)
        _copy_all(lab, copy)
        assert claims.note_last(image_id, CLIENT)
        lose(lab.ioctx, image_id)

        _end_claims(lab)

        assert lab.checksum(copy) == before
        with lab.image(copy) as image, pytest.raises(rbd.ImageNotFound):
            image.parent_info()
        volume.delete(lab.controller, copy)


def test_copy_that_may_lack_data_stays_as_it_is_until_it_is_deleted(lab: Lab) -> None:
    with lab.volume("source", size=SIZE, capability=volume.raw()) as source:
        lab.write(source, b"data", 20 * MIB)
        copy = _copy_of(lab, source, "copy")
        image_id = lab.image_id(copy)
        assert Claims(lab.ioctx).begin(image_id, CLIENT)
        lose(lab.ioctx, image_id)

        _end_claims(lab)

        header = Images(lab.ioctx).header(image_id)
        assert header
        assert header.parent
        volume.delete(lab.controller, copy)
        commands.wait_until(lambda: not Images(lab.ioctx).exists(image_id), "it is gone")


def test_data_is_removed_only_after_the_flattening_has_ended(lab: Lab) -> None:
    with lab.volume("source", size=SIZE, capability=volume.raw()) as source:
        lab.write(source, b"data", 20 * MIB)
        lab.controller.stop()
        lab.controller.start()  # its next look at all clones is a minute away
        copy = _copy_of(lab, source, "copy")
        image_id = lab.image_id(copy)
        assert Claims(lab.ioctx).begin(image_id, CLIENT)
        volume.delete(lab.controller, copy)
        refusal = f"image {image_id} is being flattened, which is broken off now"
        commands.wait_until(lambda: refusal in lab.controller.log.read_text(), "it waits")
        assert not Claims(lab.ioctx).is_undisturbed(image_id, CLIENT)
        assert image_id in lab.trashed()
        lose(lab.ioctx, image_id)

        _end_claims(lab)

        commands.wait_until(lambda: not Images(lab.ioctx).exists(image_id), "it is gone")


def test_claim_is_marked_and_ended_by_its_own_client_only(lab: Lab) -> None:
    claims, image_id = Claims(lab.ioctx), "10000000"
    assert claims.begin(image_id, CLIENT)
    assert not claims.begin(image_id, "127.0.0.1:0/1")
    assert not claims.note_last(image_id, "127.0.0.1:0/1")
    assert not claims.all()[image_id].is_at_last
    assert claims.note_last(image_id, CLIENT)
    assert claims.note_last(image_id, CLIENT)
    assert claims.is_undisturbed(image_id, CLIENT)
    assert claims.all()[image_id].is_at_last
    claims.break_off(image_id, claims.begin_get(image_id).result() or "")
    assert not claims.is_undisturbed(image_id, CLIENT)
    assert not claims.note_last(image_id, CLIENT)
    assert claims.all()[image_id].is_at_last
    claims.end(image_id, "127.0.0.1:0/1")
    assert claims.all()[image_id].client == CLIENT
    claims.end(image_id, CLIENT)
    assert claims.all() == {}
