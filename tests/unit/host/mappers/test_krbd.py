"""Against a tree with the files of a 6.1 kernel; the kernel itself is in tests/vm."""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from rbdcsi import errors
from rbdcsi.host.mappers import interface
from rbdcsi.host.mappers.krbd import Krbd
from rbdcsi.model import image_layout
from tests.unit.host.mappers.images import ACCESS, IMAGE, KEY

ATTRIBUTES = {
    "client_addr": "10.0.0.9:0/3456789012",
    "client_id": "client14127",
    "cluster_fsid": IMAGE.fsid,
    "config_info": "10.0.0.1:6789 name=node,key=client.node,noshare volumes csi-pvc-1 -",
    "current_snap": "-",
    "features": "0x000000000000003d",
    "image_id": IMAGE.image_id,
    "major": "253",
    "minor": "0",
    "name": IMAGE.image_name,
    "parent": "(no parent image)",
    "pool": IMAGE.pool,
    "pool_id": str(IMAGE.pool_id),
    "pool_ns": "",
    "size": "1073741824",
    "snap_id": "18446744073709551614",
}


@pytest.fixture
def sys(tmp_path: Path) -> Path:
    for verb in ("add", "remove", "add_single_major", "remove_single_major"):
        (tmp_path / "bus/rbd").mkdir(parents=True, exist_ok=True)
        (tmp_path / "bus/rbd" / verb).touch()
    (tmp_path / "bus/rbd/supported_features").write_text("0x1bf\n")
    return tmp_path


def _add(
    sys: Path, number: int = 0, readonly: str = "0", attributes: Mapping[str, str] = ATTRIBUTES
) -> None:
    entry = sys / f"bus/rbd/devices/{number}"
    entry.mkdir(parents=True)
    for name, text in attributes.items():
        (entry / name).write_text(f"{text}\n")
    block = sys / f"block/rbd{number}"
    block.mkdir(parents=True)
    (block / "ro").write_text(f"{readonly}\n")


def test_mapped_image_is_listed_with_its_ids_and_client(sys: Path) -> None:
    _add(sys, 3)

    assert Krbd(sys).list() == (
        interface.MappedDevice(
            path=Path("/dev/rbd3"),
            mapper="krbd",
            fsid=IMAGE.fsid,
            pool_id=7,
            namespace="",
            image_id=IMAGE.image_id,
            readonly=False,
            client="10.0.0.9:0/3456789012",
        ),
    )


def test_image_is_found_by_id_when_its_name_has_changed(sys: Path) -> None:
    _add(sys, attributes=ATTRIBUTES | {"name": "renamed"})

    assert interface.find(Krbd(sys), IMAGE)


@pytest.mark.parametrize("other", ["pool_id", "pool_ns", "image_id", "cluster_fsid"])
def test_image_with_another_identity_is_not_taken_for_it(sys: Path, other: str) -> None:
    _add(sys, attributes=ATTRIBUTES | {other: "8"})

    assert interface.find(Krbd(sys), IMAGE) is None


def test_mapped_snapshot_of_the_image_is_not_taken_for_it(sys: Path) -> None:
    _add(sys, attributes=ATTRIBUTES | {"current_snap": "backup"})

    assert interface.find(Krbd(sys), IMAGE) is None


def test_device_of_another_program_is_not_taken_for_the_new_one(sys: Path) -> None:
    _add(sys, 5)

    with pytest.raises(errors.NotFound, match=IMAGE.image_id):
        Krbd(sys).map(IMAGE, ACCESS, readonly=False, options="", seconds=5)

    assert "noshare" in (sys / "bus/rbd/add_single_major").read_text()
    assert (sys / "bus/rbd/remove_single_major").read_text() == ""


def test_secret_is_given_only_to_a_kernel_that_cannot_keep_ceph_keys(sys: Path) -> None:
    keeps = Path("/sys/module/libceph").exists()
    with pytest.raises(errors.NotFound):
        Krbd(sys).map(IMAGE, ACCESS, readonly=False, options="", seconds=5)

    written = (sys / "bus/rbd/add_single_major").read_text()
    shown = "key=client.node" if keeps else f"secret={KEY}"
    assert f"name=node,{shown},noshare" in written


def test_map_that_the_kernel_gave_another_image_is_undone(
    sys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    krbd = Krbd(sys)
    before, listed = [()], krbd.list
    monkeypatch.setattr(krbd, "list", lambda: before.pop() if before else listed())
    _add(sys, 4, attributes=ATTRIBUTES | {"image_id": "another"})

    with pytest.raises(errors.NotFound, match=IMAGE.image_id):
        krbd.map(IMAGE, ACCESS, readonly=False, options="", seconds=5)

    assert (sys / "bus/rbd/remove_single_major").read_text() == "4"


def test_unmap_names_the_device_to_the_kernel(sys: Path) -> None:
    _add(sys, 6)
    krbd = Krbd(sys)

    krbd.unmap(krbd.list()[0], seconds=5)

    assert (sys / "bus/rbd/remove_single_major").read_text() == "6"


def test_unmap_of_what_is_not_mapped_is_fine(sys: Path) -> None:
    _add(sys)
    device = Krbd(sys).list()[0]
    for file in sorted(sys.glob("bus/rbd/devices/0/*")):
        file.unlink()
    (sys / "bus/rbd/devices/0").rmdir()

    Krbd(sys).unmap(device, seconds=5)

    assert (sys / "bus/rbd/remove_single_major").read_text() == ""


def test_module_of_many_majors_is_spoken_to_by_its_own_files(sys: Path) -> None:
    (sys / "bus/rbd/add_single_major").unlink()
    (sys / "bus/rbd/remove_single_major").unlink()
    _add(sys, 2)
    krbd = Krbd(sys)

    krbd.unmap(krbd.list()[0], seconds=5)

    assert (sys / "bus/rbd/remove").read_text() == "2"


def test_kernel_without_the_module_is_unsupported_and_told_so(tmp_path: Path) -> None:
    assert "modprobe rbd" in (Krbd(tmp_path).unsupported() or "")


def test_host_with_the_module_is_supported(sys: Path) -> None:
    assert Krbd(sys).unsupported() is None


def test_image_with_a_feature_that_the_kernel_lacks_is_another_mappers(sys: Path) -> None:
    journaled = dataclasses.replace(IMAGE, features=image_layout.mask(("layering", "journaling")))

    reason = Krbd(sys).unsupported(journaled) or ""

    assert "feature journaling" in reason
    assert "mapper nbd" in reason
    assert "`rbd feature disable`" in reason


def test_image_whose_features_the_kernel_has_is_supported(sys: Path) -> None:
    image = dataclasses.replace(IMAGE, features=image_layout.mask(image_layout.DEFAULT))

    assert Krbd(sys).unsupported(image) is None


def test_answers_of_the_kernel_become_errors_that_name_the_cause(sys: Path) -> None:
    add = sys / "bus/rbd/add_single_major"
    add.unlink()
    add.symlink_to("/dev/full")  # answers a write with ENOSPC

    with pytest.raises(errors.Failed, match=os.strerror(28)) as caught:
        Krbd(sys).map(IMAGE, ACCESS, readonly=False, options="", seconds=5)

    assert ACCESS.secret not in str(caught.value)
