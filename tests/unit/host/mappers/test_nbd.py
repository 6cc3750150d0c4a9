from pathlib import Path

from rbdcsi.host.mappers import nbd

# `rbd-nbd list-mapped --format json` of Ceph 16.2 on Linux 6.1
SAMPLE = """[
 {"id": 771, "pool": "volumes", "namespace": "", "image": "csi-pvc-1", "snap": "",
  "device": "/dev/nbd0", "cookie": "857732a1-5243-422d-9457-74c6d3cce81b"},
 {"id": 802, "pool": "volumes", "namespace": "tenant", "image": "csi-pvc-2", "snap": "",
  "device": "/dev/nbd1", "cookie": "0d2f8f1c-6f52-4a4e-9a53-54f2b6f8a1d7"},
 {"id": 815, "pool": "volumes", "namespace": "", "image": "csi-pvc-1", "snap": "backup",
  "device": "/dev/nbd2", "cookie": "5a1b0f0e-2f4b-4c29-8a39-7d0b5b1c2e11"}
]"""


def test_devices_are_listed_with_the_process_that_serves_them() -> None:
    assert nbd.parse(SAMPLE) == (
        nbd.NbdDevice(Path("/dev/nbd0"), 771),
        nbd.NbdDevice(Path("/dev/nbd1"), 802),
        nbd.NbdDevice(Path("/dev/nbd2"), 815),
    )


def test_nothing_mapped_is_nothing() -> None:
    assert nbd.parse("[]") == nbd.parse("") == ()


def test_host_without_the_module_is_unsupported_and_told_so(tmp_path: Path) -> None:
    reason = nbd.Nbd(tmp_path).unsupported()

    assert reason is None or "nbd" in reason
