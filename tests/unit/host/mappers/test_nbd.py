from pathlib import Path

from rbdcsi.host.mappers import nbd


def test_devices_are_those_that_a_process_serves(tmp_path: Path) -> None:
    """As Linux 6.1 shows them: a device that is not in use has no file `pid`."""
    for name, pid in (("nbd0", "771\n"), ("nbd1", None), ("nbd12", "802\n"), ("sda", None)):
        (tmp_path / name).mkdir()
        if pid:
            (tmp_path / name / "pid").write_text(pid)

    assert nbd.connected(tmp_path) == (
        nbd.NbdDevice(Path("/dev/nbd0"), 771),
        nbd.NbdDevice(Path("/dev/nbd12"), 802),
    )


def test_host_without_the_module_is_unsupported_and_told_so(tmp_path: Path) -> None:
    reason = nbd.Nbd(tmp_path).unsupported()

    assert reason is None or "nbd" in reason
