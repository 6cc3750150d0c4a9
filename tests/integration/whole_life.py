"""The whole life of a volume of a class, as sidecars and the kubelet call for it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from e2e import volume
from e2e.driver import Driver
from e2e.pool import image_id
from rbdcsi.api import csi_pb2
from tests.integration.controller import at_once
from tests.integration.controller.view import View

NONE: Mapping[str, str] = {}


@dataclass(frozen=True)
class Class:
    """A StorageClass: its parameters, the fields that a capability is made of, and its Secrets."""

    parameters: Mapping[str, str]
    fs_type: str = "ext4"
    mount_options: tuple[str, ...] = ()
    provisioner: Mapping[str, str] = field(default_factory=dict)  # also for controller-publish
    node_stage: Mapping[str, str] = field(default_factory=dict)


def live(controller: Driver, node: Driver, view: View, storage_class: Class, name: str) -> None:
    """Create, attach, stage, publish, write, and take down; return when the data is gone.

    Args:
        controller: a running one.
        node: a running one, which is registered.
        view: of the location that the class's volumes are in.
        storage_class: the class.
        name: of the volume; new.
    """
    secrets, stage_secrets = storage_class.provisioner, storage_class.node_stage
    capability = volume.mounted(storage_class.fs_type, flags=storage_class.mount_options)
    asked = csi_pb2.GetCapacityRequest(
        volume_capabilities=[capability], parameters=storage_class.parameters
    )
    # A new pool has statistics within seconds.
    capacity = at_once.repeated(
        lambda: controller.controller.GetCapacity(asked), codes=("UNAVAILABLE",)
    )
    assert capacity.available_capacity > 0
    made = volume.create(
        controller,
        name,
        size=512 * volume.MIB,
        capability=capability,
        parameters=storage_class.parameters,
        secrets=secrets,
    )
    volume.attach(controller, made, node.name, secrets=secrets)
    listed = controller.controller.ListVolumes(csi_pb2.ListVolumesRequest()).entries
    nodes = {each.volume.volume_id: list(each.status.published_node_ids) for each in listed}
    assert nodes[made.id] == [node.name]
    for data in ("first", "second"):
        volume.stage(node, made, secrets=stage_secrets)
        (volume.publish(node, made) / data).write_text(data)
        volume.unpublish(node, made)
        volume.unstage(node, made)  # has no Secret
    volume.stage(node, made, secrets=stage_secrets)
    assert (made.staging(node) / "first").read_text() == "first"
    volume.unstage(node, made)
    volume.detach(controller, made, node.name, secrets=secrets)
    volume.delete(controller, made, secrets=secrets)
    view.wait_until_gone(image_id(made))
