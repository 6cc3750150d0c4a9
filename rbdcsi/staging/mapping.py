"""An image that a stage call maps, by a client that is in the attachment record.

The order is the point: note on disk, map with a fresh client, prove that this client watches the
image with the volume's id, record it. Only then the device may be written. Its content is read
while the client is proved and recorded, and is used only afterwards.
"""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass

from rbdcsi import errors
from rbdcsi.attachments import rules
from rbdcsi.attachments.fences import Fences
from rbdcsi.attachments.records import Client, VolumeRecord
from rbdcsi.ceph.open_image import OpenImage
from rbdcsi.host import undo
from rbdcsi.host.block import signature
from rbdcsi.host.mappers.interface import MappedDevice, Mapper
from rbdcsi.model.node_options import FORCE
from rbdcsi.runtime import clock, deadlines
from rbdcsi.runtime.futures import Future
from rbdcsi.staging import client as clients
from rbdcsi.staging import other_clients, overtaken
from rbdcsi.staging.device_stack import MAP_SECONDS, require_working, shows
from rbdcsi.staging.format import READ_SECONDS
from rbdcsi.staging.notes import Note
from rbdcsi.staging.stage_call import StageCall
from rbdcsi.telemetry import steps

_WATCH_SECONDS = 3.0  # librbd watches the image before it shows the device; this is for a busy OSD
_PAUSE = 0.05
Watchers = Callable[[], frozenset[str]]


@dataclass(frozen=True)
class MappedVolume:
    """A volume's device, the device's content, and the image, open for reading."""

    device: MappedDevice
    content: Future[signature.Content]
    image: OpenImage


@contextlib.contextmanager
def mapped(call: StageCall, *, begin_reading: bool) -> Iterator[MappedVolume]:
    """Map the volume for the body; an error of the body undoes a mapping that was made for it.

    Args:
        call: the call.
        begin_reading: whether the content is read at once; otherwise it is read at `result`.

    Raises:
        Refused: the attachment has ended; another client has the image open; no mapper can map it.
        Busy: an older device of the volume is in use, or the client cannot be determined.
        Others: see `Mapper.map`.
    """
    device = call.device
    with call.volume.images.opened(call.handle.image_id) as image:
        list_watchers = image.watchers
        watchers = list_watchers()
        if device and (adopted := _adopted(call, device, watchers)):
            with contextlib.ExitStack() as reading:
                with overtaken.explained(call, adopted.client):
                    content = reading.enter_context(_content(device, begin=begin_reading))
                _record(call, device, adopted.client or None)
                with overtaken.explained(call, adopted.client):
                    yield MappedVolume(device, content, image)
            return
        unmapped = _remove_older(call, device) if device else frozenset()
        gone = other_clients.end_earlier(call, watchers, unmapped)
        watchers = list_watchers() if device else watchers
        watchers = other_clients.wait_until_alone(call, watchers, list_watchers)
        if not call.attachment.readonly:
            other_clients.require_breakable(call, image.lock_owners() - watchers)
        new = _new(call, list_watchers, watchers, gone, begin_reading=begin_reading)
        with new as (new_device, content):
            yield MappedVolume(new_device, content, image)


def _content(
    device: MappedDevice, *, begin: bool
) -> contextlib.AbstractContextManager[Future[signature.Content]]:
    """Return a context with the future of the device's content; see `mapped`, `begin_reading`."""
    if begin:
        return signature.reading(device.path, seconds=READ_SECONDS)
    return contextlib.nullcontext(
        Future(lambda: signature.content(device.path, seconds=READ_SECONDS))
    )


def _adopted(call: StageCall, device: MappedDevice, watchers: Set[str]) -> Note | None:
    """Return the note of a device that may be adopted, None if it must be mapped again."""
    note = call.note
    if device.fault or device.readonly != call.attachment.readonly:
        return None
    client = clients.client_of_existing(device, note, call.attachment, watchers)
    if client is None and not clients.is_of_generation(device, note, call.generation):
        return None
    adopted = (note or _note(call, device.mapper)).of_mapped(device, client)
    adopted = dataclasses.replace(adopted, staging_path=str(call.request.staging_path))
    if adopted != note:
        call.node.devices.notes.write(adopted)
    return adopted


def _remove_older(call: StageCall, device: MappedDevice) -> frozenset[str]:
    """Unmap this plugin's device of another attachment, or one that was never recorded.

    Returns:
        The device's client, if it is known.
    """
    node, handle, note = call.node, call.handle, call.note
    client = device.client or (note.client if note else "")
    recorded = {each.address for each in call.attachment.clients}
    if note is None and device.client and device.client not in recorded:
        return frozenset()  # nothing shows that this plugin mapped it
    mounts = [str(e.target) for e in node.mounts.all_mounts() if shows(e, device)]
    if mounts:
        raise errors.Busy(
            f"volume {handle}: {device.path}, mapped for another attachment, is still mounted at "
            f"{', '.join(mounts)}; unstage it there first; if its client was fenced, the node "
            "plugin unmounts it within a minute"
        )
    is_fenced = client and Fences(call.connection.home()).get(client)
    node.devices.unmap(device, FORCE if is_fenced else "")
    steps.done("stage.unmap", volume=str(handle), device=str(device.path))
    node.devices.notes.remove(handle)
    return frozenset((client,)) if client else frozenset()


def _note(call: StageCall, mapper: str) -> Note:
    node, handle, options = call.node, call.handle, call.volume.options
    others = node.devices.others(handle, call.volume.image.fsid)
    return Note(
        volume=str(handle),
        fsid=call.volume.image.fsid,
        generation=call.generation,
        mapper=mapper,
        staging_path=str(call.request.staging_path),
        unmap_option=options.unmap_options.get(mapper, ""),
        others=tuple(device.client for device in others if device.client),
    )


@contextlib.contextmanager
def _new(
    call: StageCall,
    list_watchers: Watchers,
    before: frozenset[str],
    gone: frozenset[str],
    *,
    begin_reading: bool,
) -> Iterator[tuple[MappedDevice, Future[signature.Content]]]:
    """Map the image for the body, by a client of its own; see `mapped`."""
    volume, readonly, devices = call.volume, call.attachment.readonly, call.node.devices
    mapper = devices.mapper_for(volume.image, volume.options, readonly=readonly)
    options = volume.map_options(mapper.name)
    note = _note(call, mapper.name)
    devices.notes.write(note)
    steps.done("stage.note", volume=note.volume, mapper=mapper.name)
    device = _map(call, mapper, options)
    try:
        with contextlib.ExitStack() as reading:
            with overtaken.explained(call, device.client):
                require_working(device)
                steps.done("stage.map", volume=note.volume, device=str(device.path))
                content = reading.enter_context(_content(device, begin=begin_reading))
            client = _client(call, device, list_watchers, before)
            devices.notes.write(note.of_mapped(device, client))
            _record(call, device, client, gone)
            with overtaken.explained(call, client):
                yield device, content
    except errors.ChildAlive:
        raise  # the child works on the device; the repeated call goes on from there
    except errors.RbdCsiError as fault:
        with undo.after(fault, f"unmapping {device.path} again"):
            _undo(call, device)
        raise


def _map(call: StageCall, mapper: Mapper, options: str) -> MappedDevice:
    volume, devices = call.volume, call.node.devices
    try:
        with overtaken.explained(call):
            return mapper.map(
                volume.image,
                volume.access,
                readonly=call.attachment.readonly,
                options=options,
                seconds=MAP_SECONDS,
            )
    except (errors.DeadlineExceeded, errors.Busy):
        raise  # there may be a device later, so the note stays
    except errors.RbdCsiError:
        if devices.find(call.handle) is None:
            devices.notes.remove(call.handle)
        raise


def _client(
    call: StageCall, device: MappedDevice, list_watchers: Watchers, before: frozenset[str]
) -> str | None:
    """Return the device's client, after proof that it watches the image with the volume's id."""
    volume, image_id = call.volume, call.handle.image_id
    record, ends_at = call.stored.record, time.monotonic() + _WATCH_SECONDS
    if device.readonly:  # other nodes may use the image at the same time
        record = volume.records.get(image_id)
    while True:
        try:
            client = clients.client_of_new(device, record, list_watchers(), before)
            break
        except errors.Busy:
            if time.monotonic() > ends_at:
                raise
        time.sleep(deadlines.remaining(_PAUSE))
        record = volume.records.get(image_id)  # another node may have staged just now
    if device.readonly and volume.images.id_of(volume.image.image_name) != image_id:
        raise errors.Busy(f"image {volume.image}: another image has taken its name; try again")
    return client


def _record(
    call: StageCall, device: MappedDevice, client: str | None, gone: Set[str] | None = None
) -> None:
    """Write the device's client into the attachment record, so that it can be fenced.

    Args:
        call: the call.
        device: the device.
        client: of the device; None if it needs no fence.
        gone: of a device that was just mapped, the attachment's clients before it, which are gone.

    Raises:
        Refused: the attachment of this generation has ended, or another client has come into it.
    """
    node, name, machine = call.node, str(call.handle), call.node.machine
    facts = Client(client, machine.machine_id, machine.boot_id, device.mapper) if client else None
    now = clock.now()

    def rule(record: VolumeRecord) -> VolumeRecord:
        rules.require(record, name, node.node_id, call.generation)
        if gone is not None:
            record = rules.release(record, node.node_id, lambda each: each.address in gone, now)
            other_clients.require_only(call, record.attachments[node.node_id], client)
        return rules.stage(record, name, node.node_id, call.generation, facts, now)

    call.volume.records.change(call.handle.image_id, rule, call.stored)
    steps.done("stage.record", volume=name, client=client)


def _undo(call: StageCall, device: MappedDevice) -> None:
    """Unmap the device and release its client; what fails here, the reconciler repeats."""
    devices, handle = call.node.devices, call.handle
    note = devices.note(handle)
    devices.unmap(device, note.unmap_option if note else "")
    client = device.client or (note.client if note else "")
    call.volume.records.change(
        handle.image_id,
        lambda record: rules.release(
            record, call.node.node_id, lambda each: each.address == client, clock.now()
        ),
    )
    devices.notes.remove(handle)
