"""Where built and fetched things are kept between runs: outside the tree, keyed by version."""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path


def root() -> Path:
    """Return the cache's directory, by the XDG base directory specification."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "rbdcsi"


def made(name: str, make: Callable[[Path], None]) -> Path:
    """Return the cached directory of that name; it is there whole or not at all.

    Of several processes that need it at once, one makes it and the others wait.

    Args:
        name: with the version of what is in it.
        make: fills an empty directory; called when there is nothing yet.
    """
    directory = root() / name
    if not directory.exists():
        with alone(name):
            if not directory.exists():
                _make(directory, make)
    return directory


@contextlib.contextmanager
def alone(name: str) -> Iterator[None]:
    """Run the body while no other process or thread of this machine is in it, by that name."""
    lock = root() / "locks" / name.replace("/", "-")
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # the kernel releases it with the process
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


def _make(directory: Path, make: Callable[[Path], None]) -> None:
    draft = directory.with_name(f"{directory.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)  # of a process that was killed
    draft.mkdir(parents=True)
    try:
        make(draft)
        draft.rename(directory)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
