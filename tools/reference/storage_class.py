"""StorageClass parameters, from the table that the driver reads them by."""

from collections.abc import Iterable, Sequence

from rbdcsi.model.parameters import Parameter
from tools.reference import markdown, sources

_MIB = 1 << 20
_PROVISIONER = "csi.storage.k8s.io/p"  # pvc/… and pv/…
_SNAPSHOTTER = "csi.storage.k8s.io/volumesnapshot"


def parameters() -> str:
    """Return the table of those that a person writes."""
    return _written(sources.PARAMETERS.TABLE, _PROVISIONER)


def of_snapshots() -> str:
    """Return the table of those of a VolumeSnapshotClass that a person writes."""
    return _written(sources.SNAPSHOT_PARAMETERS.TABLE, _SNAPSHOTTER)


def of_the_snapshotter() -> str:
    """Return the table of those that external-snapshotter adds."""
    return _added(sources.SNAPSHOT_PARAMETERS.TABLE, _SNAPSHOTTER)


def _written(rows: Sequence[Parameter], added: str) -> str:
    head = ("parameter", "meaning", "type", "default", "example", "checked at")
    lines = (
        (
            markdown.code(each.name),
            each.meaning,
            each.kind,
            markdown.code(each.default.replace(",", ", ")),
            markdown.code(each.example),
            each.checked,
        )
        for each in rows
        if not each.name.startswith(added)
    )
    return markdown.table(head, lines)


def of_the_provisioner() -> str:
    """Return the table of those that external-provisioner adds."""
    return _added(sources.PARAMETERS.TABLE, _PROVISIONER)


def _added(rows: Sequence[Parameter], added: str) -> str:
    lines = (
        (markdown.code(each.name), each.meaning) for each in rows if each.name.startswith(added)
    )
    return markdown.table(("parameter", "meaning"), lines)


def without_effect() -> str:
    """Return the table of ceph-csi's parameters that are accepted and change nothing."""
    rows = (
        *((markdown.code(n), markdown.code(v)) for n, v in sources.PARAMETERS.AS_DONE.items()),
        *((markdown.code(name), "any") for name in sources.PARAMETERS.WITHOUT_EFFECT),
    )
    return markdown.table(("parameter", "value"), rows)


def map_options() -> str:
    """Return the table of the options that each mapper takes."""
    rows = (
        (
            markdown.code(name),
            _codes(each.allowed),
            _codes(each.done),
            "; ".join(
                f"{_codes(n for n, why in each.refused.items() if why == reason)}: {reason}"
                for reason in dict.fromkeys(each.refused.values())
            ),
        )
        for name, each in sources.MAP_OPTIONS.items()
    )
    return markdown.table(("mapper", "takes", "does anyway", "refuses, and why"), rows)


def mount_options() -> str:
    """Return the table of the mount options of all filesystems, and of each."""
    rows = (
        ("all", _codes(sources.MOUNT_OPTIONS)),
        *(
            (markdown.code(n), _codes(each.mount_allowed))
            for n, each in sources.FILESYSTEMS.items()
        ),
    )
    return markdown.table(("filesystem", "allowed in `mountOptions`"), rows)


def _codes(names: Iterable[str]) -> str:
    return ", ".join(markdown.code(name) for name in sorted(names))


def filesystems() -> str:
    """Return the table of the filesystems with the options of mkfs that a class may give."""
    rows = (
        (
            markdown.code(name),
            _codes(each.mkfs_allowed),
            markdown.code(" ".join(each.mkfs_defaults)),
            f"{each.smallest_bytes // _MIB} MiB",
        )
        for name, each in sources.FILESYSTEMS.items()
    )
    head = ("filesystem", "allowed in `mkfsOptions`", "without it", "smallest volume")
    return markdown.table(head, rows)
