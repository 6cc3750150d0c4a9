"""NodeStageVolume and NodeUnstageVolume: map, record, make or check the filesystem, mount; undo.

Each step may be the last one before a crash: every step looks at what is there before it acts, so
the same call again carries on. Undo stands beside do; what undo cannot do, Unstage does.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from rbdcsi import errors
from rbdcsi.attachments import rules, store
from rbdcsi.ceph import connections, locations
from rbdcsi.config.credentials import Credentials
from rbdcsi.host import undo
from rbdcsi.host.block import signature
from rbdcsi.host.fs import mounts, paths
from rbdcsi.host.mappers import interface
from rbdcsi.model import capabilities, ids, node_options
from rbdcsi.runtime import clock
from rbdcsi.staging import device_stack as devices
from rbdcsi.staging import format
from rbdcsi.staging.volume import Volume, opened
from rbdcsi.telemetry import steps

_log = structlog.get_logger()

MOUNT_SECONDS = 60.0
BLOCK_FILE = "device"  # in the staging directory of a raw block volume
_BLOCK = "raw block device"


@dataclass(frozen=True)
class StageRequest:
    """What NodeStageVolume asks for; `generation` is that of the attachment."""

    handle: ids.VolumeHandle
    staging_path: Path
    capability: capabilities.Capability
    generation: int


class Stager:
    """Stages and unstages volumes on one node."""

    def __init__(
        self,
        node_id: str,
        kubelet_dir: Path,
        pooled: connections.Connections,
        node_devices: devices.Devices,
        now: Callable[[], str] = clock.now,
    ) -> None:
        self.node_id = node_id
        self._base = kubelet_dir
        self._mounts = mounts.Mounts(kubelet_dir)
        self._connections = pooled
        self._locations = locations.Locations(pooled)
        self._devices = node_devices
        self._now = now

    def stage(self, request: StageRequest, credentials: Credentials | None = None) -> None:
        """Make the volume ready at the staging path.

        Raises:
            NotFound: no such volume, or no such staging path.
            Refused: not attached here with that generation, or its content is not what it must be.
            AlreadyExists: staged there already, but otherwise.
        """
        handle = request.handle
        with self._connections.use(handle.location.cluster_id, credentials) as connection:
            volume = self._open(connection, handle)
            record = volume.records.get(handle.image_id)
            held = rules.require(record, str(handle), self.node_id, request.generation)
            staged = self._is_staged(request, volume.fs_type(request.capability.fs_type))
            rules.require_covered(held, request.capability, str(handle), self.node_id)
            with contextlib.ExitStack() as undoing, contextlib.ExitStack() as ending:
                device, note = self._map(volume, request, held.readonly, undoing, ending)
                if staged:
                    note()
                elif request.capability.block:
                    note()
                    self._bind(volume, request, device, held.readonly)
                else:
                    # the device is read meanwhile; nothing is written to it before that
                    reading = signature.reading(device.path, seconds=format.READ_SECONDS)
                    found = ending.enter_context(reading)
                    note()
                    self._mount(volume, request, device, found(), held.readonly)
                undoing.pop_all()

    def _is_staged(self, request: StageRequest, fs_type: str) -> bool:
        """Tell whether this is a repeat: the path has this very volume already, as it is wanted.

        Raises:
            AlreadyExists: it has something else, or the volume otherwise.
            Refused: it has the volume, whose device does not work any more.
        """
        path, wanted = request.staging_path, _BLOCK if request.capability.block else fs_type
        whole, block = self._mounts.at(path), self._mounts.at(path / BLOCK_FILE)
        there, found = whole or block, whole.fs_type if whole else _BLOCK
        if there is None:
            return False
        device = self._devices.of_volume(request.handle)
        if device is None or not devices.shown_by(there, device):
            raise errors.AlreadyExists(
                f"staging path {path} has {there.source} ({found}) mounted, which is not volume "
                f"{request.handle}; unmount what is there"
            )
        if found != wanted:
            raise errors.AlreadyExists(
                f"volume {request.handle} is staged at {path} as {found}, not as {wanted}; "
                "unstage it first"
            )
        return True

    def unstage(self, handle: ids.VolumeHandle, staging_path: Path) -> None:
        """Take the volume away from the staging path, unmap it, and record that it is released.

        Raises:
            Busy: it is still in use; the message says by whom.
        """
        found = self._devices.of_volume(handle)
        if found:
            self._require_unpublished(found, staging_path)
        self._mounts.unmount(staging_path, seconds=MOUNT_SECONDS)
        block = staging_path / BLOCK_FILE
        self._mounts.unmount(block, seconds=MOUNT_SECONDS)
        paths.remove_target(block, self._base)
        steps.done("unstage.unmount", volume=str(handle))
        self.let_go(handle, found)

    def let_go(self, handle: ids.VolumeHandle, found: interface.MappedDevice | None) -> None:
        """Unmap the volume's device, if there is one, and record that it is released.

        Raises:
            Busy: the device is mounted or open.
        """
        with self._connections.use(handle.location.cluster_id) as connection:
            if found:
                self._devices.unmap(found, self._options(connection, handle))
                steps.done("unstage.unmap", volume=str(handle), device=str(found.path))
            with contextlib.suppress(errors.NotFound):
                self._release(connection, handle)

    def _require_unpublished(self, device: interface.MappedDevice, staging_path: Path) -> None:
        """Refuse while a target shows the device: its name may soon be another volume's."""
        staged = self._mounts.under(staging_path)
        for entry in self._mounts.under(self._base):
            if entry not in staged and devices.belongs(entry, device):
                raise errors.Busy(
                    f"{staging_path}: {device.path} of image {device.image_id} is still mounted at "
                    f"{entry.target}; NodeUnpublishVolume must come first"
                )

    def _open(self, connection: connections.Connection, handle: ids.VolumeHandle) -> Volume:
        return opened(connection, self._locations.open(connection, handle.location), handle)

    def _map(
        self,
        volume: Volume,
        request: StageRequest,
        readonly: bool,
        undoing: contextlib.ExitStack,
        ending: contextlib.ExitStack,
    ) -> tuple[interface.MappedDevice, Callable[[], None]]:
        """Map; beside the device comes what notes its client in the record, so it can be fenced.

        That must be called next, before `ending` ends.
        """
        there, options = self._devices.of_volume(request.handle), volume.options
        mapper = self._devices.mapper_for(volume.image, options, there, readonly=readonly)
        watching = ending.enter_context(volume.watching(mapper))
        before = None if there and not there.fault else watching()
        device = mapper.map(
            volume.image,
            volume.access,
            readonly=readonly,
            options=options.map_options.get(mapper.name, ""),
            seconds=devices.MAP_SECONDS,
        )
        if before is not None:
            undoing.push(self._unmapping(volume, request, device))
        devices.path_of(device)
        steps.done("stage.map", volume=str(request.handle), device=str(device.path))
        return device, lambda: self._record(volume, request, device, watching, before)

    def _record(
        self,
        volume: Volume,
        request: StageRequest,
        device: interface.MappedDevice,
        watching: Callable[[], frozenset[str]],
        before: frozenset[str] | None,
    ) -> None:
        name, generation = str(request.handle), request.generation
        seen = volume.records.read(request.handle.image_id)
        rules.require(seen.record, name, self.node_id, generation)
        client = devices.client_of(device, self.node_id, seen.record, watching, before)
        volume.records.change(
            request.handle.image_id,
            lambda r: rules.stage(r, name, self.node_id, generation, client, self._now()),
            seen,
        )
        steps.done("stage.record", volume=name, client=client)

    def _unmapping(
        self, volume: Volume, request: StageRequest, device: interface.MappedDevice
    ) -> Callable[..., bool]:
        """Return the undo of a mapping that this call made."""

        def unmap(_kind: object, fault: BaseException | None, _trace: object) -> bool:
            if isinstance(fault, errors.RbdCsiError):
                with undo.after(fault, f"unmapping {device.path} again"):
                    self._devices.unmap(device, volume.options)
                    self._note_release(volume.records, request.handle)
            return False

        return unmap

    def _bind(
        self, volume: Volume, request: StageRequest, device: interface.MappedDevice, readonly: bool
    ) -> None:
        if volume.may_be_formatted and not readonly:
            format.prepare_raw(volume.marked(request.generation), volume.fs_type(""))
        block = request.staging_path / BLOCK_FILE
        paths.create_target(block, self._base, "file")
        self._mounts.bind(device.path, block, readonly=readonly, seconds=MOUNT_SECONDS)
        _mounted(request)

    def _mount(
        self,
        volume: Volume,
        request: StageRequest,
        device: interface.MappedDevice,
        found: signature.Blank | signature.Signature,
        readonly: bool,
    ) -> None:
        if volume.raw_only:
            raise errors.Refused(
                f"volume {request.handle} was made for raw block use only, and may hold data that "
                "no signature tells of, so it gets no filesystem; use it as a block device"
            )
        fs_type = volume.fs_type(request.capability.fs_type)
        format.prepare(
            volume.marked(request.generation),
            device.path,
            found,
            fs_type,
            volume.options.mkfs_options,
            readonly=readonly,
        )
        options = [*request.capability.mount_flags, *(("ro",) if readonly else ())]
        self._mounts.mount(
            device.path, request.staging_path, fs_type, options, seconds=MOUNT_SECONDS
        )
        _mounted(request)

    def _options(
        self, connection: connections.Connection, handle: ids.VolumeHandle
    ) -> node_options.NodeOptions:
        """Return the volume's options; the defaults if image or metadata cannot be read."""
        try:
            return self._open(connection, handle).options
        except errors.NotFound:
            return node_options.NodeOptions()
        except errors.Failed as error:
            _log.warning("unmapped without its options", volume=str(handle), error=str(error))
            return node_options.NodeOptions()

    def _release(self, connection: connections.Connection, handle: ids.VolumeHandle) -> None:
        place = self._locations.open(connection, handle.location)
        self._note_release(store.Records(place.ioctx), handle)
        steps.done("unstage.record", volume=str(handle))

    def _note_release(self, records: store.Records, handle: ids.VolumeHandle) -> None:
        records.change(
            handle.image_id, lambda record: rules.release(record, self.node_id, self._now())
        )


def _mounted(request: StageRequest) -> None:
    steps.done("stage.mount", volume=str(request.handle), path=str(request.staging_path))
