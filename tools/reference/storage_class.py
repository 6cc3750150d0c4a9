"""StorageClass parameters, from the table that the driver reads them by."""

from tools.reference import markdown, sources

_MIB = 1 << 20
_PROVISIONER = "csi.storage.k8s.io/p"  # pvc/… and pv/…


def parameters() -> str:
    """Return the table of those that a person writes."""
    head = ("parameter", "meaning", "type", "default", "example", "checked at")
    rows = (
        (
            markdown.code(each.name),
            each.meaning,
            each.kind,
            markdown.code(each.default.replace(",", ", ")),
            markdown.code(each.example),
            each.checked,
        )
        for each in sources.PARAMETERS.TABLE
        if not each.name.startswith(_PROVISIONER)
    )
    return markdown.table(head, rows)


def of_the_provisioner() -> str:
    """Return the table of those that external-provisioner adds."""
    rows = (
        (markdown.code(each.name), each.meaning)
        for each in sources.PARAMETERS.TABLE
        if each.name.startswith(_PROVISIONER)
    )
    return markdown.table(("parameter", "meaning"), rows)


def filesystems() -> str:
    """Return the table of the filesystems with the options of mkfs that a class may give."""
    rows = (
        (
            markdown.code(name),
            ", ".join(markdown.code(option) for option in sorted(each.mkfs_allowed)),
            markdown.code(" ".join(each.mkfs_defaults)),
            f"{each.smallest_bytes // _MIB} MiB",
        )
        for name, each in sources.FILESYSTEMS.items()
    )
    head = ("filesystem", "allowed in `mkfsOptions`", "without it", "smallest volume")
    return markdown.table(head, rows)
