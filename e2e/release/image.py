"""The driver's image: the Dockerfile, built by buildah on a base made by debootstrap.

For machines that reach the registries of Debian and Python and none of containers. Everything is
kept in the cache, keyed by the content of what goes into the image.
"""

import contextlib
import hashlib
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import rbdcsi
from e2e import caches
from e2e.clusters import commands

ROOT = Path(__file__).parents[2]
NAME = "ghcr.io/rbdcsi/rbdcsi"
REFERENCE = f"{NAME}:{rbdcsi.__version__}"

_BASE = "localhost/debian:trixie-slim"  # what the Dockerfile's BASE is made like
_INPUTS = (
    "Dockerfile",
    ".dockerignore",
    "pyproject.toml",
    "hatch_build.py",
    "requirements-runtime.lock",
    "LICENSE",
    "proto",
    "rbdcsi",
)
_BUNDLE = "/run/ca-bundle.crt"  # not where Debian's own package writes
_KEPT = 10  # archives and unpacked roots: each change of the source makes 0.5 GB more
_SECONDS = 1800  # a slow mirror


def archive() -> Path:
    """Return the image as a docker archive, for `ctr images import`; built unless it is cached.

    Raises:
        Unavailable: buildah or debootstrap is not installed.
        Failed: a step failed; the message is the tool's.
    """
    made = caches.made(f"image/{_digest()}", _make)
    caches.forget_old("image", _KEPT)
    return made / "image.tar"


def unpacked() -> Path:
    """Return the root of the image as a directory, which whoever uses it leaves as it is."""
    return caches.made(f"image/{_digest()}-root", _unpack)


def write_stage(name: str, directory: Path, **arguments: str) -> None:
    """Build a stage of the Dockerfile with these arguments, and write its files out.

    Raises:
        Unavailable, Failed: see `archive`.
    """
    with _storage_with_base():
        built = _build("--target", name, "--output", str(directory), **arguments)
        _buildah("rmi", built)


def size(directory: Path) -> int:
    """Return the bytes of all files of the unpacked image, hard links once."""
    stats = (path.lstat() for path in directory.rglob("*"))
    return sum({(found.st_dev, found.st_ino): found.st_size for found in stats}.values())


def _digest() -> str:
    """Return what the image is made of, as a few letters."""
    content = hashlib.sha256()
    for file in _files():
        content.update(f"{file.relative_to(ROOT)}\0".encode() + file.read_bytes() + b"\0")
    return content.hexdigest()[:12]


def _files() -> Iterator[Path]:
    for name in _INPUTS:
        found = sorted((ROOT / name).rglob("*")) if (ROOT / name).is_dir() else [ROOT / name]
        yield from (path for path in found if path.is_file() and not _is_generated(path))


def _is_generated(path: Path) -> bool:
    return "__pycache__" in path.parts or path.name.startswith("csi_pb2")


def _make(directory: Path) -> None:
    with _storage_with_base():
        built = _build("--layers", VERSION=rbdcsi.__version__, REVISION=_revision())
        _buildah("push", built, f"docker-archive:{directory / 'image.tar'}:{REFERENCE}")
        _buildah("rmi", built)  # what stays are the layers that the next build starts from


@contextlib.contextmanager
def _storage_with_base() -> Iterator[None]:
    try:
        if not _has_base():
            _make_base()
        yield
    finally:  # buildah leaves its storage mounted; another build may be at work in it
        subprocess.run(["umount", "--quiet", _storage() / "overlay"], check=False)


def _build(*flags: str, **given: str) -> str:
    """Build, and return the id: other trees build in the same storage, so no name is given."""
    arguments = [f"{name}={value}" for name, value in {"BASE": _BASE, **given}.items()]
    volumes = []
    if bundle := os.environ.get("PIP_CERT"):  # a mirror with a CA of its own
        arguments.append(f"PIP_CERT={_BUNDLE}")
        volumes = ["--volume", f"{bundle}:{_BUNDLE}:ro"]
    said = _buildah(
        *(
            "build",
            "--quiet",
            "--isolation",
            "chroot",
            "--pull-never",
            "--network",
            "host",
            *flags,
        ),
        *(word for argument in arguments for word in ("--build-arg", argument)),
        *(*volumes, str(ROOT)),
    )
    return said.split()[-1]


def _unpack(directory: Path) -> None:
    """Write the image's one layer out."""
    with tempfile.TemporaryDirectory(dir=caches.root()) as name:
        commands.run(["tar", "--extract", "--file", archive(), "--directory", name], _SECONDS)
        (layer,) = json.loads((Path(name) / "manifest.json").read_text())[0]["Layers"]
        whole = ("tar", "--extract", "--numeric-owner", "--preserve-permissions")
        commands.run([*whole, "--file", Path(name) / layer, "--directory", directory], _SECONDS)


def _has_base() -> bool:
    return _BASE in _buildah("images", "--format", "{{.Name}}:{{.Tag}}").split()


def _make_base() -> None:
    with tempfile.TemporaryDirectory(dir=caches.root()) as name:
        root = Path(name) / "root"
        mirror = ("debootstrap", "--variant=minbase", "trixie", root)
        commands.run(mirror, timeout=_SECONDS)
        for packages in (root / "var/cache/apt/archives").glob("*.deb"):
            packages.unlink()
        container = _buildah("from", "scratch").strip()
        try:
            _buildah("add", "--quiet", container, str(root), "/")
            _buildah("commit", "--quiet", container, _BASE)
        finally:
            _buildah("rm", container)


def _revision() -> str:
    """Return the commit, as far as there is one."""
    said = subprocess.run(
        ["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    return said.stdout.strip() or "unknown"


def _storage() -> Path:
    return caches.root() / "containers"


def _buildah(*words: str) -> str:
    _storage().mkdir(parents=True, exist_ok=True)
    return commands.run(["buildah", "--root", _storage(), *words], timeout=_SECONDS)


if __name__ == "__main__":
    built = archive()
    print(f"{REFERENCE}\n  archive   {built}\n  unpacked  {size(unpacked()) / 1e6:.0f} MB")
