"""Erasure coding on a single OSD.

Most plugins demand k >= 2 data chunks, each on an OSD of its own. SHEC takes k=1, m=1, c=1: with
one OSD the placement groups are "active+undersized", and they read and write through the real
erasure-coded path, overwrites included. They are never "clean" and survive no loss.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from e2e.clusters import commands

PROFILE = "rbdcsi-shec"
RULE = "rbdcsi-shec"


def rule(ceph: Callable[..., Any]) -> str:
    """Return the name of a CRUSH rule for `PROFILE`; rule and profile are made when missing."""
    chunks = ("plugin=shec", "k=1", "m=1", "c=1", "crush-failure-domain=osd")
    ceph("osd", "erasure-code-profile", "set", PROFILE, *chunks)
    ceph("osd", "crush", "rule", "create-erasure", RULE, PROFILE)
    # Ceph 16 writes "min_size 3" into each erasure rule and then refuses pools of two chunks.
    if ceph("osd", "crush", "rule", "dump", RULE).get("min_size", 1) > 1:
        with tempfile.TemporaryDirectory() as directory:
            _lower_minimum(ceph, Path(directory))
    return RULE


def allow_overwrites(ceph: Callable[..., Any], pool: str) -> None:
    """Allow overwrites in an erasure-coded pool, without which it takes no images."""
    ceph("osd", "pool", "set", pool, "allow_ec_overwrites", "true")


def _lower_minimum(ceph: Callable[..., Any], directory: Path) -> None:
    binary, text = directory / "map", directory / "map.txt"
    ceph("osd", "getcrushmap", "-o", str(binary))
    commands.run(["crushtool", "-d", binary, "-o", text])
    before, ours = text.read_text().split(f"rule {RULE} ")
    text.write_text(f"{before}rule {RULE} {ours.replace('min_size 3', 'min_size 1', 1)}")
    commands.run(["crushtool", "-c", text, "-o", binary])
    ceph("osd", "setcrushmap", "-i", str(binary))
