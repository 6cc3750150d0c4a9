"""Which watchers of an image are rbd-mirror daemons.

An rbd-mirror daemon, also one of another cluster that reads this one, watches the object
`rbd_mirroring` of each pool and namespace that it mirrors. librbd tells it from other clients by
that, when it removes an image (librbd/image/ListWatchersRequest.cc). The bindings cannot list an
object's watchers, but each answers a notification with the id of its client.
"""

import rados
import rbd

from rbdcsi.ceph import ceph_errors, watch

OBJECT = "rbd_mirroring"
# An encoded librbd::mirroring_watcher::NotifyMessage: version 1, 4 bytes, an operation that does
# not exist, so that a daemon does nothing but answer.
_MESSAGE = "\x01\x01\x04\x00\x00\x00\x7f\x7f\x7f\x7f"


def daemons(ioctx: rados.Ioctx, image_id: str) -> frozenset[str]:
    """Return the addresses of the image's watchers that are rbd-mirror daemons.

    Raises:
        NotFound: no such image.
        Unavailable: Ceph does not answer.
    """
    clients = watch.notify(ioctx, OBJECT, _MESSAGE).clients
    doing = ceph_errors.translated("listing the watchers of image", image_id)
    with doing, rbd.Image(ioctx, image_id=image_id, read_only=True) as image:
        return frozenset(w["addr"] for w in image.watchers_list() if w["id"] in clients)
