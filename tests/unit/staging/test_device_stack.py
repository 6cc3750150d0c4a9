"""One definition of "this device belongs to that volume": ids, the cluster's among them."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import pytest

from rbdcsi import errors
from rbdcsi.ceph.connections import Connections
from rbdcsi.config.clusters import Cluster, Config
from rbdcsi.host.mappers.interface import Image, MappedDevice
from rbdcsi.model.ids import LocationId, VolumeHandle
from rbdcsi.model.node_options import NodeOptions
from rbdcsi.staging import device_stack
from rbdcsi.staging.device_stack import Devices
from rbdcsi.staging.notes import Note, Notes

DEVICE = MappedDevice(
    Path("/dev/rbd0"), "krbd", "fsid-1", 7, "ns", "1a", readonly=False, client="10.0.0.9:0/1"
)
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


def _devices(directory: Path, *cluster_ids: str) -> Devices:
    clusters = tuple(
        Cluster(cluster_id, ("127.0.0.1:1",), None, "pool", "", "user", None, None, None)
        for cluster_id in cluster_ids
    )
    pooled = Connections(Config(clusters), timeout=1)
    return Devices([Mapped()], ["krbd"], pooled, Notes(directory))  # type: ignore[list-item]


def test_ceph_is_not_asked_for_the_only_cluster(tmp_path: Path) -> None:
    assert _devices(tmp_path, "c").find(HANDLE) == DEVICE


def test_of_several_clusters_the_one_of_the_volume_must_be_known(tmp_path: Path) -> None:
    with pytest.raises(errors.RbdCsiError, match="cluster c"):
        _devices(tmp_path, "b", "c").find(HANDLE)


def test_a_note_knows_the_cluster_and_which_device_is_the_drivers(tmp_path: Path) -> None:
    devices = _devices(tmp_path, "b", "c")
    note = Note(str(HANDLE), "fsid-1", 1, "krbd", "/staging", "")
    devices.notes.write(note)
    assert devices.find(HANDLE) == DEVICE
    assert devices.others(HANDLE, "fsid-1") == []
    devices.notes.write(dataclasses.replace(note, client="another"))
    assert devices.find(HANDLE) is None
    assert devices.others(HANDLE, "fsid-1") == [DEVICE]


@dataclass(frozen=True)
class Host:
    """A mapper of a host; `lacks` is why it cannot map an image, None if it can."""

    name: str
    lacks: str | None = None

    def unsupported(self, image: Image | None) -> str | None:
        return self.lacks if image else None


IMAGE = Image("fsid-1", 7, "pool", "", "1a", "csi-a", features=1 << 6)
LACKS = "krbd", "this kernel does not support the image's feature journaling"


def _hosts(tmp_path: Path, preferred: str, *mappers: Host) -> Devices:
    return dataclasses.replace(_devices(tmp_path, "c"), mappers=mappers, preferred=(preferred,))  # type: ignore[arg-type]


@pytest.mark.parametrize("named", [None, "krbd"])
def test_other_mappers_are_tried_also_on_a_node_that_prefers_one(
    named: str | None, tmp_path: Path
) -> None:
    devices = _hosts(tmp_path, "krbd", Host(*LACKS), Host("nbd"), Host("fuse"))
    others = NodeOptions(mapper=named, try_other_mappers=True)
    assert devices.mapper_for(IMAGE, others, readonly=False).name == "nbd"
    assert devices.mapper_for(IMAGE, others, readonly=True).name == "krbd"
    with pytest.raises(errors.Refused, match="krbd: this kernel does not support"):
        devices.mapper_for(IMAGE, NodeOptions(mapper=named), readonly=False)


def test_no_other_mapper_is_tried_before_the_named_and_the_preferred_one(tmp_path: Path) -> None:
    lacking = [Host(name, "no") for name in ("krbd", "nbd", "fuse")]
    devices = _hosts(tmp_path, "fuse", *lacking)
    with pytest.raises(errors.Refused, match=r"nbd: no\. fuse: no\. krbd: no"):
        devices.mapper_for(IMAGE, NodeOptions("nbd", try_other_mappers=True), readonly=False)
