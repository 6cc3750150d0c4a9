"""Prometheus out of Debian's package, which is unpacked and not installed: that starts a server."""

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


def program(name: str = "prometheus") -> Path:
    """Return the path of a program of the package, fetched now unless the cache has it.

    Args:
        name: "prometheus" or "promtool".

    Raises:
        Failed: the package cannot be had; the message is apt's.
    """
    return caches.made("prometheus-bookworm", _fetch) / "usr/bin" / name


def _fetch(directory: Path) -> None:
    commands.run(["sh", "-ec", _FETCH, directory], timeout=_SECONDS)
