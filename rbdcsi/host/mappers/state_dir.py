"""One directory for each image that nbd or fuse has mapped, with a record of the image.

The mapper writes the record before its first step and removes the directory after its last one, so
that it finds everything that a crash left.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import structlog

from rbdcsi import errors
from rbdcsi.host.mappers.interface import Image, ImageIdentity, MappedDevice
from rbdcsi.model import stored

_log = structlog.get_logger()

_RECORD = "image.json"


@dataclass(frozen=True)
class Record:
    """The directory's image, with its names at the time of mapping, and whether it is read-only."""

    image: Image
    readonly: bool

    def device(self, mapper: str, path: Path, fault: str | None) -> MappedDevice:
        """Return the image as a mapped device.

        Args:
            mapper: the name of the mapper.
            path: the device, or the location of an unfinished one.
            fault: the reason why the device does not work; None if it works.
        """
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
    remedy="so the device of that image is not listed; unmap the device yourself, then remove the "
    "directory",
    unversioned=True,
)


class StateDirectories:
    """The images' directories below `root`, which this class creates if it does not exist."""

    def __init__(self, root: Path) -> None:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.root = root.resolve()  # the kernel shows paths without links

    def directory(self, image: ImageIdentity) -> Path:
        """Return the path of the image's directory, which need not exist."""
        identity = json.dumps([image.fsid, image.pool_id, image.namespace, image.image_id])
        return self.root / hashlib.blake2b(identity.encode(), digest_size=16).hexdigest()

    def create(self, record: Record) -> Path:
        """Create the image's directory; `records` shows it only once its record is complete."""
        directory = self.directory(record.image)
        directory.mkdir(mode=0o700)
        draft = directory / f"{_RECORD}.new"
        draft.write_text(RECORD.encode(record))
        draft.rename(directory / _RECORD)
        return directory

    def remove(self, directory: Path) -> None:
        """Remove an image's directory with its content."""
        shutil.rmtree(directory)

    def require_intact(self, directory: Path) -> None:
        """Raise Failed if the directory has a record that cannot be read."""
        file = directory / _RECORD
        try:
            RECORD.decode(file.read_text(errors="backslashreplace"), str(file))
        except FileNotFoundError:
            return  # the mapper has done nothing yet
        except OSError as error:
            raise errors.Failed(f"{file}: cannot be read: {error.strerror}") from error

    def records(self) -> Iterator[tuple[Path, Record]]:
        """Yield each directory with its record.

        A directory without a record is skipped, as its mapper has done nothing yet. One with a
        damaged record is logged and skipped, so that other volumes work. `map` and `unmap` of its
        own image find the directory by the image's ids.
        """
        for directory in sorted(self.root.iterdir()):
            try:
                text = (directory / _RECORD).read_text(errors="backslashreplace")
            except (FileNotFoundError, NotADirectoryError):  # another call removed it just now
                continue
            except OSError as error:
                _log.warning("skipped an unreadable mapper state", error=str(error))
                continue
            try:
                yield directory, RECORD.decode(text, str(directory / _RECORD))
            except errors.Failed as error:
                _log.warning("skipped a damaged mapper state", error=str(error))
