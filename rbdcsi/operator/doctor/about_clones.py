"""Rules about clones. Pure."""

from collections.abc import Iterator

from rbdcsi.ceph import objects
from rbdcsi.operator.doctor.findings import Finding, rados
from rbdcsi.operator.facts import Cluster


def lost_parent(cluster: Cluster) -> Iterator[Finding]:
    """Find clones whose parent's snapshot is gone.

    Those that are deleted need it no more, unless they have snapshots.
    """
    for volume in cluster.volumes:
        is_needed = not volume.record.deleting or (volume.header and volume.header.snapshots)
        if not volume.parent_lost or not is_needed:
            continue
        header = objects.HEADER + volume.handle.image_id
        yield Finding(
            "lost-parent",
            cluster.cluster_id,
            str(volume.handle),
            f"image {volume.location}/{volume.image} is a clone of a snapshot that is gone: its "
            "flattening was cut off at its end, or the pool of its parent was removed",
            "no client can open it, so the volume is neither staged nor copied",
            "a controller mends it within minutes if it knows that all data was copied. Otherwise "
            "restore the volume from a backup. If there is none, make the image open again by "
            "removing the parent from its header: what was not copied then reads as zeros, in its "
            "snapshots and copies, too",
            (rados(volume.location, "rmomapkey", header, objects.PARENT),),
        )


RULES = (lost_parent,)
