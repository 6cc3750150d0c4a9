"""promtool out of Debian's package, which is unpacked and not installed: that starts a server."""

from pathlib import Path

from e2e import caches
from e2e.clusters import commands

_SECONDS = 600


def program() -> Path:
    """Return the path of promtool, fetched now unless the cache has it.

    Raises:
        Failed: the package cannot be had; the message is apt's.
    """
    return caches.made("promtool-bookworm", _fetch) / "usr/bin/promtool"


def _fetch(directory: Path) -> None:
    fetch = f"cd {directory} && apt-get -qq download prometheus && dpkg-deb -x *.deb . && rm *.deb"
    commands.run(["sh", "-ec", fetch], timeout=_SECONDS)
