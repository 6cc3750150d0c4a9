"""The snapshot records of the members of group snapshots.

Each member is a snapshot of its own to the rest of the driver, with a record by a name of its own.
"""

import dataclasses

from rbdcsi.ceph.connection import Ioctx
from rbdcsi.ceph.lineage import ImageSnapshot
from rbdcsi.model.snapshot_class import SnapshotParameters
from rbdcsi.snapshots.group_records import GroupRecord, Member
from rbdcsi.snapshots.records import SnapshotRecord
from rbdcsi.snapshots.source import Source
from rbdcsi.snapshots.store import Snapshots, StoredSnapshot
from rbdcsi.telemetry import steps


class MemberRecords:
    """The records of one cluster."""

    def __init__(self, home: Ioctx, cluster_id: str) -> None:
        self._records = Snapshots(home, cluster_id)
        self._cluster_id = cluster_id

    def name(self, group: GroupRecord, member: Member) -> str:
        """Return the name of the member's snapshot."""
        return group.member_name(self._cluster_id, member)

    def reserve(self, group: GroupRecord, member: Member, parameters: SnapshotParameters) -> None:
        """Write the record of a snapshot that is about to be taken, unless there is one."""
        name = self.name(group, member)
        if self._records.named(name) is None:
            record = SnapshotRecord(
                name, member.source, member.snapshot, kubernetes=parameters.kubernetes
            )
            self._records.swap(name, None, StoredSnapshot.of(record))

    def confirm(
        self, group: GroupRecord, member: Member, source: Source, snapshot: ImageSnapshot
    ) -> bool:
        """Write the id of the member's snapshot into its record, unless it is there.

        Args:
            group: the group.
            member: one of its members.
            source: the member's volume, as it was read after the snapshot was taken.
            snapshot: the snapshot.

        Returns:
            Whether it is there; if not, another call changed the record just now.
        """
        name = self.name(group, member)
        before = self._records.named(name)
        if before and before.record.snap_id:
            return True
        # The volume's present mark may be that of a rollback since; it is all that is known of a
        # group of an older driver.
        mark = member.mark or source.mark
        record = before.record if before else SnapshotRecord(name, member.source, member.snapshot)
        taken = dataclasses.replace(
            record,
            snap_id=snapshot.snap_id,
            mark=mark,
            abandoned=False,
            frozen=group.frozen,
        )
        if not self._records.swap(name, before, StoredSnapshot.of(taken)):
            return False
        steps.done("group.confirm", snapshot=member.snapshot)
        return True

    def remove(self, group: GroupRecord, member: Member) -> None:
        """Remove the record of a member whose snapshot was never taken, or is gone."""
        if stored := self._records.named(self.name(group, member)):
            self._records.swap(stored.record.name, stored, None)
