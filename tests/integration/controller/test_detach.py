"""ControllerUnpublishVolume: afterwards the node cannot write, or the call says why not."""

import pytest
import rbd

from e2e import volume
from e2e.driver import Driver, Installation
from e2e.pool import image_id
from e2e.volume import Volume
from tests.integration.controller.view import View
from tests.integration.node.conftest import wait_until_registered
from tests.refusal import refused

pytestmark = pytest.mark.usefixtures("nothing_left")

A, B = "node-a", "node-b"


@pytest.fixture(autouse=True)
def node(nodes: tuple[Driver, Driver], view: View) -> Driver:
    """Give the first of two nodes that run and are registered."""
    for each in nodes:
        wait_until_registered(view.ioctx, each)
    return nodes[0]


def test_a_repeat_is_fine_and_harms_no_other_node(
    controller: Driver, view: View, made: Volume
) -> None:
    volume.attach(controller, made, A)
    volume.detach(controller, made, A)
    volume.detach(controller, made, A)
    volume.attach(controller, made, B)
    volume.detach(controller, made, A)  # late
    assert view.record(made).attachments.keys() == {B}
    assert view.attached_to(A) == frozenset()
    assert view.attached_to(B) == {image_id(made)}


def test_without_a_node_it_is_detached_from_all(
    controller: Driver, view: View, made: Volume
) -> None:
    shared = Volume(made.id, volume.raw("MULTI_NODE_MULTI_WRITER"))
    for node_id in (A, B):
        volume.attach(controller, shared, node_id)
    volume.detach(controller, made, "")
    assert view.record(made).attachments == {}
    assert view.attached_to(A) == view.attached_to(B) == frozenset()


@pytest.mark.parametrize("volume_id", ["no handle", "v1:local:9999::a", "v1:local:{pool}::123456"])
@pytest.mark.parametrize("node_id", [A, "ghost", ""])
def test_a_volume_or_node_that_does_not_exist_is_detached_already(
    controller: Driver, view: View, volume_id: str, node_id: str
) -> None:
    text = volume_id.format(pool=view.ioctx.get_pool_id())
    volume.detach(controller, Volume(text, volume.mounted()), node_id)


def test_a_volume_whose_image_is_gone_is_detached(controller: Driver, view: View) -> None:
    made = volume.create(controller, "gone")
    volume.attach(controller, made, A)
    rbd.RBD().remove(view.ioctx, "csi-gone")
    volume.detach(controller, made, A)
    assert view.record(made).attachments == {}
    assert view.attached_to(A) == frozenset()
    volume.delete(controller, made)


@pytest.mark.parametrize("node_id", [A, ""])
def test_without_fences_a_staged_volume_stays_attached_and_its_client_is_named(
    installation: Installation, node: Driver, view: View, made: Volume, node_id: str
) -> None:
    controller = installation.controller(f"never{len(node_id)}", "--fence=never").start()
    volume.attach(controller, made, A)
    volume.stage(node, made)
    volume.publish(node, made)
    client = view.record(made).attachments[A].client
    assert client
    with refused("FAILED_PRECONDITION", f"node '{A}'", client, "attachments release", made.id):
        volume.detach(controller, made, node_id)
    # from here on the node is refused, and no other node gets the volume either
    with refused("FAILED_PRECONDITION", "is being detached"):
        volume.stage(node, made)
    with refused("FAILED_PRECONDITION", f"is detaching at node '{A}'"):
        volume.attach(controller, made, B)
    with refused("ABORTED", f"is being detached from node '{A}'"):
        volume.attach(controller, made, A)
    with refused("FAILED_PRECONDITION", f"'{A}' (detaching since"):
        volume.delete(controller, made)
    volume.unpublish(node, made)
    volume.unstage(node, made)  # it releases the volume also while it is being detached
    assert view.record(made).attachments[A].clients == ()
    volume.detach(controller, made, node_id)
    assert view.record(made).attachments == {}
    controller.stop()


def test_a_client_that_nobody_accounts_for_does_not_keep_the_volume_from_moving(
    controller: Driver, view: View, made: Volume
) -> None:
    volume.attach(controller, made, A)
    with view.image(made, readonly=False) as image:
        assert list(image.watchers_list())
        volume.detach(controller, made, A)
    assert view.record(made).attachments == {}


@pytest.mark.parametrize("node_id", [A, "ghost", ""])
def test_a_volume_of_a_cluster_that_is_not_configured_is_not_said_to_be_detached(
    controller: Driver, node_id: str
) -> None:
    elsewhere = Volume("v1:elsewhere:1::a", volume.mounted())
    with refused("FAILED_PRECONDITION", "cluster elsewhere", "nothing was changed"):
        volume.detach(controller, elsewhere, node_id)
    with refused("FAILED_PRECONDITION", "cluster elsewhere", "nothing was changed"):
        volume.delete(controller, elsewhere)


def test_an_attachment_of_an_earlier_generation_cannot_be_staged(
    controller: Driver, node: Driver, made: Volume
) -> None:
    volume.attach(controller, made, A)
    late = Volume(made.id, made.capability, publish_context=dict(made.publish_context))
    volume.detach(controller, made, A)
    with refused("FAILED_PRECONDITION", f"is not attached to node '{A}'"):
        volume.stage(node, late)
    volume.attach(controller, made, A)
    with refused("FAILED_PRECONDITION", "generation 2", "generation 1", "has ended"):
        volume.stage(node, late)
