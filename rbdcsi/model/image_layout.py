"""How an image is laid out: its features by name (librbd: features.h, create.cc), its objects."""

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
}

# striping and data-pool follow from stripeUnit/stripeCount and dataPool: nobody names them.
CHOOSABLE = tuple(name for name in BITS if name not in {"striping", "data-pool"})

DEFAULT = ("layering", "exclusive-lock", "object-map", "fast-diff", "deep-flatten")

_NEEDS = {
    "object-map": "exclusive-lock",
    "fast-diff": "object-map",
    "journaling": "exclusive-lock",
}


@dataclass(frozen=True)
class Layout:
    """What `rbd create` is told beside name and size; sizes in bytes, None is RBD's default."""

    features: tuple[str, ...]
    object_bytes: int
    stripe_unit: int | None = None
    stripe_count: int | None = None
    data_pool: str | None = None
    unknown: Mapping[str, Any] = stored.unknown_fields()


def parse(text: str) -> tuple[str, ...]:
    """Read a comma-separated list of feature names, checked before Ceph is asked.

    Raises:
        InvalidRequest: an unknown name, or a feature without the one it needs.
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
    """Return the bit mask librbd takes for these feature names."""
    return sum(BITS[name] for name in names)


def names(bits: int) -> tuple[str, ...]:
    """Return the names of the features set in a mask, unknown bits as numbers."""
    known = tuple(name for name, bit in BITS.items() if bits & bit)
    unknown = bits & ~sum(BITS.values())
    return (*known, hex(unknown)) if unknown else known
