"""Pure: what a volume takes over from the volume or snapshot that it is a copy of.

The rule that the driver never destroys data holds for copies, too: a mark of the source that does
not rule out data becomes one of the copy that does not.
"""

import dataclasses

from rbdcsi import errors
from rbdcsi.model import filesystems, image_layout
from rbdcsi.model.format_mark import Mark, Phase
from rbdcsi.volumes.spec import VolumeSpec

# The kernel maps no image with more than 16 ancestors (rbd.c, RBD_MAX_PARENT_CHAIN_LEN).
# Each ancestor takes a few milliseconds whenever the image is opened or cloned.
SOFT_DEPTH = 4  # ancestors above which an image is flattened in the background
HARD_DEPTH = 14  # no volume is made with more: the rest is for what other programs clone from it

# A copy of a volume needs a snapshot of it. Once the source has so many, further copies are
# flattened in the background, so that there is room for more (snapshots/limit.py).
CROWDED = 400


def filesystem(
    source: VolumeSpec | None, mark: Mark | None, asked: str | None, *, named: bool
) -> str | None:
    """Return the filesystem of a copy, None for raw block use only.

    Args:
        source: the spec of the source, None if it is an unmanaged image.
        mark: the source's.
        asked: the filesystem of the request, None for raw block use only.
        named: whether the request names it; otherwise it is the default, and the source decides.

    Raises:
        InvalidRequest: the source has another filesystem.
    """
    existing = source.fs_type if source else None
    if mark and mark.phase is not Phase.RAW:
        existing = mark.fs_type
    if asked is None or existing is None or asked == existing:
        return asked
    if not named:
        return existing
    raise errors.InvalidRequest(
        f"a copy has the filesystem of its source, which is {existing}, but {asked} is requested; "
        f"ask for {existing}, or use a StorageClass with csi.storage.k8s.io/fstype: {existing}"
    )


def mark(source: VolumeSpec | None, mark: Mark | None, fs_type: str | None) -> Mark | None:
    """Return the mark of a copy.

    Args:
        source: the spec of the source, None if it is an unmanaged image.
        mark: the source's when its content was copied; of two that may hold, the later one.
        fs_type: the filesystem of the copy, None for raw block use only.
    """
    if mark and mark.phase is Phase.FORMATTED:
        return dataclasses.replace(mark, copied=True, generation=None)
    if source is None and fs_type:  # unmanaged: it must hold that filesystem, and is not formatted
        return Mark(Phase.FORMATTED, fs_type, copied=True)
    if source is None or source.fs_type is None:  # anything may have been written
        return Mark(Phase.RAW, fs_type or filesystems.DEFAULT)
    return dataclasses.replace(mark, generation=None) if mark else None


def require_layout(layout: image_layout.Layout) -> None:
    """Refuse a layout that no clone can have.

    Raises:
        InvalidRequest: it lacks the feature layering.
    """
    if "layering" not in layout.features:
        raise errors.InvalidRequest(
            "imageFeatures: a copy of a volume or snapshot needs the feature layering; add it to "
            "the StorageClass, or use another one"
        )


def require_depth(image: str, depth: int, *, has_snapshots: bool) -> None:
    """Refuse a copy that no node could map.

    Args:
        image: the pool and name of the source.
        depth: how many ancestors the copy would have.
        has_snapshots: whether the source has snapshots, with which it is never flattened.

    Raises:
        Refused: the copy would have too many ancestors.
        Busy: the same, until the source is flattened.
    """
    if depth <= HARD_DEPTH:
        return
    if has_snapshots:
        raise errors.Refused(
            f"volume_content_source: image {image} has {depth - 1} ancestors, and a clone of it "
            f"would have more than {HARD_DEPTH}, which no kernel maps; it is not flattened while "
            "it has snapshots, or copies that need one: delete these (`rbd snap ls --all`, `rbd "
            "children --all`), or copy its files to a new volume"
        )
    raise errors.Busy(
        f"volume_content_source: image {image} has {depth - 1} ancestors, and a clone of it would "
        f"have more than {HARD_DEPTH}, which no kernel maps; it is being flattened in the "
        "background: try again (the metric rbdcsi_clones_deep counts such images)"
    )


def require_size(source_bytes: int, limit: int) -> None:
    """Refuse a copy that would have to be smaller than its source.

    Args:
        source_bytes: size of the source.
        limit: the largest acceptable size in bytes; 0 is no limit.

    Raises:
        SizeOutOfRange: the limit is below the source's size.
    """
    if limit and limit < source_bytes:
        raise errors.SizeOutOfRange(
            f"the source has {source_bytes} bytes and a copy is never smaller, but the limit is "
            f"{limit} bytes; ask for at least {source_bytes} bytes"
        )
