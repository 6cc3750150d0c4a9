"""The kernel of the virtual machines: Debian's cloud kernel, unpacked into the cache.

Nothing of it is installed on this machine: its /boot and /lib/modules stay as they are.
"""

import functools
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from e2e import caches, errors
from e2e.clusters import commands

_META = "linux-image-cloud-amd64"
_FETCH_SECONDS = 300
# What stands between a bare kernel and its root: the disk bus, both file systems, the network.
_EARLY = ("virtio_pci", "virtio_blk", "virtio_net", "virtiofs", "overlay")
_GUEST = Path(__file__).with_name("guest")
_FORM = 1  # of the initrd; part of the cache's key


@dataclass(frozen=True)
class Kernel:
    """A kernel that can be booted: its release (`uname -r`), and where its parts are."""

    release: str
    image: Path
    initrd: Path
    modules: Path


@functools.cache
def ready() -> Kernel:
    """Return the distribution's newest cloud kernel, fetched if it is not in the cache.

    Raises:
        Failed: it cannot be had; the message is apt's.
    """
    package = _package()
    version = _version(package)
    directory = caches.made(f"kernel/{version}-{_FORM}", lambda draft: _make(draft, package))
    (image,) = directory.glob("boot/vmlinuz-*")
    release = image.name.removeprefix("vmlinuz-")
    return Kernel(release, image, directory / "initrd", directory / "lib/modules" / release)


def _package() -> str:
    """Return the package that the meta package names today."""
    found = _depends()
    if found is None:  # a machine without package lists yet
        commands.run(["apt-get", "-qq", "update"], _FETCH_SECONDS)
        found = _depends()
    if found is None:
        raise errors.Failed(f"apt knows no package {_META}: are Debian's sources configured?")
    return found


def _depends() -> str | None:
    listed = commands.run(["apt-cache", "depends", "--important", _META])
    found = re.search(r"Depends: (linux-image-\S+)", listed)
    return found[1] if found else None


def _version(package: str) -> str:
    shown = commands.run(["apt-cache", "show", "--no-all-versions", package])
    (version,) = re.findall(r"^Version: (\S+)$", shown, re.MULTILINE)
    return str(version)


def _make(directory: Path, package: str) -> None:
    with tempfile.TemporaryDirectory(dir=directory) as downloads:
        _download(package, Path(downloads))
        (archive,) = Path(downloads).glob("*.deb")
        commands.run(["dpkg-deb", "-x", archive, directory])
    (modules,) = directory.glob("lib/modules/*")
    commands.run(["depmod", "--basedir", directory, modules.name])
    with tempfile.TemporaryDirectory(dir=directory) as tree:
        _fill_initrd(Path(tree), directory, modules.name)
        pack = 'cd "$0" && find . | busybox cpio -o -H newc 2>/dev/null | gzip -1 >"$1"'
        commands.run(["sh", "-c", pack, tree, directory / "initrd"])


def _download(package: str, directory: Path) -> None:
    # as root: apt's own user may not write below another's home
    fetch = 'cd "$0" && apt-get -qq -o APT::Sandbox::User=root download "$1"'
    try:
        commands.run(["sh", "-c", fetch, directory, package], _FETCH_SECONDS)
    except errors.Failed:  # the lists are older than the archive
        commands.run(["apt-get", "-qq", "update"], _FETCH_SECONDS)
        commands.run(["sh", "-c", fetch, directory, package], _FETCH_SECONDS)


def _fill_initrd(tree: Path, directory: Path, release: str) -> None:
    for name in ("bin", "modules"):
        (tree / name).mkdir()
    busybox = shutil.which("busybox")
    if busybox is None:
        raise errors.Unavailable("busybox is not installed: tools/packages.sh lists the packages")
    shutil.copy(busybox, tree / "bin/busybox")
    shutil.copy(_GUEST / "init", tree / "init")
    wanted: list[str | Path] = [
        "modprobe",
        "--dirname",
        directory,
        "--set-version",
        release,
        "--all",
    ]
    needed = commands.run([*wanted, "--show-depends", *_EARLY])
    files = list(dict.fromkeys(re.findall(r"^insmod (\S+)", needed, re.MULTILINE)))
    for file in files:
        shutil.copy(file, tree / "modules")
    (tree / "modules/order").write_text("".join(f"{Path(file).name}\n" for file in files))
