"""Where built and fetched things are kept between runs: outside the tree, keyed by version."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path


def root() -> Path:
    """Return the cache's directory, by the XDG base directory specification."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "rbdcsi"


def made(name: str, make: Callable[[Path], None]) -> Path:
    """Return the cached directory of that name; it is there whole or not at all.

    Args:
        name: with the version of what is in it.
        make: fills an empty directory; called when there is nothing yet, by several at once even.
    """
    wanted = root() / name
    if not wanted.exists():
        wanted.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f"{wanted.name}.", dir=wanted.parent))
        try:
            make(draft)
            _place(draft, wanted)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return wanted


def forget_old(family: str, kept: int) -> None:
    """Keep the newest of what is below that directory (by ctime: tar sets mtime).

    Args:
        family: a directory of the cache.
        kept: how many; several trees may share the cache.
    """
    entries = sorted((root() / family).iterdir(), key=lambda path: -path.stat().st_ctime)
    for old in entries[kept:]:
        shutil.rmtree(old, ignore_errors=True)


def _place(draft: Path, wanted: Path) -> None:
    try:
        draft.rename(wanted)
    except OSError:
        if not wanted.exists():  # else another run was quicker
            raise
