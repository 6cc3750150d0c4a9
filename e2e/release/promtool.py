"""promtool out of Debian's package, which is unpacked and not installed: that starts a server."""

from pathlib import Path

from e2e import caches
from e2e.clusters import commands

_SECONDS = 600
_FETCH = """
cd "$0"
apt-get -qq download prometheus || { apt-get -qq update && apt-get -qq download prometheus; }
dpkg-deb --extract *.deb .
rm *.deb
"""


def program() -> Path:
    """Return the path of promtool, fetched now unless the cache has it.

    Raises:
        Failed: the package cannot be had; the message is apt's.
    """
    return caches.made("promtool-bookworm", _fetch) / "usr/bin/promtool"


def _fetch(directory: Path) -> None:
    commands.run(["sh", "-ec", _FETCH, directory], timeout=_SECONDS)
