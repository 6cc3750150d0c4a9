"""StorageClass parameters, named as in ceph-csi, parsed into one record."""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field

from rbdcsi import errors
from rbdcsi.model import ids, image_layout, image_names, map_options
from rbdcsi.model.node_options import FORCE, NodeOptions
from rbdcsi.model.parameters import RESERVED, Parameter, flag, matching, unknown

FSTYPE = "csi.storage.k8s.io/fstype"
PVC_NAME = "csi.storage.k8s.io/pvc/name"
PVC_NAMESPACE = "csi.storage.k8s.io/pvc/namespace"
PV_NAME = "csi.storage.k8s.io/pv/name"

# Parameters of ceph-csi that ask for what is done anyway, with the values that do.
AS_DONE = {"imageFormat": "2", "thickProvision": "false", "encrypted": "false"}
# Parameters of ceph-csi that change nothing of a volume: logs of clients, names of snapshots.
WITHOUT_EFFECT = ("cephLogDir", "cephLogStrategy", "snapshotNamePrefix")
# Parameters of ceph-csi that say how a volume is encrypted, if `encrypted` says that it is.
_ENCRYPTION_DETAILS = re.compile(r"encryption[A-Z]\w*|integrityMode", re.ASCII)
# Parameters of ceph-csi without which a volume would be another one than requested.
_ENCRYPTION = re.compile("encrypt.*|integrityMode")
_LIMITS = re.compile(r"(?:base|max)(?:Read|Write)?(?:Iops|Bps)|\w*psPerGiB|baseVolSizeBytes")
_NOT_YET = (
    (re.compile("topologyConstrainedPools"), "make a StorageClass for each pool"),
    (_ENCRYPTION, "the data would lie in Ceph unencrypted; leave such volumes to ceph-csi"),
    (re.compile("thickProvision"), "all images are thin"),
    (re.compile("imageFormat"), 'images of format 1 are deprecated; write "2"'),
    (_LIMITS, "the driver limits no I/O; remove it"),
)

_MAPPERS = {"krbd": "krbd", "rbd": "krbd", "rbd-nbd": "nbd", "nbd": "nbd", "fuse": "fuse"}


_CREATE = "CreateVolume"
_BOTH = "CreateVolume, NodeStage"

# fmt: off
TABLE = (
    Parameter("clusterID", "name", "", "main", _CREATE,
              "A cluster of the configuration file. Needed only if the file lists several."),
    Parameter("pool", "pool", "", "kubernetes", _CREATE,
              "The pool of the images. Default: the cluster's `pool`."),
    Parameter("dataPool", "pool", "", "kubernetes-ec", _CREATE,
              "The pool of the images' data, such as an erasure-coded one that allows overwrites."),
    Parameter("radosNamespace", "name", "", "tenant-a", _CREATE,
              "The RADOS namespace of the images. Default: the cluster's `radosNamespace`."),
    Parameter("imageFeatures", "list", ",".join(image_layout.DEFAULT), "layering,exclusive-lock",
              _CREATE, f"Image features: {', '.join(image_layout.CHOOSABLE)}."),
    Parameter("volumeNamePrefix", "text", "csi-", "team-a-", _CREATE,
              "The beginning of each image's name."),
    Parameter("objectSize", "size", "4M", "8M", _CREATE,
              "The size of the image's objects: a power of two from 4K to 32M."),
    Parameter("stripeUnit", "size", "", "64K", _CREATE,
              "The size of a stripe; divides `objectSize` and needs `stripeCount`."),
    Parameter("stripeCount", "number", "", "8", _CREATE,
              "The number of objects that one stripe covers; needs `stripeUnit`."),
    Parameter("mounter", "choice", "", "rbd-nbd", _CREATE,
              f"The mapper: {', '.join(_MAPPERS)}. Default: the node's `--mapper`."),
    Parameter("tryOtherMounters", "flag", "false", "true", _CREATE,
              "Whether krbd or nbd may map where that of `mounter` or `--mapper` cannot."),
    Parameter("mapOptions", "options", "", "krbd:queue_depth=256", _BOTH,
              "Options for mapping, by mapper; options without a mapper's name are krbd's."),
    Parameter("unmapOptions", "options", "", "krbd:force", _CREATE,
              f"`{FORCE}`, by mapper: unmapping does not wait for outstanding I/O."),
    Parameter("mkfsOptions", "words", "", "-m0 -E nodiscard", _CREATE,
              "Options of mkfs, in place of the driver's own; only those of the table below."),
    Parameter("fstype", "choice", "", "xfs", _CREATE,
              f"The older name of `{FSTYPE}`."),
    Parameter(FSTYPE, "choice", "ext4", "xfs", _CREATE,
              "The filesystem: ext4, xfs or btrfs."),
    Parameter(PVC_NAME, "text", "", "notes", _CREATE,
              "The claim's name, from the provisioner; kept in the image's metadata."),
    Parameter(PVC_NAMESPACE, "text", "", "default", _CREATE,
              "The claim's namespace, from the provisioner; kept in the image's metadata."),
    Parameter(PV_NAME, "text", "", "pvc-0c1a", _CREATE,
              "The volume's name, from the provisioner; kept in the image's metadata."),
)
# fmt: on
KNOWN = tuple(parameter.name for parameter in TABLE)

_BYTES = re.compile(r"([0-9]{1,12})(?:([KM])i?B?)?")
_UNIT = {None: 1, "K": 1 << 10, "M": 1 << 20}

# librbd: an object is 2**order bytes with 12 <= order <= 25.
_SMALLEST_OBJECT, _DEFAULT_OBJECT, _LARGEST_OBJECT = 1 << 12, 1 << 22, 1 << 25


@dataclass(frozen=True)
class Parameters:
    """The parameters of a StorageClass; None takes the cluster's configured value or no value."""

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


def parse(parameters: Mapping[str, str]) -> Parameters:
    """Return the record of a StorageClass's parameters.

    Raises:
        InvalidRequest: a parameter is unknown, not supported yet or malformed.
    """
    _check_names(parameters)
    stripe_unit, stripe_count = _striping(parameters)
    features = image_layout.parse(parameters.get("imageFeatures") or ",".join(image_layout.DEFAULT))
    return Parameters(
        cluster_id=matching(parameters, "clusterID", ids.CLUSTER_ID),
        pool=parameters.get("pool") or None,
        data_pool=parameters.get("dataPool") or None,
        namespace=matching(parameters, "radosNamespace", ids.NAMESPACE),
        features=features,
        name_prefix=matching(parameters, "volumeNamePrefix", image_names.NAME_PREFIX) or "csi-",
        object_bytes=_object_bytes(parameters),
        stripe_unit=stripe_unit,
        stripe_count=stripe_count,
        fs_type=parameters.get(FSTYPE) or parameters.get("fstype") or None,
        node=_node_options(parameters, features),
        pvc_name=parameters.get(PVC_NAME, ""),
        pvc_namespace=parameters.get(PVC_NAMESPACE, ""),
        pv_name=parameters.get(PV_NAME, ""),
    )


def _check_names(parameters: Mapping[str, str]) -> None:
    for name, value in parameters.items():
        if name in KNOWN or name in WITHOUT_EFFECT or name.startswith(RESERVED):
            continue
        if name in AS_DONE and _is_done(parameters, name):
            continue
        if _ENCRYPTION_DETAILS.fullmatch(name) and not flag(parameters, "encrypted"):
            continue
        _refuse(name, value)


def _is_done(parameters: Mapping[str, str], name: str) -> bool:
    value = AS_DONE[name]
    if value == "false":
        return not flag(parameters, name)
    return parameters[name] in {"", value}


def _refuse(name: str, value: str) -> None:
    for names, reason in _NOT_YET:
        if names.fullmatch(name):
            raise errors.InvalidRequest(f"parameter {name}: {value!r} is not supported: {reason}")
    raise unknown(name, KNOWN)


def _size(parameters: Mapping[str, str], name: str) -> int | None:
    text = parameters.get(name)
    if not text:
        return None
    match = _BYTES.fullmatch(text)
    if not match:
        raise errors.InvalidRequest(
            f"{name}: {text!r} is not a size; write a number of bytes, or a size such as 64K or 4M"
        )
    return int(match[1]) * _UNIT[match[2]]


def _object_bytes(parameters: Mapping[str, str]) -> int:
    size = _size(parameters, "objectSize")
    if size is None:
        return _DEFAULT_OBJECT
    if size & (size - 1) or not _SMALLEST_OBJECT <= size <= _LARGEST_OBJECT:
        raise errors.InvalidRequest(
            f"objectSize: {size} bytes; it must be a power of two from 4K to 32M"
        )
    return size


def _striping(parameters: Mapping[str, str]) -> tuple[int | None, int | None]:
    unit, count = _size(parameters, "stripeUnit"), parameters.get("stripeCount")
    if (unit is None) != (not count):
        raise errors.InvalidRequest("stripeUnit and stripeCount go together: give both or neither")
    if unit is None or not count:
        return None, None
    if not count.isascii() or not count.isdigit() or not 1 <= int(count) <= 1 << 20:
        raise errors.InvalidRequest(f"stripeCount: {count!r} is not a number from 1 to 1048576")
    object_bytes = _object_bytes(parameters)
    if unit == 0 or object_bytes % unit:
        raise errors.InvalidRequest(
            f"stripeUnit: {unit} bytes do not divide the objectSize of {object_bytes} bytes"
        )
    return unit, int(count)


def _node_options(parameters: Mapping[str, str], features: tuple[str, ...]) -> NodeOptions:
    mounter = parameters.get("mounter")
    mapper = _MAPPERS.get(mounter.lower()) if mounter else None
    if mounter and mapper is None:
        raise errors.InvalidRequest(
            f"mounter: {mounter!r} is unknown; use one of {', '.join(_MAPPERS)}"
        )
    try_others = flag(parameters, "tryOtherMounters")
    if mapper == "krbd" and "journaling" in features and not try_others:
        raise errors.InvalidRequest(
            f"mounter: {mounter} maps no image with the feature journaling, which no kernel "
            "supports; use mounter rbd-nbd, or set tryOtherMounters, or leave journaling out"
        )
    return NodeOptions(
        mapper=mapper,
        try_other_mappers=try_others,
        map_options=_map_options(parameters),
        unmap_options=_unmap_options(parameters),
        mkfs_options=_shell_words(parameters, "mkfsOptions"),
    )


def _by_mapper(parameters: Mapping[str, str], name: str) -> dict[str, str]:
    """Return the options by mapper of `krbd:a,b;nbd:c`; options without a mapper are krbd's."""
    options: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in parameters.get(name, "").split(";"))):
        head, colon, tail = part.partition(":")
        mapper = _MAPPERS.get(head.strip().lower()) if colon else None
        key, value = (mapper, tail.strip()) if mapper else ("krbd", part)
        if key in options:
            raise errors.InvalidRequest(f"{name}: options for {key} are given twice in {part!r}")
        options[key] = value
    return options


def _map_options(parameters: Mapping[str, str]) -> dict[str, str]:
    options = _by_mapper(parameters, "mapOptions")
    for mapper, text in options.items():
        map_options.parse(mapper, text)
    return options


def _unmap_options(parameters: Mapping[str, str]) -> dict[str, str]:
    options = _by_mapper(parameters, "unmapOptions")
    for mapper, option in options.items():
        if option != FORCE:
            raise errors.InvalidRequest(
                f"unmapOptions: {option!r} for {mapper}; write {FORCE}, which does not wait for "
                "outstanding I/O, or leave the parameter out"
            )
    return options


def _shell_words(parameters: Mapping[str, str], name: str) -> str:
    text = parameters.get(name, "")
    try:
        shlex.split(text)
    except ValueError as error:
        raise errors.InvalidRequest(f"{name}: {text!r} has an open quotation: {error}") from error
    return text
