"""Images as ceph-csi makes them: its names, its objects and metadata, its mkfs, with a file."""

import contextlib
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import rados
import rbd

from e2e.clusters import Cluster, commands
from e2e.driver import CLUSTER_ID
from rbdcsi.model import image_layout

DIRECTORY = "csi.volumes.default"
# What ceph-csi gives mkfs by default (internal/rbd/nodeserver.go).
MKFS: Mapping[str, tuple[str, ...]] = {
    "ext4": ("mkfs.ext4", "-m0", "-Enodiscard,lazy_itable_init=1,lazy_journal_init=1"),
    "xfs": ("mkfs.xfs", "-K"),
}
SIZES = {"ext4": 64 << 20, "xfs": 320 << 20, "": 16 << 20}


@dataclass(frozen=True)
class CephCsiImage:
    """An image, and the name of the PersistentVolume that ceph-csi made it for."""

    ioctx: rados.Ioctx
    cluster: Cluster
    name: str
    volume_name: str
    fs_type: str

    @property
    def image(self) -> str:
        """`POOL/IMAGE`."""
        return f"{self.ioctx.get_pool_name()}/{self.name}"

    @property
    def image_id(self) -> str:
        """The image's id."""
        with rbd.Image(self.ioctx, self.name, read_only=True) as opened:
            return opened.id()

    def kept(self) -> Mapping[str, object]:
        """Return all that ceph-csi keeps of the volume: two omaps, and the image's metadata."""
        with rbd.Image(self.ioctx, self.name, read_only=True) as opened:
            metadata = dict(opened.metadata_list())
        return {
            "directory": self._rados("listomapvals", DIRECTORY),
            "volume": self._rados("listomapvals", self.object),
            "metadata": {k: v for k, v in metadata.items() if not k.startswith("rbdcsi.")},
        }

    @property
    def object(self) -> str:
        """The object in which ceph-csi keeps the volume's facts."""
        return f"csi.volume.{self.name.removeprefix('csi-vol-')}"

    def set(self, name: str, key: str, value: str) -> None:
        """Set a key of an object."""
        self._rados("setomapval", name, key, value)

    def set_metadata(self, key: str, value: str) -> None:
        """Set image metadata."""
        with rbd.Image(self.ioctx, self.name) as opened:
            opened.metadata_set(key, value)

    def remove_kept(self) -> None:
        """Remove the objects of ceph-csi, as its DeleteVolume does."""
        for name in (self.object, DIRECTORY):
            self._rados("rm", name)

    def _rados(self, *words: str) -> str:
        return self.cluster.rados("--pool", self.ioctx.get_pool_name(), *words)


def make(
    ioctx: rados.Ioctx, cluster: Cluster, directory: Path, fs_type: str = "ext4"
) -> CephCsiImage:
    """Make an image, with a file on its filesystem; without one if `fs_type` is empty.

    Args:
        ioctx: the pool.
        cluster: the same pool's, for Ceph's tools.
        directory: for temporary files.
        fs_type: ext4 or xfs; empty makes a raw block volume without data.
    """
    number = str(uuid.uuid4())
    made = CephCsiImage(ioctx, cluster, f"csi-vol-{number}", f"pvc-{uuid.uuid4()}", fs_type)
    made.set(DIRECTORY, f"csi.volume.{made.volume_name}", number)
    made.set(made.object, "csi.volname", made.volume_name)
    made.set(made.object, "csi.imagename", made.name)
    size = SIZES[fs_type]
    features = image_layout.mask(("layering",))
    rbd.RBD().create(ioctx, made.name, size, old_format=False, features=features)
    made.set(made.object, "csi.imageid", made.image_id)
    # with --setmetadata
    made.set_metadata("csi.storage.k8s.io/pv/name", made.volume_name)
    made.set_metadata("csi.storage.k8s.io/pvc/name", "data")
    if fs_type:
        with filesystem(directory, fs_type, size) as mounted:
            (mounted / "file").write_text("written with ceph-csi")
        _copy(directory / "disk", made)
    return made


@contextlib.contextmanager
def with_snapshot(source: CephCsiImage) -> Iterator[str]:
    """Take a snapshot as ceph-csi does: a clone with a snapshot of its own; it goes with the body.

    Yields:
        The handle of that snapshot for this driver.
    """
    ioctx, name = source.ioctx, f"csi-snap-{uuid.uuid4()}"
    image, features = f"{ioctx.get_pool_name()}/{name}", "layering,deep-flatten"
    format_2 = "--rbd-default-clone-format=2"
    source.cluster.rbd("snap", "create", f"{source.image}@{name}")
    source.cluster.rbd(
        "clone", format_2, "--image-feature", features, f"{source.image}@{name}", image
    )
    source.cluster.rbd("snap", "rm", f"{source.image}@{name}")  # librbd keeps it for the clone
    with rbd.Image(ioctx, name) as opened:
        opened.create_snap(name)
        (taken,) = opened.list_snaps()
        image_id = opened.id()
    yield f"s1:{CLUSTER_ID}:{ioctx.get_pool_id()}::{image_id}:{taken['id']}"
    with rbd.Image(ioctx, name) as opened:
        opened.remove_snap(name)
    rbd.RBD().remove(ioctx, name)


@contextlib.contextmanager
def filesystem(directory: Path, fs_type: str, size: int) -> Iterator[Path]:
    """Make a filesystem in `directory/disk`, and mount it for the body."""
    disk, mounted = directory / "disk", directory / "mounted"
    disk.touch()
    with disk.open("r+b") as file:
        file.truncate(size)
    commands.run([*MKFS[fs_type], disk])
    with _mounted(disk, mounted):
        yield mounted


@contextlib.contextmanager
def read(made: CephCsiImage, directory: Path) -> Iterator[Path]:
    """Mount a copy of the image, as ceph-csi would mount the image itself."""
    disk = directory / "copy"
    with rbd.Image(made.ioctx, made.name, read_only=True) as opened:
        disk.write_bytes(opened.read(0, opened.size()))
    with _mounted(disk, directory / "mounted"):
        yield directory / "mounted"


@contextlib.contextmanager
def _mounted(disk: Path, target: Path) -> Iterator[Path]:
    target.mkdir(exist_ok=True)
    commands.run(["mount", "-o", "loop", disk, target])
    try:
        yield target
    finally:
        commands.run(["umount", target])


def _copy(disk: Path, made: CephCsiImage) -> None:
    """Write the parts of the file that are not zero into the image."""
    piece = 1 << 20
    with disk.open("rb") as file, rbd.Image(made.ioctx, made.name) as opened:
        offset = 0
        while data := file.read(piece):
            if data.strip(b"\0"):
                opened.write(data, offset)
            offset += piece
