"""One definition of "this device belongs to that volume": ids, the cluster's among them."""

import dataclasses
from pathlib import Path

import pytest

from rbdcsi import errors
from rbdcsi.ceph.connections import Connections
from rbdcsi.config.clusters import Cluster, Config
from rbdcsi.host.mappers.interface import MappedDevice
from rbdcsi.model.ids import LocationId, VolumeHandle
from rbdcsi.staging import device_stack
from rbdcsi.staging.device_stack import Devices

DEVICE = MappedDevice(Path("/dev/rbd0"), "krbd", "fsid-1", 7, "ns", "1a", readonly=False)
HANDLE = VolumeHandle(LocationId("c", 7, "ns"), "1a")


def test_a_device_belongs_to_the_volume_of_its_image() -> None:
    assert device_stack.belongs_to(DEVICE, HANDLE, "fsid-1")


@pytest.mark.parametrize(
    "change", [{"fsid": "fsid-2"}, {"pool_id": 8}, {"namespace": ""}, {"image_id": "1b"}]
)
def test_a_device_of_another_image_does_not(change: dict[str, object]) -> None:
    other = dataclasses.replace(DEVICE, **change)  # type: ignore[arg-type]
    assert not device_stack.belongs_to(other, HANDLE, "fsid-1")


def test_a_cluster_that_is_not_known_fits_any() -> None:
    assert device_stack.belongs_to(dataclasses.replace(DEVICE, fsid=None), HANDLE, "fsid-1")
    assert device_stack.belongs_to(DEVICE, HANDLE, None)


class Mapped:
    """A mapper that has one device."""

    name = "krbd"

    def list(self) -> tuple[MappedDevice, ...]:
        return (DEVICE,)


def _devices(*cluster_ids: str) -> Devices:
    clusters = tuple(
        Cluster(cluster_id, ("127.0.0.1:1",), None, "pool", "", "user", None, None, None)
        for cluster_id in cluster_ids
    )
    return Devices([Mapped()], ["krbd"], Connections(Config(clusters), timeout=1))  # type: ignore[list-item]


def test_ceph_is_not_asked_for_the_only_cluster() -> None:
    assert _devices("c").find(HANDLE) == DEVICE


def test_of_several_clusters_the_one_of_the_volume_must_be_known() -> None:
    with pytest.raises(errors.RbdCsiError, match="cluster c"):
        _devices("b", "c").find(HANDLE)
