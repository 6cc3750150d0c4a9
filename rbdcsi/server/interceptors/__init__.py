"""What the server does around every CSI call, one layer a file, in the order of `standard`.

The services' methods see none of it: no lock, timer, log line or status code.
"""

from rbdcsi.server.activity import Activity
from rbdcsi.server.interceptors.activity import noted
from rbdcsi.server.interceptors.call import Layer
from rbdcsi.server.interceptors.deadline import bounded
from rbdcsi.server.interceptors.logging import logged
from rbdcsi.server.interceptors.metrics import counted
from rbdcsi.server.interceptors.status import errors_to_status
from rbdcsi.server.interceptors.volume_lock import locked
from rbdcsi.server.locks import KeyedLocks


def standard(node_id: str, longest: float, locks: KeyedLocks, activity: Activity) -> list[Layer]:
    """Return the driver's layers, the outermost first.

    Args:
        node_id: of the node plugin, for the log; empty for a controller.
        longest: seconds that a call may take even if its caller allows more.
        locks: held by calls that change a volume; background work holds them, too.
        activity: records each call's end.
    """
    return [
        noted(activity),
        logged(node_id),
        counted,
        errors_to_status,
        bounded(longest),
        locked(locks),
    ]
