"""The spec of a volume: kept as image metadata, compared when the same name is requested again."""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rbdcsi.ceph.objects import Header
from rbdcsi.model import stored
from rbdcsi.model.image_layout import Layout, mask, names
from rbdcsi.model.node_options import NodeOptions
from rbdcsi.model.storage_class import Parameters

# `rbd image-meta list` shows these.
PREFIX = "rbdcsi."
KEY = "rbdcsi.volume"
PVC, PVC_NAMESPACE, PV = "rbdcsi.pvc", "rbdcsi.pvc-namespace", "rbdcsi.pv"


@dataclass(frozen=True)
class VolumeSpec:
    """A volume as requested; `fs_type` is None for raw block use only.

    `source` is the id of the volume or snapshot that it is a copy of, None if it began empty.
    """

    name: str
    fs_type: str | None
    layout: Layout
    node: NodeOptions
    source: str | None = stored.later(None)
    unknown: Mapping[str, Any] = stored.unknown_fields()


SPEC = stored.Kind(
    VolumeSpec,
    name=f"metadata {KEY}",
    remedy="so the driver cannot use the volume; compare it with `rbd image-meta get` of another "
    "volume",
)


def from_request(
    name: str, fs_type: str | None, parameters: Parameters, source: str | None = None
) -> VolumeSpec:
    """Return the spec of a new volume.

    Args:
        name: the CSI name.
        fs_type: the volume's filesystem; None for raw block use only.
        parameters: the StorageClass's parameters.
        source: the id of the volume or snapshot that it is a copy of.
    """
    layout = Layout(
        parameters.features,
        parameters.object_bytes,
        parameters.stripe_unit,
        parameters.stripe_count,
        parameters.data_pool,
    )
    return VolumeSpec(name, fs_type, layout, parameters.node, source)


def metadata(spec: VolumeSpec, parameters: Parameters) -> dict[str, str]:
    """Return the image metadata of a new volume: the spec, and names for the operator."""
    pairs = {
        KEY: SPEC.encode(spec),
        PVC: parameters.pvc_name,
        PVC_NAMESPACE: parameters.pvc_namespace,
        PV: parameters.pv_name,
    }
    return {key: value for key, value in pairs.items() if value}


def read(metadata: Mapping[str, str], image: str) -> VolumeSpec | None:
    """Return the spec in an image's metadata, None if the driver has not written one.

    Args:
        metadata: the image's metadata.
        image: the image's name, for the message.

    Raises:
        Failed: the spec is damaged, or has a version that this driver does not know.
    """
    text = metadata.get(KEY)
    return None if text is None else SPEC.decode(text, f"image {image}")


def differences(
    existing: VolumeSpec, size: int, asked: VolumeSpec, required: int, limit: int
) -> Iterator[str]:
    """Yield a message for each difference between an existing volume and a request.

    Args:
        existing: the spec of the existing volume.
        size: the size of its image in bytes.
        asked: the spec of the request.
        required: the smallest acceptable size in bytes.
        limit: the largest acceptable size in bytes; 0 is no limit.
    """
    if existing.name != asked.name:
        yield f"it belongs to the volume named {existing.name!r}"
    if size < required or (limit and size > limit):
        yield f"its size is {size} bytes, requested are at least {required}" + (
            f" and at most {limit}" if limit else ""
        )
    if existing.fs_type != asked.fs_type:
        yield (
            f"it is for {existing.fs_type or 'raw block use'}, "
            f"requested is {asked.fs_type or 'raw block use'}"
        )
    if existing.source != asked.source:
        yield (f"it {_origin(existing.source)}, requested is one that {_origin(asked.source)}")
    for one, other in ((existing.layout, asked.layout), (existing.node, asked.node)):
        for field in dataclasses.fields(one):
            value, other_value = getattr(one, field.name), getattr(other, field.name)
            if field.compare and value != other_value:
                yield f"its {field.name} is {value!r}, requested is {other_value!r}"


def _origin(source: str | None) -> str:
    return f"is a copy of {source}" if source else "began empty"


def layout_differences(header: Header, layout: Layout, pool: str) -> Iterator[str]:
    """Yield a message for each difference between an image and a layout.

    Args:
        header: of the image.
        layout: the requested one.
        pool: the image's pool, which is no data pool of its own.
    """
    # librbd sets these itself: two from the layout, the third for clones, the last by object-map
    by_map = ("fast-diff",) if "object-map" in layout.features else ()
    own = mask(("striping", "data-pool", "operations", *by_map))
    if (header.features ^ mask(layout.features)) & ~own:
        yield (
            f"it has the features {','.join(names(header.features))}, "
            f"requested are {','.join(layout.features)}"
        )
    if header.object_bytes != layout.object_bytes:
        yield f"its objects have {header.object_bytes} bytes, requested are {layout.object_bytes}"
    stripe = header.stripe_unit or header.object_bytes, header.stripe_count or 1
    asked = layout.stripe_unit or layout.object_bytes, layout.stripe_count or 1
    if stripe != asked:
        yield f"its stripes (unit, count) are {stripe}, requested are {asked}"
    if (header.data_pool_id is None) != (layout.data_pool in {None, pool}):
        yield "it has a data pool" if header.data_pool_id is not None else "it has no data pool"
