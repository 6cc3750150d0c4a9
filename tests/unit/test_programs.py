"""The programs that the image must have are read from the driver's source."""

from tests import programs


def test_the_driver_runs_these_programs() -> None:
    assert programs.of_the_driver() == {
        *("blkdiscard", "blkid", "btrfs", "dd", "e2fsck", "losetup", "mount", "resize2fs"),
        *("mkfs.btrfs", "mkfs.ext4", "mkfs.xfs", "qemu-storage-daemon", "rbd-nbd", "setpriv"),
        *("sh", "stat", "umount", "xfs_growfs"),
    }
