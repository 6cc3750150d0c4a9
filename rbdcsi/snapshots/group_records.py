"""Records of group snapshots, beside those of their members at the cluster's home location.

A member is a snapshot with a record of its own, under a name that begins with the group's id. So
the name alone says which group a snapshot is of.
"""

import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from rbdcsi import errors
from rbdcsi.ceph import omap
from rbdcsi.ceph.connection import Ioctx
from rbdcsi.model import ids, stored
from rbdcsi.snapshots.store import OBJECT

_GROUP = "group/"  # by CSI name
_TOKEN = "group-token/"  # the CSI name, by the token in the group's id  # noqa: S105


@dataclass(frozen=True)
class Member:
    """A member: the volume_id, the name of the RBD snapshot, and its id when it is taken.

    `mark` is the volume's mark after that, as it is stored; see SnapshotRecord.
    """

    source: str
    snapshot: str
    snap_id: int | None = None
    mark: str | None = stored.later(None)
    unknown: Mapping[str, Any] = stored.unknown_fields()

    @property
    def volume(self) -> ids.VolumeHandle:
        """The volume that the snapshot is taken of."""
        return ids.parse(self.source)


@dataclass(frozen=True)
class GroupRecord:
    """A group snapshot that is being taken, or was taken.

    Attributes:
        name: the CSI name.
        token: the token in its id.
        members: one for each volume, sorted by volume_id.
        attempts: how often the snapshots were begun; a call whose number is not current any more
            must not finish.
        taken: whether all snapshots are taken, at one moment.
        frozen: whether no filesystem of the volumes was in use then; see SnapshotRecord.
    """

    name: str
    token: str
    members: tuple[Member, ...]
    attempts: int = 0
    taken: bool = False
    frozen: bool = stored.later(default=False)
    unknown: Mapping[str, Any] = stored.unknown_fields()

    def member_name(self, cluster_id: str, member: Member) -> str:
        """Return the name of a member's own record."""
        return f"{ids.GroupHandle(cluster_id, self.token)}/{member.volume.image_id}"


GROUP_RECORD = stored.Kind(
    GroupRecord,
    name="record of a group snapshot",
    remedy="so it is not known which snapshots belong to it, and nothing is changed: look at it "
    "with `rados getomapval`, compare it with `rbd snap ls`, then remove that key",
)


def group_of(name: str) -> ids.GroupHandle | None:
    """Return the group of the snapshot whose record has this name, None if it is of no group."""
    try:
        return ids.parse_group(name.partition("/")[0])
    except errors.NotFound:
        return None


@dataclass(frozen=True)
class StoredGroup:
    """A record and the text that is stored for it."""

    text: str
    record: GroupRecord

    @classmethod
    def of(cls, record: GroupRecord) -> Self:
        """Return a record with the text that `Groups.swap` stores for it."""
        return cls(GROUP_RECORD.encode(record), record)


class Groups:
    """The records of group snapshots of one cluster."""

    def __init__(self, home: Ioctx) -> None:
        """Use the records at the home location, with the configured user's I/O context."""
        self._omap = omap.Omap(home, OBJECT)

    def named(self, name: str) -> StoredGroup | None:
        """Return the record of a CSI name, None if it has none.

        Raises:
            Failed: it is damaged.
        """
        key = _GROUP + _quoted(name)
        text = self._omap.get(key)
        if text is None:
            return None
        return StoredGroup(text, GROUP_RECORD.decode(text, f"object {OBJECT}, key {key}"))

    def of_handle(self, handle: ids.GroupHandle) -> StoredGroup | None:
        """Return the record of a group snapshot, None if there is no such group snapshot.

        Raises:
            Failed: it is damaged.
        """
        quoted = self._omap.get(_TOKEN + handle.token)
        group = self.named(urllib.parse.unquote(quoted)) if quoted else None
        return group if group and group.record.token == handle.token else None

    def swap(self, before: StoredGroup | None, after: StoredGroup | None) -> bool:
        """Replace a record if it is still stored as it was read; None: there is no record.

        Returns:
            Whether the record has changed.
        """
        group = after or before
        if group is None:
            raise ValueError("neither a record before nor after")
        name, token = _quoted(group.record.name), _TOKEN + group.record.token
        return self._omap.swap(
            _GROUP + name,
            before.text if before else None,
            after.text if after else None,
            {token: name if after else None},
        )


def _quoted(name: str) -> str:
    return urllib.parse.quote(name, safe="")
