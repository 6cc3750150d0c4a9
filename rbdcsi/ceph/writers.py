"""Refuses what needs an image's lock while one of the image's writing clients does not answer.

librbd asks the client that has the image's exclusive lock to hand it over: that client finishes its
writes before. If the client does not answer any more, librbd breaks its lock. Such a client may
come back, believe that it has the lock, and write into a snapshot that was taken since. Ceph then
refuses its changes of the object map, and librbd marks the map as invalid until an operator
rebuilds it. So the driver first asks every client of a node that may write for an answer. After a
snapshot was taken, each of them must still watch the image.
"""

import rados

from rbdcsi import errors
from rbdcsi.ceph import objects, watch
from rbdcsi.ceph.open_image import OpenImage

_HEADER_CHANGED = ""  # the oldest notification of RBD


def require_answers(
    ioctx: rados.Ioctx, opened: OpenImage, image_id: str, writers: frozenset[str]
) -> None:
    """Ask the image's watchers to read the header again, which librbd and krbd confirm.

    Args:
        ioctx: the location of the image.
        opened: the image.
        image_id: its id.
        writers: the addresses of the clients by which nodes have the image mapped for writing.

    Raises:
        Busy: a client does not answer, or does not watch the image.
    """
    require_watching(opened, image_id, writers)
    if writers and not all_answer(ioctx, image_id):
        raise _silent("a client", image_id)


def all_answer(ioctx: rados.Ioctx, image_id: str) -> bool:
    """Return whether all watchers of an image live."""
    return not watch.notify(ioctx, objects.HEADER + image_id, _HEADER_CHANGED).silent


def require_watching(opened: OpenImage, image_id: str, writers: frozenset[str]) -> None:
    """Refuse an image that one of the writers does not watch; see `require_answers`.

    Raises:
        Busy: one does not.
    """
    if writers and (silent := writers - opened.watchers()):
        raise _silent(f"client {', '.join(sorted(silent))}", image_id)


def _silent(client: str, image_id: str) -> errors.Busy:
    return errors.Busy(
        f"{client} has image {image_id} mapped and does not answer; no snapshot of it is taken or "
        "removed now, because Ceph would break that client's lock for it; try again when the "
        "client is back, or when the volume is detached from its node"
    )
