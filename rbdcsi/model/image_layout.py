"""The layout of an image: its features by name (librbd: features.h, create.cc), its objects."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rbdcsi import errors
from rbdcsi.model import stored

BITS = {
    "layering": 1,
    "striping": 1 << 1,
    "exclusive-lock": 1 << 2,
    "object-map": 1 << 3,
    "fast-diff": 1 << 4,
    "deep-flatten": 1 << 5,
    "journaling": 1 << 6,
    "data-pool": 1 << 7,
    "operations": 1 << 8,
}

# librbd sets these itself: from stripeUnit/stripeCount and dataPool, and with the first clone.
CHOOSABLE = tuple(name for name in BITS if name not in {"striping", "data-pool", "operations"})

DEFAULT = ("layering", "exclusive-lock", "object-map", "fast-diff", "deep-flatten")

_NEEDS = {
    "object-map": "exclusive-lock",
    "fast-diff": "object-map",
    "journaling": "exclusive-lock",
}


@dataclass(frozen=True)
class Layout:
    """The options of `rbd create` besides name and size; sizes in bytes, None is RBD's default."""

    features: tuple[str, ...]
    object_bytes: int
    stripe_unit: int | None = None
    stripe_count: int | None = None
    data_pool: str | None = None
    unknown: Mapping[str, Any] = stored.unknown_fields()


def parse(text: str) -> tuple[str, ...]:
    """Return the features of a comma-separated list; the check needs no Ceph.

    Raises:
        InvalidRequest: a name is unknown, or a feature lacks another that it needs.
    """
    names = {name.strip() for name in text.split(",") if name.strip()}
    for name in sorted(names):
        if name not in CHOOSABLE:
            near = difflib.get_close_matches(name, CHOOSABLE, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise errors.InvalidRequest(
                f"imageFeatures: {name!r} cannot be chosen; {hint}known are {', '.join(CHOOSABLE)}"
            )
        if _NEEDS.get(name, name) not in names:
            raise errors.InvalidRequest(
                f"imageFeatures: {name} needs {_NEEDS[name]}; add it, or leave {name} out"
            )
    return tuple(name for name in CHOOSABLE if name in names)


def mask(names: Iterable[str]) -> int:
    """Return librbd's bit mask of these features."""
    return sum(BITS[name] for name in names)


def names(bits: int) -> tuple[str, ...]:
    """Return the names of the features in a bit mask, unknown bits as one number."""
    features = tuple(name for name, bit in BITS.items() if bits & bit)
    unknown_bits = bits & ~sum(BITS.values())
    return (*features, hex(unknown_bits)) if unknown_bits else features
