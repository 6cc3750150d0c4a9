"""The layers that the server runs around every CSI call, one in each file; `standard` orders them.

The services' methods contain no lock, timer, log line about the call, or status code.
"""

from rbdcsi.server.activity import Activity
from rbdcsi.server.interceptors.activity import noted
from rbdcsi.server.interceptors.call import Layer
from rbdcsi.server.interceptors.deadline import bounded
from rbdcsi.server.interceptors.logging import logged
from rbdcsi.server.interceptors.metrics import counted
from rbdcsi.server.interceptors.place import limited
from rbdcsi.server.interceptors.status import errors_to_status
from rbdcsi.server.interceptors.volume_lock import locked
from rbdcsi.server.locks import KeyedLocks


def standard(
    node_id: str,
    longest: float,
    longest_stream: float,
    locks: KeyedLocks,
    activity: Activity,
    at_once: int,
) -> list[Layer]:
    """Return the driver's layers, the outermost first.

    Args:
        node_id: the id of the node plugin, for the log; empty for a controller.
        longest: the longest time of a call in seconds, even if its caller allows more.
        longest_stream: the same for a call that streams its response.
        locks: the locks that calls, and background work, take while they change a volume.
        activity: records the end of each call.
        at_once: the calls that are served at the same time for one pool.
    """
    return [
        noted(activity),
        logged(node_id),
        counted,
        errors_to_status,
        bounded(longest, longest_stream),
        locked(locks),
        limited(at_once),
    ]
