from pathlib import Path

from rbdcsi.host.mappers import nbd

# `rbd-nbd list-mapped --format json` of Ceph 16
SAMPLE = """[
 {"id": 771, "pool": "volumes", "namespace": "", "image": "csi-pvc-1", "snap": "-",
  "device": "/dev/nbd0"},
 {"id": 802, "pool": "volumes", "namespace": "tenant", "image": "csi-pvc-2", "snap": "-",
  "device": "/dev/nbd1"},
 {"id": 815, "pool": "volumes", "namespace": "", "image": "csi-pvc-1", "snap": "backup",
  "device": "/dev/nbd2"}
]"""


def test_devices_are_found_by_image_and_snapshots_are_left_out() -> None:
    assert nbd.parse(SAMPLE) == {
        "volumes/csi-pvc-1": Path("/dev/nbd0"),
        "volumes/tenant/csi-pvc-2": Path("/dev/nbd1"),
    }


def test_nothing_mapped_is_nothing() -> None:
    assert nbd.parse("[]") == nbd.parse("") == {}


def test_host_without_the_module_is_unsupported_and_told_so(tmp_path: Path) -> None:
    reason = nbd.Nbd(tmp_path).unsupported()

    assert reason is None or "nbd" in reason
