"""Where built and fetched things are kept between runs: outside the tree, keyed by version."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path


def root() -> Path:
    """Return the cache's directory, by the XDG base directory specification."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "rbdcsi"


def made(name: str, make: Callable[[Path], None]) -> Path:
    """Return the cached directory of that name; it is there whole or not at all.

    Args:
        name: with the version of what is in it.
        make: fills an empty directory; called when there is nothing yet. Others that ask for the
            same name at that time, also other runs, wait until it is made.
    """
    cached = root() / name
    if not cached.exists():
        lock = root() / "locks" / name.replace("/", "-")
        lock.parent.mkdir(parents=True, exist_ok=True)
        lock.touch()
        with alone(lock):
            if not cached.exists():
                _make(cached, make)
    return cached


@contextlib.contextmanager
def alone(file: Path) -> Iterator[None]:
    """Run the body while no other process is in one with that file; wait for the others."""
    with file.open("rb") as opened:
        fcntl.flock(opened, fcntl.LOCK_EX)  # ends with the descriptor, also by kill -9
        yield


def forget_old(family: str, kept: int) -> None:
    """Keep the newest of what is below that directory (by ctime: tar sets mtime).

    Args:
        family: a directory of the cache.
        kept: how many; several trees may share the cache.
    """
    entries = sorted((root() / family).iterdir(), key=lambda path: -path.stat().st_ctime)
    for old in entries[kept:]:
        shutil.rmtree(old, ignore_errors=True)


def _make(cached: Path, make: Callable[[Path], None]) -> None:
    cached.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f"{cached.name}.", dir=cached.parent))
    try:
        make(draft)
        draft.rename(cached)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
