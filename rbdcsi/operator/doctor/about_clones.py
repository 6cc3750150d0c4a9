"""Rules about clones. Pure."""

from collections.abc import Iterator

from rbdcsi.ceph import objects
from rbdcsi.operator.doctor.findings import Finding, rados
from rbdcsi.operator.facts import Cluster


def lost_parent(cluster: Cluster) -> Iterator[Finding]:
    """Find clones whose parent's snapshot is gone; those that are deleted need it no more."""
    for volume in cluster.volumes:
        if not volume.parent_lost or volume.record.deleting:
            continue
        header = objects.HEADER + volume.handle.image_id
        yield Finding(
            "lost-parent",
            cluster.cluster_id,
            str(volume.handle),
            f"image {volume.location}/{volume.image} is a clone of a snapshot that is gone: its "
            "flattening was cut off at its end",
            "no client can open it, so the volume is neither staged nor copied",
            "a controller mends it within minutes if it knows that all data was copied. Otherwise "
            "restore the volume from a backup. If there is none, make the image open again by "
            "removing the parent from its header: what was not copied then reads as zeros",
            (rados(volume.location, "rmomapkey", header, objects.PARENT),),
        )


RULES = (lost_parent,)
