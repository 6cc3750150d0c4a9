"""Sees to it that a label of SELinux which a mount option asks for is not dropped in silence.

mount(8) leaves such options out where libselinux says that SELinux is off. So it does in a
container that lacks /etc/selinux/config, whatever is in that, or selinuxfs, mounted for writing
(is_selinux_enabled(3) and init.c of libselinux). The kubelet then takes the volume as labelled, and
Pods are denied what is in it.
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
        options: each as `name` or `name=value`.
        mounts: returns every mount there is; asked only when there is a label.
        root: below which /proc and /etc are.

    Raises:
        Refused: it would; the message says what mount(8) lacks.
    """
    asked = next((o for o in options if o.partition("=")[0] in _OPTIONS), None)
    if asked is None or "selinuxfs" not in (root / "proc/filesystems").read_text().split():
        return
    lacking = []
    if not (root / _CONFIG).exists():
        lacking.append(f"/{_CONFIG} does not exist")
    if not any(m.target == _SELINUXFS and not m.readonly for m in mounts()):
        lacking.append(f"{_SELINUXFS} is not mounted for writing")
    if lacking:
        raise errors.Refused(
            f"this node's kernel has SELinux, but mount(8) would ignore the option {asked}: "
            f"{' and '.join(lacking)} where the node plugin runs; its image has the one, and the "
            "chart mounts the host's /sys for the other"
        )
