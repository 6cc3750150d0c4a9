"""What a volume is: kept as image metadata, compared when the same name is asked for again."""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rbdcsi import errors
from rbdcsi.ceph.objects import Header
from rbdcsi.model.image_layout import Layout, mask, names
from rbdcsi.model.node_options import NodeOptions
from rbdcsi.model.storage_class import Parameters

VERSION = 1

# `rbd image-meta list` shows these.
KEY = "rbdcsi.volume"
PVC, PVC_NAMESPACE, PV = "rbdcsi.pvc", "rbdcsi.pvc-namespace", "rbdcsi.pv"


@dataclass(frozen=True)
class VolumeSpec:
    """A volume as it was asked for; `fs_type` None is raw block use only."""

    name: str
    fs_type: str | None
    layout: Layout
    node: NodeOptions


def of(name: str, fs_type: str | None, given: Parameters) -> VolumeSpec:
    """Build the spec of a new volume from its request."""
    layout = Layout(
        given.features, given.object_bytes, given.stripe_unit, given.stripe_count, given.data_pool
    )
    return VolumeSpec(name, fs_type, layout, given.node)


def metadata(spec: VolumeSpec, given: Parameters) -> dict[str, str]:
    """Return the image metadata of a new volume: the spec, and names for the operator."""
    facts = {"version": VERSION, **dataclasses.asdict(spec)}
    pairs = {
        KEY: json.dumps(facts, separators=(",", ":")),
        PVC: given.pvc_name,
        PVC_NAMESPACE: given.pvc_namespace,
        PV: given.pv_name,
    }
    return {key: value for key, value in pairs.items() if value}


def read(metadata: Mapping[str, str], image: str) -> VolumeSpec | None:
    """Return the spec in an image's metadata, None if the driver did not (yet) write one.

    Raises:
        Failed: it is damaged, or of a version that this driver does not know.
    """
    text = metadata.get(KEY)
    if text is None:
        return None
    try:
        facts = json.loads(text)
        if facts.pop("version") != VERSION:
            raise errors.Failed(
                f"image {image}: metadata {KEY} was written by another version of the driver; "
                f"this one knows version {VERSION}"
            )
        layout = {**facts.pop("layout")}
        layout["features"] = tuple(layout["features"])
        return VolumeSpec(layout=Layout(**layout), node=_node(facts.pop("node")), **facts)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise errors.Failed(
            f"image {image}: metadata {KEY} is damaged ({error!r}); compare it with "
            "`rbd image-meta get` of another volume"
        ) from error


def _node(facts: Mapping[str, Any]) -> NodeOptions:
    node = NodeOptions(**facts)
    texts = (node.mkfs_options, *node.map_options.values(), *node.unmap_options.values())
    if not all(isinstance(text, str) for text in texts):
        raise TypeError(f"node options are {facts!r}")
    return node


def differences(
    found: VolumeSpec, size: int, wanted: VolumeSpec, required: int, limit: int
) -> Iterator[str]:
    """Yield in words what an existing volume has otherwise than the request wants."""
    if found.name != wanted.name:
        yield f"it belongs to the volume named {found.name!r}"
    if size < required or (limit and size > limit):
        yield f"its size is {size} bytes, asked are at least {required}" + (
            f" and at most {limit}" if limit else ""
        )
    if found.fs_type != wanted.fs_type:
        yield (
            f"it is for {found.fs_type or 'raw block use'}, "
            f"asked is {wanted.fs_type or 'raw block use'}"
        )
    for ours, theirs in ((found.layout, wanted.layout), (found.node, wanted.node)):
        for name, value in dataclasses.asdict(ours).items():
            other = getattr(theirs, name)
            if value != other:
                yield f"its {name} is {value!r}, asked is {other!r}"


def layout_differences(header: Header, layout: Layout) -> Iterator[str]:
    """Yield in words how an image is laid out otherwise than `rbd create` would have done."""
    # striping and data-pool are set by librbd, from the layout
    chosen = mask(layout.features)
    if header.features & ~mask(("striping", "data-pool")) != chosen:
        yield (
            f"it has the features {','.join(names(header.features))}, "
            f"asked are {','.join(layout.features)}"
        )
    if header.object_bytes != layout.object_bytes:
        yield f"its objects have {header.object_bytes} bytes, asked are {layout.object_bytes}"
    stripe = header.stripe_unit or header.object_bytes, header.stripe_count or 1
    asked = layout.stripe_unit or layout.object_bytes, layout.stripe_count or 1
    if stripe != asked:
        yield f"its stripes (unit, count) are {stripe}, asked are {asked}"
    if (header.data_pool_id is None) != (layout.data_pool is None):
        yield "it has a data pool" if header.data_pool_id is not None else "it has no data pool"
