"""A disk with images as containerd keeps them: a machine with it needs to import nothing.

It is filled here, by a containerd of this host's own speed; in a machine it took a minute.
"""

import hashlib
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from e2e import caches
from e2e.clusters import commands

_GIB = 1 << 30
_KEPT = 5
_BYTES = 4 * _GIB  # a sparse file: images take a quarter of it
_IMPORT = Path(__file__).with_name("import.sh")
_ISOLATED = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
_CONFIG = 'version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n'


def filled(archives: Sequence[Path]) -> Path:
    """Return a disk with the images of these archives, made now unless the cache has it."""
    directory = caches.made(f"image-disk/{_key(archives)}", lambda to: _fill(to, archives))
    caches.forget_old("image-disk", _KEPT)
    return directory / "disk"


def copied(archives: Sequence[Path], target: Path) -> Path:
    """Make a new disk, for one machine, with the images of these archives; return it."""
    commands.run(["cp", "--sparse=always", filled(archives), target], timeout=120)
    return target


def _fill(directory: Path, archives: Iterable[Path]) -> None:
    disk = directory / "disk"
    with disk.open("wb") as file:
        file.truncate(_BYTES)
    commands.run(["mkfs.ext4", "-q", disk])
    with tempfile.TemporaryDirectory(prefix="rbdcsi-") as name:
        (Path(name) / "config.toml").write_text(_CONFIG)
        commands.run([*_ISOLATED, _IMPORT, disk, name, *archives], timeout=300)


def _key(archives: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for archive in archives:
        with archive.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]
