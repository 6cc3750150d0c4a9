"""An image that a stage call maps: its device, and the record of the device's Ceph client."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rbdcsi import errors
from rbdcsi.attachments import rules
from rbdcsi.attachments.records import Client
from rbdcsi.host import undo
from rbdcsi.host.mappers.interface import MappedDevice
from rbdcsi.model import ids
from rbdcsi.runtime import clock
from rbdcsi.staging.client import client_of
from rbdcsi.staging.device_stack import MAP_SECONDS, require_working
from rbdcsi.staging.this_node import ThisNode
from rbdcsi.staging.volume import Volume
from rbdcsi.telemetry import steps


@dataclass(frozen=True)
class Mapping:
    """A mapped image; nothing may be written to `device` before `record_client`."""

    device: MappedDevice
    node: ThisNode
    volume: Volume
    handle: ids.VolumeHandle
    generation: int
    list_watchers: Callable[[], frozenset[str]]
    before: frozenset[str] | None

    def record_client(self) -> None:
        """Write the device's Ceph client into the attachment record, so that it can be fenced.

        Raises:
            Refused: the attachment of this generation has ended.
            Busy: the client cannot be determined.
        """
        records, image_id, name = self.volume.records, self.handle.image_id, str(self.handle)
        stored = records.read(image_id)
        node_id = self.node.node_id
        rules.require(stored.record, name, node_id, self.generation)
        address = client_of(self.device, node_id, stored.record, self.list_watchers, self.before)
        machine = self.node.machine
        client = address and Client(
            address, machine.machine_id, machine.boot_id, self.device.mapper
        )
        records.change(
            image_id,
            lambda record: rules.stage(
                record, name, node_id, self.generation, client or None, clock.now()
            ),
            stored,
        )
        steps.done("stage.record", volume=name, client=address)

    def undo(self, fault: errors.RbdCsiError) -> None:
        """Unmap the device and record the release; an error of that becomes a note of `fault`."""
        with undo.after(fault, f"unmapping {self.device.path} again"):
            self.node.devices.unmap(self.device, self.volume.options)
            self.volume.records.change(
                self.handle.image_id,
                lambda record: rules.release(
                    record, self.node.node_id, self.node.has_no_device_of, clock.now()
                ),
            )


@contextlib.contextmanager
def mapped(
    node: ThisNode, volume: Volume, handle: ids.VolumeHandle, generation: int, *, readonly: bool
) -> Iterator[Mapping]:
    """Map the image for the body, or adopt its device; an error of the body undoes a new mapping.

    Args:
        node: this node.
        volume: the volume.
        handle: its handle.
        generation: of the attachment by which the volume is used.
        readonly: refuse writes below the filesystem.

    Raises:
        Refused: no mapper can map the image, or its device does not work any more.
        Others: see `Mapper.map`.
    """
    existing, options = node.devices.find(handle), volume.options
    mapper = node.devices.mapper_for(volume.image, options, existing, readonly=readonly)
    with volume.watching(mapper) as list_watchers:
        before = None if existing and not existing.fault else list_watchers()
        with volume.gone_is_not_found():
            device = mapper.map(
                volume.image,
                volume.access,
                readonly=readonly,
                options=options.map_options.get(mapper.name, ""),
                seconds=MAP_SECONDS,
            )
        mapping = Mapping(device, node, volume, handle, generation, list_watchers, before)
        try:
            require_working(device)
            steps.done("stage.map", volume=str(handle), device=str(device.path))
            yield mapping
        except errors.RbdCsiError as fault:
            # a living child works on the device; the repeated call goes on from there
            if before is not None and not isinstance(fault, errors.ChildAlive):
                mapping.undo(fault)
            raise
