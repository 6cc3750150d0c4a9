"""VolumeSnapshotClass parameters, named as in ceph-csi, parsed into one record."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from rbdcsi.model import ids, image_names
from rbdcsi.model.parameters import RESERVED, Parameter, flag, matching, unknown

NAME = "csi.storage.k8s.io/volumesnapshot/name"
NAMESPACE = "csi.storage.k8s.io/volumesnapshot/namespace"
CONTENT = "csi.storage.k8s.io/volumesnapshotcontent/name"
GROUP_NAME = "csi.storage.k8s.io/volumegroupsnapshot/name"
GROUP_NAMESPACE = "csi.storage.k8s.io/volumegroupsnapshot/namespace"
GROUP_CONTENT = "csi.storage.k8s.io/volumegroupsnapshotcontent/name"

DEFAULT_PREFIX = "csi-snap-"

# Parameters that change nothing: ceph-csi's `pool`, as a snapshot is in the pool of its volume;
# ceph-csi's `volumeGroupNamePrefix`, as no RBD group is made; and the class's own field, which
# Kubernetes' suite repeats among the parameters of its group classes.
WITHOUT_EFFECT = ("pool", "volumeGroupNamePrefix", "deletionPolicy")

_CREATE = "CreateSnapshot"
_CREATE_GROUP = "CreateVolumeGroupSnapshot"
_FREEZE = "freeze"

# fmt: off
TABLE = (
    Parameter("clusterID", "name", "", "main", _CREATE,
              "The volume's cluster. A class without it serves the volumes of every cluster."),
    Parameter("snapshotNamePrefix", "text", DEFAULT_PREFIX, "team-a-", _CREATE,
              "The beginning of each RBD snapshot's name."),
    Parameter(_FREEZE, "flag", "false", "true", _CREATE,
              "Whether the node that has the volume staged writes its filesystem out and holds all "
              "writes back while the snapshot is taken, for 5 s at most. Otherwise the snapshot is "
              "crash-consistent."),
    Parameter(NAME, "text", "", "before-upgrade", _CREATE,
              "The VolumeSnapshot's name, from the snapshotter; kept in the record."),
    Parameter(NAMESPACE, "text", "", "default", _CREATE,
              "The VolumeSnapshot's namespace, from the snapshotter; kept in the record."),
    Parameter(CONTENT, "text", "", "snapcontent-0c1a", _CREATE,
              "The VolumeSnapshotContent's name, from the snapshotter; kept in the record."),
    Parameter(GROUP_NAME, "text", "", "before-upgrade", _CREATE_GROUP,
              "The VolumeGroupSnapshot's name, from the snapshotter; kept in each member's "
              "record."),
    Parameter(GROUP_NAMESPACE, "text", "", "default", _CREATE_GROUP,
              "The VolumeGroupSnapshot's namespace, from the snapshotter; kept in each member's "
              "record."),
    Parameter(GROUP_CONTENT, "text", "", "groupsnapcontent-0c1a", _CREATE_GROUP,
              "The VolumeGroupSnapshotContent's name, from the snapshotter; kept in each member's "
              "record."),
)
# fmt: on
_NAMES = (NAME, NAMESPACE, CONTENT, GROUP_NAME, GROUP_NAMESPACE, GROUP_CONTENT)
KNOWN = tuple(parameter.name for parameter in TABLE)


@dataclass(frozen=True)
class SnapshotParameters:
    """The parameters of a VolumeSnapshotClass.

    `kubernetes` has the names of the VolumeSnapshot, or of the VolumeGroupSnapshot, by the last
    words of their parameters.
    `freeze` is whether the volume's filesystem is frozen while the snapshot is taken.
    """

    cluster_id: str | None = None
    name_prefix: str = DEFAULT_PREFIX
    kubernetes: Mapping[str, str] = field(default_factory=dict)
    freeze: bool = False


def parse(parameters: Mapping[str, str]) -> SnapshotParameters:
    """Return the record of a VolumeSnapshotClass's parameters.

    Raises:
        InvalidRequest: a parameter is unknown or malformed.
    """
    for name in parameters:
        if name not in KNOWN and name not in WITHOUT_EFFECT and not name.startswith(RESERVED):
            raise unknown(name, KNOWN)
    prefix = matching(parameters, "snapshotNamePrefix", image_names.NAME_PREFIX)
    return SnapshotParameters(
        cluster_id=matching(parameters, "clusterID", ids.CLUSTER_ID),
        name_prefix=prefix or DEFAULT_PREFIX,
        kubernetes={
            name.removeprefix(RESERVED): parameters[name] for name in _NAMES if parameters.get(name)
        },
        freeze=flag(parameters, _FREEZE),
    )
