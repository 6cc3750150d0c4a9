"""The PersistentVolume that `rbdcsi volumes adopt` prints."""

import pytest
import yaml

from rbdcsi import errors
from rbdcsi.cli import persistent_volume
from rbdcsi.cli.persistent_volume import Choices, Reference

HANDLE = "v1:main:3::1038f2b7aabc"
PLAIN = Choices("archive", "", ("ReadWriteOnce",), "Retain", None, None)


def test_filesystem_volume_has_its_type_and_no_claim() -> None:
    document = yaml.safe_load(persistent_volume.manifest(HANDLE, 1 << 30, "ext4", PLAIN))
    assert document["spec"] == {
        "storageClassName": "",
        "persistentVolumeReclaimPolicy": "Retain",
        "accessModes": ["ReadWriteOnce"],
        "volumeMode": "Filesystem",
        "capacity": {"storage": "1Gi"},
        "csi": {"driver": "rbd.rbdcsi.io", "volumeHandle": HANDLE, "fsType": "ext4"},
    }


def test_block_volume_has_no_filesystem() -> None:
    document = yaml.safe_load(persistent_volume.manifest(HANDLE, 1 << 30, None, PLAIN))
    assert document["spec"]["volumeMode"] == "Block"
    assert "fsType" not in document["spec"]["csi"]


def test_xfs_is_mounted_beside_a_clone_of_it() -> None:
    document = yaml.safe_load(persistent_volume.manifest(HANDLE, 1 << 30, "xfs", PLAIN))
    assert document["spec"]["mountOptions"] == ["nouuid"]


@pytest.mark.parametrize(
    ("size", "text"),
    [(1 << 40, "1Ti"), (3 << 29, "1536Mi"), ((1 << 30) + 512, "1073742336"), (10 << 30, "10Gi")],
)
def test_size_is_exact(size: int, text: str) -> None:
    assert persistent_volume.quantity(size) == text


@pytest.mark.parametrize("name", ["A", "a_b", "-a", "a.", "", "a" * 254, "a\n", "5\u0665"])
def test_name_that_kubernetes_refuses_is_refused_here(name: str) -> None:
    with pytest.raises(errors.InvalidRequest, match="give one by --pv"):
        persistent_volume.checked_name(name, "--pv")


@pytest.mark.parametrize("text", ["data", "/data", "shop/", "Shop/data", "a.b/data", "a/b/c"])
def test_reference_without_a_namespace_is_refused(text: str) -> None:
    with pytest.raises(errors.InvalidRequest, match=r"--claim: .* must be NAMESPACE/NAME"):
        persistent_volume.reference(text, "--claim")


def test_reference_is_namespace_and_name() -> None:
    assert persistent_volume.reference("shop/data.v1", "--claim") == Reference("shop", "data.v1")


@pytest.mark.parametrize(
    ("modes", "block"),
    [
        (["ReadWriteOnce"], False),
        (["ReadWriteOnce", "ReadWriteOnce"], False),
        (["ReadWriteOncePod"], False),
        (["ReadOnlyMany"], False),
        (["ReadWriteMany"], True),
        (["ReadWriteMany", "ReadWriteOnce", "ReadOnlyMany"], True),
    ],
)
def test_modes_that_attach_are_possible(modes: list[str], block: bool) -> None:
    persistent_volume.require_possible(modes, block=block)


@pytest.mark.parametrize(
    ("modes", "block", "text"),
    [
        (["ReadWriteMany"], False, "ReadWriteMany: a filesystem takes one node at a time"),
        (["ReadWriteOnce", "ReadWriteMany"], False, "leave it out, or give --block"),
        (["ReadWriteOnce", "ReadOnlyMany"], True, "ReadOnlyMany and ReadWriteOnce: Kubernetes"),
        (["ReadWriteMany", "ReadWriteOncePod"], True, "give one of them"),
    ],
)
def test_modes_that_never_attach_are_refused(modes: list[str], block: bool, text: str) -> None:
    with pytest.raises(errors.InvalidRequest, match=text):
        persistent_volume.require_possible(modes, block=block)
