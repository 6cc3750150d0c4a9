"""Notes on this node's disk: which volumes this plugin maps, from before the mapping to its end.

So a plugin that was killed finds its own devices again, can unstage them without Ceph, and leaves
the devices of other programs alone.
"""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from rbdcsi import errors
from rbdcsi.host.fs import mountinfo
from rbdcsi.host.fs.mounts import Mounts
from rbdcsi.host.mappers.interface import MappedDevice
from rbdcsi.model import ids, stored

_log = structlog.get_logger()

BLOCK_FILE = "device"  # in the staging directory of a raw block volume


def shown_at(mounts: Mounts, path: Path) -> mountinfo.MountEntry | None:
    """Return the mount that shows a volume at its staging path, None if there is none.

    It does not look into a filesystem, which answers EIO if its device is dead.
    """
    return mounts.mount_at(path) or mounts.mount_at(path / BLOCK_FILE)


@dataclass(frozen=True)
class Note:
    """A volume that this plugin maps, or is about to map.

    `generation` is that of the attachment. `others` are the clients of the image's devices that
    other programs had mapped before. `device` and `client` are empty until they are known; a
    read-only device may have no client. `unmap_option` is that of the mapper.
    """

    volume: str
    fsid: str
    generation: int
    mapper: str
    staging_path: str
    unmap_option: str
    others: tuple[str, ...] = ()
    device: str = ""
    client: str = ""
    unknown: Mapping[str, Any] = stored.unknown_fields()

    @property
    def handle(self) -> ids.VolumeHandle:
        """The volume's handle."""
        return ids.parse(self.volume)

    def of_mapped(self, device: MappedDevice, client: str | None) -> "Note":
        """Return the note with the device and its client, None if it has none."""
        return dataclasses.replace(self, device=str(device.path), client=client or "")

    def is_staged(self, mounts: Mounts) -> bool:
        """Return whether the staging path has a mount."""
        if not self.staging_path:  # an older driver staged it
            return False
        return shown_at(mounts, Path(self.staging_path)) is not None

    def is_about(self, device: MappedDevice) -> bool:
        """Return whether this plugin mapped that device of the volume's image.

        Only krbd's devices may be another program's; krbd reports their clients.
        """
        if device.client is None:
            return True
        return device.client == self.client if self.client else device.client not in self.others


NOTE = stored.Kind(
    Note,
    name="note of a mapped volume",
    remedy="so a device of that volume may stay mapped: look at `losetup`, `rbd device list` and "
    "`findmnt`, unmap it, then remove the file",
)


class Notes:
    """The notes, one file a volume, in a directory of their own."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory = directory

    def write(self, note: Note) -> None:
        """Write the volume's note; the file has its old or its new text at every moment."""
        file = self._file(note.handle)
        draft = file.with_suffix(".new")
        draft.write_text(NOTE.encode(note))
        draft.rename(file)

    def read(self, handle: ids.VolumeHandle) -> Note | None:
        """Return the volume's note, None if it has none.

        Raises:
            Failed: it is damaged.
        """
        file = self._file(handle)
        try:
            return NOTE.decode(file.read_text(errors="backslashreplace"), str(file))
        except FileNotFoundError:
            return None

    def remove(self, handle: ids.VolumeHandle) -> None:
        """Remove the volume's note, if it has one."""
        self._file(handle).unlink(missing_ok=True)

    def all(self) -> Iterator[Note]:
        """Yield every note; a damaged one is logged and skipped."""
        for file in sorted(self._directory.glob("*.json")):
            with contextlib.suppress(FileNotFoundError):  # another call removed it just now
                try:
                    yield NOTE.decode(file.read_text(errors="backslashreplace"), str(file))
                except errors.Failed as error:
                    _log.warning("skipped a damaged note", error=str(error))

    def _file(self, handle: ids.VolumeHandle) -> Path:
        return self._directory / f"{handle}.json"  # a handle has no '/', nor a '.' at its start
