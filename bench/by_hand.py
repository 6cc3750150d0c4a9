"""The floor of the mount path: the same steps by the same tools, as a person would type them."""

import json
import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from bench.lab import MIB, Lab
from e2e.clusters import commands
from rbdcsi.runtime.readable import wait_until_readable

MKFS = ("mkfs.ext4", "-q", "-m0", "-Enodiscard,lazy_itable_init=1,lazy_journal_init=1")
_SECONDS = 30.0


def prepare(lab: Lab, pool: str, name: str, size: int) -> "ByHand":
    """Return an image's way by the mapper that the driver uses; `size` in bytes."""
    return {"fuse": _Fuse, "krbd": _Krbd}[lab.mapper](lab, pool, name, size)


@dataclass
class ByHand(ABC):
    """One image on its way; the options are the driver's."""

    lab: Lab
    pool: str
    name: str
    size: int
    device: str = ""

    @property
    def directory(self) -> Path:
        """Where it is exported and mounted."""
        return self.lab.directory / self.name

    def create(self) -> None:
        """Make the image."""
        self._rbd("create", "--size", f"{self.size // MIB}M", self._image)

    def clone(self, image: str, snapshot: str) -> None:
        """Make the image from a snapshot."""
        source = f"{self.pool}/{image}@{snapshot}"
        self._rbd("clone", "--rbd-default-clone-format=2", source, self._image)

    @abstractmethod
    def map(self) -> None:
        """Make it a block device."""

    def mkfs(self) -> None:
        """Make a filesystem."""
        commands.run([*MKFS, self.device])

    def mount(self) -> Path:
        """Mount the filesystem, and bind it to where a workload would see it."""
        staging, target = self.directory / "staging", self.directory / "target"
        staging.mkdir(parents=True)
        target.mkdir()
        commands.run(["mount", "-t", "ext4", self.device, staging])
        commands.run(["mount", "--bind", staging, target])
        return target

    def unmount(self) -> None:
        """Undo `mount`."""
        commands.run(["umount", self.directory / "target"])
        commands.run(["umount", self.directory / "staging"])

    @abstractmethod
    def unmap(self) -> None:
        """Undo `map`, and wait until everything is written."""

    def remove(self) -> None:
        """Delete the image with its data."""
        self._rbd("rm", "--no-progress", self._image)

    @property
    def _image(self) -> str:
        return f"{self.pool}/{self.name}"

    def _rbd(self, *words: str) -> str:
        where = ("--conf", str(self.lab.cluster.conf), "--keyring", str(self.lab.cluster.keyring))
        return commands.run(["rbd", *where, *words])


class _Fuse(ByHand):
    def map(self) -> None:
        self.directory.mkdir()
        file = self.directory / "image"
        file.touch()
        commands.run(
            ["qemu-storage-daemon", "--daemonize", "--pidfile", self.directory / "pid",
             "--blockdev", json.dumps(self._blockdev()),
             "--export", json.dumps({"type": "fuse", "id": "e", "node-name": "image",
                                     "mountpoint": str(file), "writable": True})]
        )  # fmt: skip
        loop = ("losetup", "--find", "--show", "--direct-io=on", str(file))
        self.device = commands.run(loop).strip()

    def unmap(self) -> None:
        commands.run(["losetup", "--detach", self.device])
        pid = (self.directory / "pid").read_text().strip()
        ended = os.pidfd_open(int(pid))
        try:
            commands.run(["kill", pid])
            wait_until_readable(ended, _SECONDS)
        finally:
            os.close(ended)

    def _blockdev(self) -> dict[str, object]:
        return {
            "driver": "rbd", "node-name": "image", "pool": self.pool, "image": self.name,
            "conf": str(self.lab.cluster.conf), "user": "admin", "cache": {"direct": True},
            "discard": "unmap",
        }  # fmt: skip


class _Krbd(ByHand):
    _NO_UDEV = ("--options", "noudev")  # there is no udevd in the machine to wait for

    def map(self) -> None:
        self.device = self._rbd("map", *self._NO_UDEV, self._image).strip()

    def unmap(self) -> None:
        self._rbd("unmap", *self._NO_UDEV, self.device)
