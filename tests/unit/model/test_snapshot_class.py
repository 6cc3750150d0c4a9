import pytest
from hypothesis import given
from hypothesis import strategies as st

from rbdcsi import errors
from rbdcsi.model import snapshot_class
from rbdcsi.model.parameters import Parameter
from rbdcsi.model.snapshot_class import SnapshotParameters
from rbdcsi.nodes.freeze_messages import FROZEN_SECONDS


def test_a_class_of_ceph_csi() -> None:
    parameters = {
        "clusterID": "main",
        "pool": "kubernetes",
        "snapshotNamePrefix": "team-a-",
        "csi.storage.k8s.io/snapshotter-secret-name": "rbd",
        "csi.storage.k8s.io/snapshotter-secret-namespace": "ceph",
        "csi.storage.k8s.io/volumesnapshot/name": "before-upgrade",
        "csi.storage.k8s.io/volumesnapshot/namespace": "shop",
        "csi.storage.k8s.io/volumesnapshotcontent/name": "snapcontent-1",
    }
    assert snapshot_class.parse(parameters) == SnapshotParameters(
        "main",
        "team-a-",
        {
            "volumesnapshot/name": "before-upgrade",
            "volumesnapshot/namespace": "shop",
            "volumesnapshotcontent/name": "snapcontent-1",
        },
    )


def test_a_group_class_of_ceph_csi() -> None:
    parameters = {
        "clusterID": "main",
        "pool": "kubernetes",
        "volumeGroupNamePrefix": "team-a-",
        "csi.storage.k8s.io/group-snapshotter-secret-name": "rbd",
        "csi.storage.k8s.io/group-snapshotter-secret-namespace": "ceph",
        "csi.storage.k8s.io/group-snapshotter-get-secret-name": "rbd",
        "csi.storage.k8s.io/group-snapshotter-get-secret-namespace": "ceph",
        "csi.storage.k8s.io/volumegroupsnapshot/name": "before-upgrade",
        "csi.storage.k8s.io/volumegroupsnapshot/namespace": "shop",
        "csi.storage.k8s.io/volumegroupsnapshotcontent/name": "groupsnapcontent-1",
    }
    assert snapshot_class.parse(parameters) == SnapshotParameters(
        "main",
        kubernetes={
            "volumegroupsnapshot/name": "before-upgrade",
            "volumegroupsnapshot/namespace": "shop",
            "volumegroupsnapshotcontent/name": "groupsnapcontent-1",
        },
    )


def test_an_empty_class() -> None:
    assert snapshot_class.parse({}) == SnapshotParameters(None, "csi-snap-", {}, freeze=False)
    empty = dict.fromkeys(snapshot_class.KNOWN, "")
    assert snapshot_class.parse(empty) == snapshot_class.parse({})


ACCEPTED = (*snapshot_class.KNOWN, *snapshot_class.WITHOUT_EFFECT)


@given(st.text().filter(lambda name: name not in ACCEPTED))
def test_unknown_parameters_are_refused(name: str) -> None:
    with pytest.raises(errors.InvalidRequest, match="unknown parameter"):
        snapshot_class.parse({name: "1"})


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"snapshotNamePrefix": "a/b"}, "snapshotNamePrefix: 'a/b' does not match"),
        ({"snapshotNamePrefix": "x" * 40}, "snapshotNamePrefix"),
        ({"clusterID": "a b"}, "clusterID: 'a b' does not match"),
        ({"freeze": "yes"}, "freeze: 'yes'; write true or false"),
        ({"clusterId": "a"}, "did you mean clusterID?"),
    ],
)
def test_wrong_values(parameters: dict[str, str], message: str) -> None:
    with pytest.raises(errors.InvalidRequest, match=message.replace("?", r"\?")):
        snapshot_class.parse(parameters)


def test_the_table_has_the_limit_of_a_freeze() -> None:
    (row,) = [row for row in snapshot_class.TABLE if row.name == "freeze"]
    assert f"for {FROZEN_SECONDS:.0f} s at most" in row.meaning


@pytest.mark.parametrize("row", snapshot_class.TABLE, ids=lambda row: row.name)
def test_examples_are_accepted_and_defaults_are_true(row: Parameter) -> None:
    assert snapshot_class.parse({row.name: row.example}) != snapshot_class.parse({})
    assert snapshot_class.parse({row.name: row.default}) == snapshot_class.parse({})
