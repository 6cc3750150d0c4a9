"""Where the driver keeps what the references are written from: a move changes one line here."""

import re
from collections.abc import Iterator
from pathlib import Path

from rbdcsi import cli, config, errors, metrics, parameters
from rbdcsi.ceph import translate

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy/helm/rbdcsi"
DRIVER = ROOT / "rbdcsi"

ERRORS = errors
METRICS = metrics
PARAMETERS = parameters
CONFIGURATION = config
SERVE = cli.serve
CEPH_NEXT_STEPS = translate._NEXT_STEP

# The first rule that matches a file's path below rbdcsi/ names the chapter of its messages.
_CHAPTERS = (
    (r"^(cli|config|keys|monitors|options|secret)\b", "Starting the driver"),
    (r"^(server|sockets|health|app)\b", "Starting the driver"),
    (r"^(model/)?(parameters|storage_class|features|image_layout|sizes|capabilities)\b",
     "StorageClass, size and access mode"),
    (r"^(services|interceptors|locks|runtime|deadlines)\b", "Any call"),
    (r"^(model/)?(handles|ids|image_names|stored)\b", "Any call"),
    (r"^(volumes|snapshots)/", "Creating, deleting and listing volumes"),
    (r"^(attachments|nodes)/", "Attaching and detaching"),
    (r"^staging/", "Staging and publishing on a node"),
    (r"^host/mappers/", "Mapping an image to a device"),
    (r"^(host|model)/", "Filesystems, mounts and devices of a node"),
    (r"^ceph/", "Ceph"),
)  # fmt: skip
CHAPTERS = tuple(dict.fromkeys(chapter for _, chapter in _CHAPTERS))


def files() -> Iterator[tuple[str, Path]]:
    """Yield the driver's modules, each with the chapter of its messages.

    Raises:
        LookupError: no rule names the chapter of a file.
    """
    for path in sorted(DRIVER.rglob("*.py")):
        name = path.relative_to(DRIVER).as_posix()
        chapters = [chapter for rule, chapter in _CHAPTERS if re.search(rule, name)]
        yield (chapters[0] if chapters else ""), path
