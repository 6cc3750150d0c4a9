from pathlib import Path

import pytest

from rbdcsi.host.fs import mountinfo

SAMPLE = mountinfo.parse((Path(__file__).parent / "data/mountinfo").read_text())


def test_every_line_becomes_an_entry_in_the_kernels_order() -> None:
    assert [entry.mount_id for entry in SAMPLE] == [21, 29, 410, 415, 420, 421, 430]


def test_all_fields_of_a_line_are_found() -> None:
    assert SAMPLE[2] == mountinfo.MountEntry(
        mount_id=410,
        parent_id=29,
        major_minor="252:0",
        root="/",
        target=Path("/var/lib/kubelet/plugins/kubernetes.io/csi/rbd/5f/globalmount"),
        options=("rw", "noatime"),
        super_options=("rw", "attr2", "inode64", "noquota"),
        fs_type="xfs",
        source="/dev/rbd0",
    )


def test_any_number_of_optional_fields_is_skipped() -> None:
    assert [SAMPLE[i].fs_type for i in (2, 3, 6)] == ["xfs", "xfs", "fuse.s3fs"]


@pytest.mark.parametrize(
    ("index", "target"),
    [
        (3, "/var/lib/kubelet/pods/with space/volumes/mount"),
        (4, "/var/lib/kubelet/pods/block\\slash"),
        (5, "/run/user/0\ttab"),
    ],
)
def test_escaped_characters_are_restored(index: int, target: str) -> None:
    assert SAMPLE[index].target == Path(target)


def test_readonly_is_the_mounts_or_its_file_systems() -> None:
    assert [entry.readonly for entry in SAMPLE] == [False, False, False, True, False, True, False]


def test_this_hosts_own_mounts_are_understood() -> None:
    entries = mountinfo.parse(Path("/proc/self/mountinfo").read_text())

    assert Path("/") in [entry.target for entry in entries]
