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


STAGED = """\
21 1 8:1 / / rw - ext4 /dev/sda1 rw
22 21 8:1 /kubelet /kubelet rw shared:1 - ext4 /dev/sda1 rw
23 21 8:1 /kubelet /host rw shared:1 - ext4 /dev/sda1 rw
30 22 252:0 / /kubelet/stage rw - ext4 /dev/rbd0 rw
31 23 252:0 / /host/stage rw - ext4 /dev/rbd0 rw
32 22 252:0 / /kubelet/pod rw - ext4 /dev/rbd0 rw
33 23 252:0 / /host/pod rw - ext4 /dev/rbd0 rw
34 22 252:1 / /kubelet/other rw - ext4 /dev/rbd1 rw
"""


@pytest.mark.parametrize(
    ("gone", "is_last"), [((), False), ((31,), False), ((30, 31), True), ((22, 23), True)]
)
def test_mount_is_the_last_if_only_its_copies_at_peers_are_left(
    gone: tuple[int, ...], is_last: bool
) -> None:
    mounts = [each for each in mountinfo.parse(STAGED) if each.mount_id not in gone]
    (published,) = (each for each in mounts if each.mount_id == 32)

    assert mountinfo.is_last(published, mounts) is is_last


def test_mount_is_found_by_its_id() -> None:
    found = mountinfo.find(STAGED, 3), mountinfo.find(STAGED, 34)

    assert found == (None, mountinfo.parse(STAGED)[-1])
