"""The tables of the reference pages, written from the tables that the driver itself uses.

A page is prose with blocks between markers. `make docs` fills the blocks, and
tests/docs/test_reference.py fails if one differs from its source. `sources.py` alone knows where in
the driver the tables are.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from tools.reference import (
    chart_values,
    commands,
    configuration,
    flags,
    markdown,
    messages,
    metrics,
    sources,
    storage_class,
)

_REFERENCE = sources.ROOT / "docs/reference"

BLOCKS: Mapping[Path, Mapping[str, Callable[[], str]]] = {
    _REFERENCE / "storage-class.md": {
        "parameters": storage_class.parameters,
        "without effect": storage_class.without_effect,
        "map options": storage_class.map_options,
        "mount options": storage_class.mount_options,
        "filesystems": storage_class.filesystems,
        "provisioner": storage_class.of_the_provisioner,
    },
    _REFERENCE / "snapshot-class.md": {
        "parameters": storage_class.of_snapshots,
        "snapshotter": storage_class.of_the_snapshotter,
    },
    _REFERENCE / "configuration.md": {"keys": configuration.keys},
    _REFERENCE / "commands.md": {"commands": commands.commands},
    _REFERENCE / "flags.md": {"flags": flags.flags},
    _REFERENCE / "chart-values.md": {"values": chart_values.table},
    _REFERENCE / "metrics.md": {"metrics": metrics.metrics, "alerts": metrics.alerts},
    _REFERENCE / "errors.md": {"codes": messages.codes, "messages": messages.messages},
    sources.CHART / "README.md": {"values": chart_values.table},
}


def pages() -> dict[Path, str]:
    """Return what each page must hold: its prose as it is, its blocks from their sources."""
    filled = {}
    for path, blocks in BLOCKS.items():
        text = path.read_text()
        for name, render in blocks.items():
            text = markdown.filled(text, name, render())
        filled[path] = text
    return filled
