"""One directory for each image that a mapper of user space has mapped, with the record of which.

Written before anything else is done and removed last, so that whatever a crash leaves is found.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import structlog

from rbdcsi import errors
from rbdcsi.host.mappers.interface import Image, MappedDevice
from rbdcsi.model import stored

_log = structlog.get_logger()

_RECORD = "image.json"


@dataclass(frozen=True)
class Record:
    """Which image the directory is for, by the names it had; the rest is asked of the kernel."""

    image: Image
    readonly: bool

    def device(self, mapper: str, path: Path, fault: str | None) -> MappedDevice:
        """Return the image as the device at that path."""
        return MappedDevice(
            path=path,
            mapper=mapper,
            fsid=self.image.fsid,
            pool_id=self.image.pool_id,
            namespace=self.image.namespace,
            image_id=self.image.image_id,
            readonly=self.readonly,
            fault=fault,
        )


RECORD = stored.Kind(
    Record,
    name="mapper state",
    remedy="so the device of that image is not listed: unmap it by hand, then remove the directory",
    unversioned=True,
)


class States:
    """The directories below `root`, which is made if it is not there."""

    def __init__(self, root: Path) -> None:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.root = root.resolve()  # the kernel names files so

    def directory(self, image: Image | MappedDevice) -> Path:
        """Return where the image's directory is, or would be."""
        identity = json.dumps([image.fsid, image.pool_id, image.namespace, image.image_id])
        return self.root / hashlib.blake2b(identity.encode(), digest_size=16).hexdigest()

    def create(self, record: Record) -> Path:
        """Make the image's directory, whole or not at all as far as `records` shows."""
        directory = self.directory(record.image)
        directory.mkdir(mode=0o700)
        draft = directory / f"{_RECORD}.new"
        draft.write_text(RECORD.encode(record))
        draft.rename(directory / _RECORD)
        return directory

    def remove(self, directory: Path) -> None:
        """Remove an image's directory with all that is in it."""
        shutil.rmtree(directory)

    def records(self) -> Iterator[tuple[Path, Record]]:
        """Yield each directory with its record.

        A directory without a record holds nothing yet. One whose record is damaged is logged and
        left out, so that it hinders no other volume; the next `map` of its image clears it.
        """
        for directory in sorted(self.root.iterdir()):
            try:
                text = (directory / _RECORD).read_text(errors="backslashreplace")
            except (FileNotFoundError, NotADirectoryError):  # another call removed it just now
                continue
            try:
                yield directory, RECORD.decode(text, str(directory / _RECORD))
            except errors.Failed as error:
                _log.warning("mapper state left out", error=str(error))
