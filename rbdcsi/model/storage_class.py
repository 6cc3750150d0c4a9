"""StorageClass parameters: the names ceph-csi's users already write, read into one record."""

import difflib
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field

from rbdcsi import errors
from rbdcsi.model import ids, image_layout, image_names
from rbdcsi.model.node_options import FORCE, NodeOptions

FSTYPE = "csi.storage.k8s.io/fstype"
PVC_NAME = "csi.storage.k8s.io/pvc/name"
PVC_NAMESPACE = "csi.storage.k8s.io/pvc/namespace"
PV_NAME = "csi.storage.k8s.io/pv/name"

KNOWN = (
    "clusterID", "pool", "dataPool", "radosNamespace", "imageFeatures", "volumeNamePrefix",
    "objectSize", "stripeUnit", "stripeCount", "mounter", "tryOtherMounters", "mapOptions",
    "unmapOptions", "mkfsOptions", FSTYPE, PVC_NAME, PVC_NAMESPACE, PV_NAME,
)  # fmt: skip

# ceph-csi has these; ignoring one would surprise its user badly, so it is refused with words.
_NOT_YET = ("encrypted", "encryptionKMSID", "topologyConstrainedPools")

_MAPPERS = {"krbd": "krbd", "rbd": "krbd", "rbd-nbd": "nbd", "nbd": "nbd", "fuse": "fuse"}

_BYTES = re.compile(r"([0-9]{1,12})(?:([KM])i?B?)?")
_UNIT = {None: 1, "K": 1 << 10, "M": 1 << 20}


# librbd: an object is 2**order bytes with 12 <= order <= 25.
_SMALLEST_OBJECT, _DEFAULT_OBJECT, _LARGEST_OBJECT = 1 << 12, 1 << 22, 1 << 25


@dataclass(frozen=True)
class Parameters:
    """A StorageClass as the driver understands it; None leaves it to the cluster's settings."""

    cluster_id: str | None = None
    pool: str | None = None
    data_pool: str | None = None
    namespace: str | None = None
    features: tuple[str, ...] = image_layout.DEFAULT
    name_prefix: str = "csi-"
    object_bytes: int = _DEFAULT_OBJECT
    stripe_unit: int | None = None
    stripe_count: int | None = None
    fs_type: str | None = None
    node: NodeOptions = field(default_factory=NodeOptions)
    pvc_name: str = ""
    pvc_namespace: str = ""
    pv_name: str = ""


def parse(given: Mapping[str, str]) -> Parameters:
    """Read a StorageClass's parameters.

    Raises:
        InvalidRequest: an unknown, not yet supported or malformed parameter, named with the fix.
    """
    for name in given:
        _check_known(name, given[name])
    stripe_unit, stripe_count = _striping(given)
    return Parameters(
        cluster_id=_matching(given, "clusterID", ids.CLUSTER_ID),
        pool=given.get("pool") or None,
        data_pool=given.get("dataPool") or None,
        namespace=_matching(given, "radosNamespace", ids.NAMESPACE),
        features=image_layout.parse(given.get("imageFeatures") or ",".join(image_layout.DEFAULT)),
        name_prefix=_matching(given, "volumeNamePrefix", image_names.NAME_PREFIX) or "csi-",
        object_bytes=_object_bytes(given),
        stripe_unit=stripe_unit,
        stripe_count=stripe_count,
        fs_type=given.get(FSTYPE) or None,
        node=_node_options(given),
        pvc_name=given.get(PVC_NAME, ""),
        pvc_namespace=given.get(PVC_NAMESPACE, ""),
        pv_name=given.get(PV_NAME, ""),
    )


def _check_known(name: str, value: str) -> None:
    if name in KNOWN or (name == "encrypted" and value == "false"):
        return
    if name in _NOT_YET:
        raise errors.InvalidRequest(
            f"parameter {name} is not supported yet: remove it from the StorageClass "
            "(a volume made without it would not be what it asks for)"
        )
    near = difflib.get_close_matches(name, KNOWN, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise errors.InvalidRequest(f"unknown parameter {name!r}; {hint}known are {', '.join(KNOWN)}")


def _matching(given: Mapping[str, str], name: str, grammar: re.Pattern[str]) -> str | None:
    value = given.get(name)
    if value and not grammar.fullmatch(value):
        raise errors.InvalidRequest(f"{name}: {value!r} does not match {grammar.pattern}")
    return value or None


def _size(given: Mapping[str, str], name: str) -> int | None:
    text = given.get(name)
    if not text:
        return None
    match = _BYTES.fullmatch(text)
    if not match:
        raise errors.InvalidRequest(f"{name}: {text!r} is no size; write bytes, or 64K, 4M")
    return int(match[1]) * _UNIT[match[2]]


def _object_bytes(given: Mapping[str, str]) -> int:
    size = _size(given, "objectSize")
    if size is None:
        return _DEFAULT_OBJECT
    if size & (size - 1) or not _SMALLEST_OBJECT <= size <= _LARGEST_OBJECT:
        raise errors.InvalidRequest(
            f"objectSize: {size} bytes; it must be a power of two from 4K to 32M"
        )
    return size


def _striping(given: Mapping[str, str]) -> tuple[int | None, int | None]:
    unit, count = _size(given, "stripeUnit"), given.get("stripeCount")
    if (unit is None) != (not count):
        raise errors.InvalidRequest("stripeUnit and stripeCount go together: give both or neither")
    if unit is None or not count:
        return None, None
    if not count.isascii() or not count.isdigit() or not 1 <= int(count) <= 1 << 20:
        raise errors.InvalidRequest(f"stripeCount: {count!r} is no positive number")
    if unit == 0 or _object_bytes(given) % unit:
        raise errors.InvalidRequest(
            f"stripeUnit: {unit} bytes do not divide the objectSize of {_object_bytes(given)} bytes"
        )
    return unit, int(count)


def _node_options(given: Mapping[str, str]) -> NodeOptions:
    mounter = given.get("mounter")
    if mounter and mounter not in _MAPPERS:
        raise errors.InvalidRequest(
            f"mounter: {mounter!r} is unknown; use one of {', '.join(_MAPPERS)}"
        )
    return NodeOptions(
        mapper=_MAPPERS[mounter] if mounter else None,
        try_other_mappers=_flag(given, "tryOtherMounters"),
        map_options=_by_mapper(given, "mapOptions"),
        unmap_options=_unmap_options(given),
        mkfs_options=_words(given, "mkfsOptions"),
    )


def _flag(given: Mapping[str, str], name: str) -> bool:
    text = given.get(name) or "false"
    if text not in {"true", "false"}:
        raise errors.InvalidRequest(f"{name}: {text!r}; write true or false")
    return text == "true"


def _by_mapper(given: Mapping[str, str], name: str) -> dict[str, str]:
    """Read `krbd:a,b;nbd:c`; options without a mapper's name are krbd's, as in ceph-csi."""
    options: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in given.get(name, "").split(";"))):
        head, colon, tail = part.partition(":")
        mapper = _MAPPERS.get(head) if colon else None
        key, value = (mapper, tail) if mapper else ("krbd", part)
        if key in options:
            raise errors.InvalidRequest(f"{name}: options for {key} are given twice in {part!r}")
        options[key] = value
    return options


def _unmap_options(given: Mapping[str, str]) -> dict[str, str]:
    options = _by_mapper(given, "unmapOptions")
    for mapper, option in options.items():
        if option != FORCE:
            raise errors.InvalidRequest(
                f"unmapOptions: {option!r} for {mapper}; write {FORCE}, which does not wait for "
                "outstanding I/O, or leave the parameter out"
            )
    return options


def _words(given: Mapping[str, str], name: str) -> str:
    text = given.get(name, "")
    try:
        shlex.split(text)
    except ValueError as error:
        raise errors.InvalidRequest(f"{name}: {text!r} has an open quotation: {error}") from error
    return text
