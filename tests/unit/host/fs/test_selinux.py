"""Which labels of SELinux mount(8) would drop."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from rbdcsi import errors
from rbdcsi.host.fs import mountinfo, selinux

LABEL = 'context="system_u:object_r:container_file_t:s0:c1,c2"'
SELINUXFS = "33 32 0:31 / /sys/fs/selinux {} - selinuxfs selinuxfs {}\n"


def require(
    options: Sequence[str],
    path: Path,
    *,
    kernel: bool = True,
    config: bool = True,
    mount: str = "rw",
) -> None:
    """Make what of a root is looked at, and look at the options there."""
    (path / "proc").mkdir()
    (path / "proc/filesystems").write_text("nodev\tproc\n" + "nodev\tselinuxfs\n" * kernel)
    (path / "etc/selinux").mkdir(parents=True)
    if config:
        (path / "etc/selinux/config").touch()
    text = SELINUXFS.format(mount, mount) if mount else ""
    selinux.require_labels(options, lambda: mountinfo.parse(text), path)


def test_label_that_mount_would_pass_on_is_fine(tmp_path: Path) -> None:
    require(["noatime", LABEL], tmp_path)


@pytest.mark.parametrize("option", [LABEL, "fscontext=x", "defcontext=x", "rootcontext=x"])
def test_without_the_configuration_a_label_is_refused(tmp_path: Path, option: str) -> None:
    with pytest.raises(errors.Refused, match=r"/etc/selinux/config does not exist where"):
        require(["noatime", option], tmp_path, config=False)


@pytest.mark.parametrize("mount", ["", "ro"])
def test_without_a_writable_selinuxfs_a_label_is_refused(tmp_path: Path, mount: str) -> None:
    with pytest.raises(errors.Refused, match=r"/sys/fs/selinux is not mounted for writing"):
        require([LABEL], tmp_path, mount=mount)


def test_what_lacks_is_named_together(tmp_path: Path) -> None:
    with pytest.raises(errors.Refused, match=r"does not exist and .* not mounted"):
        require([LABEL], tmp_path, config=False, mount="")


def test_a_kernel_without_selinux_has_no_labels_to_lose(tmp_path: Path) -> None:
    require([LABEL], tmp_path, kernel=False, config=False, mount="")


def test_other_options_need_nothing(tmp_path: Path) -> None:
    require(["noatime"], tmp_path, config=False, mount="")
