"""One directory for each image that a mapper of user space has mapped, with the record of which.

Written before anything else is done and removed last, so that whatever a crash leaves is found.
"""

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rbdcsi.host.mappers.interface import Image, MappedDevice

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
        draft.write_text(json.dumps(dataclasses.asdict(record)))
        draft.rename(directory / _RECORD)
        return directory

    def remove(self, directory: Path) -> None:
        """Remove an image's directory with all that is in it."""
        shutil.rmtree(directory)

    def records(self) -> Iterator[tuple[Path, Record]]:
        """Yield each directory with its record; those without one have nothing but themselves."""
        for directory in sorted(self.root.iterdir()):
            if (directory / _RECORD).exists():
                fields = json.loads((directory / _RECORD).read_text())
                yield directory, Record(Image(**fields["image"]), fields["readonly"])
