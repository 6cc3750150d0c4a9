"""Refuses a mount whose SELinux label mount(8) would drop without an error.

mount(8) drops label options if libselinux reports that SELinux is off. libselinux reports that in a
container that lacks either /etc/selinux/config (its content does not matter) or a selinuxfs that is
mounted for writing (is_selinux_enabled(3), libselinux's init.c). The kubelet would then take the
volume as labelled, and SELinux would deny Pods access to its files.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from rbdcsi import errors
from rbdcsi.host.fs import mountinfo

_OPTIONS = {"context", "fscontext", "defcontext", "rootcontext"}  # mount(8)
_CONFIG = "etc/selinux/config"
_SELINUXFS = Path("/sys/fs/selinux")


def require_labels(
    options: Sequence[str],
    mounts: Callable[[], Sequence[mountinfo.MountEntry]],
    root: Path = Path("/"),
) -> None:
    """Refuse mount options with a label that mount(8) would drop although the kernel has SELinux.

    Args:
        options: mount options, each as `name` or `name=value`.
        mounts: returns every mount of this process; called only if an option is a label.
        root: the directory that has /proc and /etc.

    Raises:
        Refused: mount(8) would drop the label; the message names the file or mount that it lacks.
    """
    label = next((o for o in options if o.partition("=")[0] in _OPTIONS), None)
    if label is None or "selinuxfs" not in (root / "proc/filesystems").read_text().split():
        return
    lacking = []
    if not (root / _CONFIG).exists():
        lacking.append(f"/{_CONFIG} does not exist")
    if not any(m.target == _SELINUXFS and not m.readonly for m in mounts()):
        lacking.append(f"{_SELINUXFS} is not mounted for writing")
    if lacking:
        raise errors.Refused(
            f"mount option {label}: this node's kernel has SELinux, but mount(8) would ignore the "
            f"option, because {' and '.join(lacking)} where the node plugin runs; use the driver's "
            "image, which has the file, and mount the host's /sys into the container, as the chart "
            "does"
        )
