"""Which mapper serves: the first of the wanted ones that this host supports."""

from collections.abc import Sequence
from pathlib import Path

from rbdcsi import errors
from rbdcsi.host.mappers.fuse import Fuse
from rbdcsi.host.mappers.interface import Image, Mapper
from rbdcsi.host.mappers.krbd import Krbd
from rbdcsi.host.mappers.nbd import Nbd

NAMES = ("krbd", "nbd", "fuse")  # in the order of preference


def every(state: Path, daemons: Path | None = None) -> tuple[Mapper, ...]:
    """Return all mappers, in the order of preference.

    Args:
        state: a directory that outlives the node plugin, for what mappers must remember. Short: a
            unix socket is in it.
        daemons: the control group that daemons of mappers run in; None is the caller's own.
    """
    return (Krbd(), Nbd(state / "nbd", daemons), Fuse(state / "fuse", daemons))


def choose(
    mappers: Sequence[Mapper], names: Sequence[str] = NAMES, image: Image | None = None
) -> Mapper:
    """Return the first mapper of `names` that this host supports, for writing to that image.

    Raises:
        InvalidRequest: a name that is no mapper.
        Refused: this host supports none; the message has the reason of each.
    """
    by_name = {mapper.name: mapper for mapper in mappers}
    reasons = []
    for name in names:
        if name not in by_name:
            raise errors.InvalidRequest(f"mapper {name!r}: must be one of {', '.join(by_name)}")
        reason = by_name[name].unsupported(image)
        if reason is None:
            return by_name[name]
        reasons.append(f"{name}: {reason}")
    raise errors.Refused(f"this host cannot map {image or 'images'}. {'. '.join(reasons)}")
