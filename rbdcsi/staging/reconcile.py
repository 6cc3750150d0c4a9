"""Makes this node's devices and the records in Ceph agree, at start, on request, and each minute.

- A filesystem that an earlier process left frozen is thawed, before Ceph is asked anything.
- A device whose client is fenced is removed with its mounts.
- A device that no attachment accounts for is unmapped.
- A device that the kubelet has forgotten is unmapped and released: it forgets a stage that was cut
  off if the plugin does not answer its next call (csi_attacher.go, MountDevice).
- A client that is recorded as this machine's, without a device, is released.
"""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import structlog

from rbdcsi import errors
from rbdcsi.attachments import rules, store
from rbdcsi.attachments.records import Attachment, Client, State
from rbdcsi.ceph.connection import Connection
from rbdcsi.host.mappers.interface import MappedDevice
from rbdcsi.model import ids
from rbdcsi.nodes.locations import locations_of
from rbdcsi.runtime import clock
from rbdcsi.staging import fenced
from rbdcsi.staging.client import client_of_existing
from rbdcsi.staging.device_stack import belongs_to, shows
from rbdcsi.staging.notes import BLOCK_FILE, Note
from rbdcsi.staging.thaw import thaw_left
from rbdcsi.staging.this_node import ThisNode
from rbdcsi.staging.unstage import Unstager
from rbdcsi.telemetry import metrics

_log = structlog.get_logger()

PAUSE_SECONDS = 60.0
_SHORT_PAUSE_SECONDS = 2.0
_FENCE_SECONDS = 20.0  # a controller fences soon after it has asked in vain
Work = Callable[[], None]
Hold = Callable[[ids.VolumeHandle], contextlib.AbstractContextManager[None]]


class Reconciler:
    """Reconciles one node; each volume under its lock, so no call works on it."""

    def __init__(self, node: ThisNode, hold: Hold) -> None:
        """Take this node, and `hold`, which keeps calls off a volume or raises Busy."""
        self._node = node
        self._unstager = Unstager(node)
        self._hold = hold
        self._idle: frozenset[MappedDevice] = frozenset()
        self._to_release: set[ids.VolumeHandle] = set()
        self._fence_expected_until = 0.0  # monotonic

    def release_soon(self, handle: ids.VolumeHandle) -> bool:
        """Return whether the next run releases a volume that a controller wants to detach.

        The caller wakes the reconciler. It releases the volume if no workload uses it: its device
        is mounted at the staging path only. No call of Ceph and no child process, so a thread of
        librados may ask.
        """
        note = self._node.devices.note(handle)
        if note is None or not self._is_unpublished(note):
            self._fence_expected_until = time.monotonic() + _FENCE_SECONDS
            return False
        self._to_release.add(handle)
        return True

    def run(self) -> float:
        """Reconcile once, and return the seconds until the next time."""
        self._thaw_left()
        while self._to_release:
            self._release(self._to_release.pop())
        for cluster in self._node.connections.configured.clusters:
            metrics.DISCARDED.labels(cluster.cluster_id)  # from 0: Prometheus sees the first one
            with (
                _tolerated(f"cluster {cluster.cluster_id}"),
                self._node.connections.use(cluster.cluster_id) as connection,
            ):
                self._remove_fenced(connection)
                self._reconcile_devices(connection)
                self._reconcile_attachments(connection)
        with _tolerated("mapped devices"):
            self._idle = self._idle_devices()
        _log.debug("reconciled")
        may_be_frozen = bool(self._node.freeze_marks.all())
        is_soon = may_be_frozen or time.monotonic() < self._fence_expected_until
        return _SHORT_PAUSE_SECONDS if is_soon else PAUSE_SECONDS

    def _thaw_left(self) -> None:
        for handle in self._node.freeze_marks.all():
            with _tolerated(str(handle)), self._hold(handle):
                thaw_left(self._node, handle)

    def _is_unpublished(self, note: Note) -> bool:
        staging = Path(note.staging_path)
        path = staging.parent.resolve() / staging.name  # nothing is read from the volume itself
        return not any(
            entry.target not in {path, path / BLOCK_FILE}
            and (entry.source == note.device or entry.root == f"/{Path(note.device).name}")
            for entry in self._node.mounts.all_mounts()
            if note.device
        )

    def _release(self, handle: ids.VolumeHandle) -> None:
        """Unstage a volume that is being detached."""
        with _tolerated(str(handle)), self._hold(handle):
            note, attachment = self._node.devices.note(handle), self._attachment(handle)
            if note and attachment and attachment.state is State.DETACHING:
                _log.info("releasing a volume that is being detached", volume=str(handle))
                self._unstager.unstage(handle, Path(note.staging_path))

    def _remove_fenced(self, connection: Connection) -> None:
        for fence in list(fenced.fences_of(self._node, connection)):
            with _tolerated(fence.volume), self._hold(ids.parse(fence.volume)):
                fenced.discard(self._node, connection, fence)

    def _reconcile_devices(self, connection: Connection) -> None:
        """Unmap devices that nothing needs, and remove notes of volumes that are not mapped."""
        devices = self._node.devices
        notes = list(devices.notes.all())
        handles = {
            note.handle
            for note in notes
            if note.handle.location.cluster_id == connection.cluster_id
        }
        # A volume may have been staged under another name of its cluster.
        handles |= {
            _handle_of(connection, device)
            for device in devices.all()
            if device.fsid in (None, connection.fsid)
            and not any(belongs_to(device, note.handle, note.fsid) for note in notes)
        }
        for handle in handles:
            with _tolerated(str(handle)):
                # Without work no lock is taken, which would make a call fail.
                if self._work(connection, handle):
                    with self._hold(handle):
                        if work := self._work(connection, handle):
                            work()

    def _work(self, connection: Connection, handle: ids.VolumeHandle) -> Work | None:
        """Return what must be done so that the volume's device and its record agree."""
        devices = self._node.devices
        device, note = devices.find(handle), devices.note(handle)
        try:
            attachment = self._attachment(handle)
        except errors.Forbidden:
            if note is None:
                return None  # in a pool of another program
            raise
        if device is None:
            return functools.partial(self._unstager.release, handle, None) if note else None
        client = device.client or (note.client if note else "")
        if note is None and attachment:
            client = self._recorded_client(connection, handle, device, attachment)
            if client:
                return functools.partial(
                    self._take_over, connection, handle, device, client, attachment
                )
        if note is None and device.client:
            return None  # another program's
        recorded = {each.address for each in attachment.clients} if attachment else set()
        is_needed = (
            attachment is not None
            and attachment.state is not State.DETACHING
            and (client in recorded or (device.readonly and not client))
        )
        if not self._is_idle(device) or (is_needed and device not in self._idle):
            return None
        return functools.partial(self._unmap, handle, device)

    def _unmap(self, handle: ids.VolumeHandle, device: MappedDevice) -> None:
        _log.info("unmapping an unused device", volume=str(handle), device=str(device.path))
        self._unstager.release(handle, device)

    def _recorded_client(
        self,
        connection: Connection,
        handle: ids.VolumeHandle,
        device: MappedDevice,
        attachment: Attachment,
    ) -> str:
        """Return the client of a device without a note if the attachment has it, or ""."""
        images = self._node.locations.open(connection, handle.location).images
        try:
            watchers = images.watchers(handle.image_id)
        except errors.NotFound:
            watchers = frozenset()
        return client_of_existing(device, None, attachment, watchers) or ""

    def _take_over(
        self,
        connection: Connection,
        handle: ids.VolumeHandle,
        device: MappedDevice,
        client: str,
        attachment: Attachment,
    ) -> None:
        """Write the note of a device that an older driver mapped, and record its client's facts."""
        node, machine = self._node, self._node.machine
        facts = Client(client, machine.machine_id, machine.boot_id, device.mapper)
        records = store.Records(node.locations.open(connection, handle.location).ioctx)
        records.change(
            handle.image_id,
            lambda record: rules.stage(
                record, str(handle), node.node_id, attachment.generation, facts, clock.now()
            ),
        )
        note = Note(str(handle), connection.fsid, attachment.generation, device.mapper, "", "")
        node.devices.notes.write(note.of_mapped(device, client))

    def _reconcile_attachments(self, connection: Connection) -> None:
        """Release each attachment of this node that has clients of this machine but no device."""
        node = self._node
        cluster_id = connection.cluster_id
        for place in locations_of(node.connections, node.locations, cluster_id, node.node_id):
            gone = contextlib.suppress(errors.NotFound, errors.Forbidden)  # or not this user's
            with _tolerated(f"pool number {place.pool_id}"), gone:
                ioctx = connection.ioctx(place.pool_id, place.namespace)
                for image_id in store.Records(ioctx).attached_to(node.node_id):
                    self._reconcile_attachment(ids.VolumeHandle(place, image_id))

    def _reconcile_attachment(self, handle: ids.VolumeHandle) -> None:
        with _tolerated(str(handle)):
            attachment = self._attachment(handle)
            if attachment is None or not any(map(self._may_be_here, attachment.clients)):
                return
            if self._node.devices.find(handle):
                return
            with self._hold(handle):
                if self._node.devices.find(handle) is None:
                    _log.info("releasing a volume without a device", volume=str(handle))
                    self._unstager.release(handle, None)

    def _may_be_here(self, client: Client) -> bool:
        return client.machine_id in {"", self._node.machine.machine_id}

    def _attachment(self, handle: ids.VolumeHandle) -> Attachment | None:
        with self._node.connections.use(handle.location.cluster_id) as connection:
            try:
                location = self._node.locations.open(connection, handle.location)
            except errors.NotFound:  # the pool is gone
                return None
            record = store.Records(location.ioctx).get(handle.image_id)
        return record.attachments.get(self._node.node_id)

    def _is_idle(self, device: MappedDevice) -> bool:
        return not any(shows(entry, device) for entry in self._node.mounts.all_mounts())

    def _idle_devices(self) -> frozenset[MappedDevice]:
        """Return the devices that are mapped now and mounted nowhere."""
        mapped, entries = self._node.devices.all(), self._node.mounts.all_mounts()
        return frozenset(
            device for device in mapped if not any(shows(entry, device) for entry in entries)
        )


def _handle_of(connection: Connection, device: MappedDevice) -> ids.VolumeHandle:
    location = ids.LocationId(connection.cluster_id, device.pool_id, device.namespace)
    return ids.VolumeHandle(location, device.image_id)


@contextlib.contextmanager
def _tolerated(looked_at: str) -> Iterator[None]:
    try:
        yield
    except errors.Busy as error:
        _log.debug("not reconciled, to be repeated", looked_at=looked_at, error=str(error))
    except (errors.RbdCsiError, OSError) as error:
        _log.warning("not reconciled, to be repeated", looked_at=looked_at, error=str(error))
