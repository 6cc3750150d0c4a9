"""The choice of a mapper: the first one in the order of preference that this host supports."""

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
        state: the directory for the mappers' state, which must outlive the node plugin. Its path
            must be short, because a unix socket lies below it.
        daemons: the control group that the mappers' daemons run in; None is the caller's own.
    """
    return (Krbd(), Nbd(state / "nbd", daemons), Fuse(state / "fuse", daemons))


def choose(
    mappers: Sequence[Mapper], names: Sequence[str] = NAMES, image: Image | None = None
) -> Mapper:
    """Return the first mapper that this host supports.

    Args:
        mappers: the mappers of this host.
        names: the names of the mappers that may be used, in the order of preference.
        image: the image to map for writing, whose features the mapper must support; None asks for
            the host alone.

    Raises:
        InvalidRequest: a name is not the name of a mapper.
        Refused: this host supports none of them; the message has the reason for each.
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
