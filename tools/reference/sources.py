"""Where the driver keeps what the references are written from: a move changes one line here."""

import re
from collections.abc import Iterator
from pathlib import Path

from rbdcsi import errors
from rbdcsi.ceph import ceph_errors
from rbdcsi.cli.main import main
from rbdcsi.cli.serve import serve
from rbdcsi.config import clusters_file
from rbdcsi.model import filesystems, map_options, mount_options, snapshot_class, storage_class
from rbdcsi.telemetry import metrics

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy/helm/rbdcsi"
DRIVER = ROOT / "rbdcsi"

ERRORS = errors
METRICS = metrics
PARAMETERS = storage_class
SNAPSHOT_PARAMETERS = snapshot_class
FILESYSTEMS = filesystems.TABLE
MAP_OPTIONS = map_options.TABLE
MOUNT_OPTIONS = mount_options.GENERIC
CONFIGURATION = clusters_file
SERVE = serve
COMMANDS = main
CEPH_NEXT_STEPS = ceph_errors._NEXT_STEP

AT_START = "Starting the driver"

# The first rule that matches a file's path below rbdcsi/ names the chapter of its messages.
_CHAPTERS = (
    (r"^cli/(?!serve|exit_codes|flags)", "The operator's commands"),
    (r"^operator/", "The operator's commands"),
    (r"^(cli|config)/", AT_START),
    (r"^server/(?!interceptors|locks)", AT_START),
    (
        r"^model/(storage_class|\w+_options|image_layout|sizes|capabilities)",
        "StorageClass, size, access mode",
    ),
    (r"^(services|server|runtime|model)/", "Any call"),
    (r"^snapshots/", "Snapshots"),
    (r"^volumes/", "Creating, deleting and listing volumes"),
    (r"^(attachments|nodes)/", "Attaching and detaching"),
    (r"^staging/", "Staging and publishing on a node"),
    (r"^host/mappers/", "Mapping an image to a device"),
    (r"^host/", "Filesystems, mounts and devices of a node"),
    (r"^ceph/", "Ceph"),
)


def files() -> Iterator[tuple[str, Path]]:
    """Yield the driver's modules, each with the chapter of its messages.

    Raises:
        LookupError: no rule names the chapter of a file.
    """
    for path in sorted(DRIVER.rglob("*.py")):
        name = path.relative_to(DRIVER).as_posix()
        chapters = [chapter for rule, chapter in _CHAPTERS if re.search(rule, name)]
        yield (chapters[0] if chapters else ""), path
