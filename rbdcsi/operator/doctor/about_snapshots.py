"""Rules about snapshots. Pure."""

from collections.abc import Iterator

from rbdcsi.operator.doctor.findings import Finding, command
from rbdcsi.operator.facts import Cluster
from rbdcsi.snapshots import store


def damaged_snapshot(cluster: Cluster) -> Iterator[Finding]:
    """Find records of snapshots that cannot be decoded."""
    namespace = ("--namespace", cluster.home_namespace) if cluster.home_namespace else ()
    where = ("--pool", cluster.home_pool, *namespace)
    for each in cluster.snapshots:
        if each.damage is not None:
            yield Finding(
                "damaged-record",
                cluster.cluster_id,
                f"snapshot {each.name}",
                each.damage,
                "the snapshot cannot be deleted, and no other one can have its name; its volume's "
                "data stays when the volume is deleted",
                "when no VolumeSnapshotContent needs the snapshot any more, remove the record; the "
                "snapshot then counts as one that a person took (`rbdcsi snapshots ls`: "
                "unmanaged), and is removed with `rbd snap rm`",
                (command("rados", *where, "rmomapkey", store.OBJECT, store.name_key(each.name)),),
            )


RULES = (damaged_snapshot,)
