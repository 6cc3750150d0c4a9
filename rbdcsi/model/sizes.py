"""Volume sizes in bytes: the requested range, and the limits of RBD and the filesystems."""

from rbdcsi import errors
from rbdcsi.model import filesystems

MIB = 1 << 20
GIB = 1 << 30
DEFAULT_BYTES = GIB

# librbd's object map refuses more objects than this (cls_rbd: MAX_OBJECT_MAP_OBJECT_COUNT).
MAX_OBJECTS = 256_000_000


def smallest(fs_type: str | None) -> int:
    """Return the smallest volume in bytes for a filesystem, or for a raw block volume (None)."""
    return MIB if fs_type is None else filesystems.TABLE[fs_type].smallest_bytes


def largest(object_bytes: int) -> int:
    """Return the largest volume in bytes whose image has objects of `object_bytes`."""
    return MAX_OBJECTS * object_bytes // MIB * MIB


def choose(required: int, limit: int, *, fs_type: str | None, object_bytes: int) -> int:
    """Return the size in bytes of a new volume: the smallest whole MiB in the requested range.

    Args:
        required: the smallest acceptable size in bytes; 0 leaves the choice to the driver.
        limit: the largest acceptable size in bytes; 0 is no limit.
        fs_type: the volume's filesystem, None for a raw block volume.
        object_bytes: size of the image's objects in bytes.

    Raises:
        InvalidRequest: a bound is negative (CSI spec: CapacityRange MUST NOT be negative).
        SizeOutOfRange: no size is in the range, or the range is too small or too large for RBD.
    """
    if required < 0 or limit < 0:
        raise errors.InvalidRequest(
            f"capacity_range has a negative bound (required {required}, limit {limit} bytes)"
        )
    least = max(required or min(DEFAULT_BYTES, limit or DEFAULT_BYTES) // MIB * MIB, MIB)
    size = max(-(-least // MIB) * MIB, smallest(fs_type))
    if limit and size > limit:
        raise errors.SizeOutOfRange(
            f"no volume fits between {required} and {limit} bytes: sizes are whole MiB and the "
            f"smallest {fs_type or 'raw block'} volume has {smallest(fs_type)} bytes; "
            f"ask for a limit of at least {size} bytes"
        )
    if size > largest(object_bytes):
        raise errors.SizeOutOfRange(
            f"{size} bytes are more than an image with objects of {object_bytes} bytes can have "
            f"({largest(object_bytes)} bytes); ask for less, or for a larger objectSize"
        )
    return size


def grown(required: int, limit: int, *, current: int, object_bytes: int) -> int:
    """Return the size in bytes that a volume grows to, which is never below `current`.

    Args:
        required: the smallest acceptable size in bytes; 0 is no bound.
        limit: the largest acceptable size in bytes; 0 is no limit.
        current: the size in bytes that the volume has.
        object_bytes: size of the image's objects in bytes.

    Raises:
        InvalidRequest: both bounds are missing, or one is negative.
        SizeOutOfRange: the limit is below the volume's size, or no size is in the range.
    """
    if required < 0 or limit < 0 or not (required or limit):
        raise errors.InvalidRequest(
            f"capacity_range (required {required}, limit {limit} bytes): must have a bound, and no "
            "negative one"
        )
    size = current if required <= current else -(-required // MIB) * MIB
    if limit and size > limit:
        raise errors.SizeOutOfRange(
            f"no size is between {required} and {limit} bytes: the volume has {current} bytes and "
            f"never shrinks, and sizes are whole MiB; ask for a limit of at least {size} bytes"
        )
    if size > max(current, largest(object_bytes)):
        raise errors.SizeOutOfRange(
            f"{size} bytes are more than an image with objects of {object_bytes} bytes can have "
            f"({largest(object_bytes)} bytes); ask for less"
        )
    return size
