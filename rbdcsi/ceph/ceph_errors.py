"""Turns the exceptions of librados and librbd into the driver's errors, and counts the errors."""

import contextlib
import errno
import time
from collections.abc import Iterator

import rados
import rbd

from rbdcsi import errors
from rbdcsi.runtime import deadlines
from rbdcsi.telemetry import metrics


class ConnectionLost(errors.Unavailable):
    """Ceph blocklisted this client; the next call needs a new one."""


class NoOmap(errors.InvalidRequest):
    """The pool keeps no keys and values beside objects, as an erasure-coded one."""


# A class that is not listed is handled as its base class, a plain OSError by its errno.
_BY_CLASS: dict[type[Exception], type[errors.RbdCsiError]] = {
    rados.ObjectNotFound: errors.NotFound,
    rados.NoData: errors.NotFound,
    rados.ObjectExists: errors.AlreadyExists,
    rados.ObjectBusy: errors.Busy,
    rados.InProgress: errors.Busy,
    rados.IsConnected: errors.Failed,
    rados.NoSpace: errors.Exhausted,
    rados.TimedOut: errors.Unavailable,
    rados.InterruptedOrTimeoutError: errors.Unavailable,
    rados.ConnectionShutdown: ConnectionLost,
    rados.NotConnected: errors.Unavailable,
    rados.PermissionDeniedError: errors.Unauthenticated,
    rados.PermissionError: errors.Forbidden,
    rados.InvalidArgumentError: errors.Failed,
    rados.IoctxStateError: errors.Failed,
    rados.ObjectStateError: errors.Failed,
    rados.RadosStateError: errors.Failed,
    rados.LogicError: errors.Failed,
    rados.ExtendMismatch: errors.Failed,
    rados.IOError: errors.Failed,
    rbd.ImageNotFound: errors.NotFound,
    rbd.ObjectNotFound: errors.NotFound,
    rbd.ImageExists: errors.AlreadyExists,
    rbd.ObjectExists: errors.AlreadyExists,
    rbd.ImageBusy: errors.Refused,
    rbd.ImageHasSnapshots: errors.Refused,
    rbd.ReadOnlyImage: errors.Refused,
    rbd.OperationCanceled: errors.Busy,
    rbd.NoSpace: errors.Exhausted,
    rbd.DiskQuotaExceeded: errors.Exhausted,
    rbd.Timeout: errors.Unavailable,
    rbd.ConnectionShutdown: ConnectionLost,
    rbd.PermissionError: errors.Forbidden,
    rbd.InvalidArgument: errors.InvalidRequest,
    rbd.ArgumentOutOfRange: errors.InvalidRequest,
    rbd.FunctionNotSupported: errors.InvalidRequest,
    rbd.OperationNotSupported: errors.InvalidRequest,
    rbd.IncompleteWriteError: errors.Failed,
    rbd.LogicError: errors.Failed,
    rbd.IOError: errors.Failed,
}

_BY_ERRNO: dict[int, type[errors.RbdCsiError]] = {
    errno.EDQUOT: errors.Exhausted,
    errno.ENOSPC: errors.Exhausted,
    errno.EBUSY: errors.Busy,
    errno.EAGAIN: errors.Busy,
    errno.EBADF: errors.Busy,  # librbd chose an image id that exists; the next try chooses another
    errno.ESTALE: errors.Busy,  # another client changed the image at the same moment
    errno.ESHUTDOWN: ConnectionLost,
    errno.EOPNOTSUPP: NoOmap,
    errno.ETIMEDOUT: errors.Unavailable,
    errno.ENOTCONN: errors.Unavailable,
    errno.EACCES: errors.Forbidden,
    errno.EPERM: errors.Forbidden,
    errno.ENOENT: errors.NotFound,
}

_NEXT_STEP: dict[type[errors.RbdCsiError], str] = {
    ConnectionLost: "the driver's Ceph client was blocklisted; the next call gets a new one",
    NoOmap: "an erasure-coded pool keeps data of images only: name it as `dataPool`, and a "
    "replicated one as `pool`",
    errors.Unavailable: "check the cluster (`ceph status`) and the network; the call can be "
    "repeated",
    errors.Exhausted: "the pool or the cluster is full or its quota is used up; free space, "
    "raise the quota (`ceph osd pool set-quota`) or add OSDs",
    errors.Unauthenticated: "check user and key against `ceph auth get client.USER`",
    errors.Forbidden: "give the user `profile rbd` on mon and on osd for this pool (`ceph auth "
    "caps`)",
}


@contextlib.contextmanager
def translated(operation: str, on: object = "") -> Iterator[str]:
    """Turn exceptions of the bindings in the body into our errors; check the call's deadline first.

    Args:
        operation: the name of the operation: it begins the message and is a label of the metrics,
            so it must not contain names of objects.
        on: the object of the operation; it follows in the message.

    Yields:
        Operation and object as one text.

    Raises:
        DeadlineExceeded: the call's time is over.
        RbdCsiError: the body failed. The tables above decide the class; the exception of the
            bindings is the cause.
    """
    deadlines.remaining(at_most=0)
    doing = f"{operation} {on}".rstrip()
    with measured(operation):
        try:
            yield doing
        except (rados.Error, rbd.Error) as error:
            raise from_exception(error, doing) from error


@contextlib.contextmanager
def measured(operation: str) -> Iterator[None]:
    """Measure the time of the body and count its errors; they are raised again."""
    started = time.perf_counter()
    try:
        yield
    except errors.RbdCsiError as error:
        metrics.CEPH_ERRORS.labels(operation, error.code).inc()
        raise
    finally:
        metrics.CEPH_SECONDS.labels(operation).observe(time.perf_counter() - started)


def from_exception(error: Exception, doing: str) -> errors.RbdCsiError:
    """Return our error for an exception of the bindings; `doing` begins the message."""
    return _error(error_class(error), doing, _description(error))


def from_errno(number: int, message: str, doing: str) -> errors.RbdCsiError:
    """Return our error for an errno.

    Args:
        number: the errno, positive or negative.
        message: the text of Ceph's answer.
        doing: the operation and its object; they begin the error's message.
    """
    kind = _BY_ERRNO.get(abs(number), errors.Failed)
    return _error(kind, doing, f"{errno.errorcode.get(abs(number), number)} {message}".strip())


def _error(kind: type[errors.RbdCsiError], doing: str, answer: str) -> errors.RbdCsiError:
    step = _NEXT_STEP.get(kind)
    return kind(f"{doing}: Ceph said {answer}" + (f"; {step}" if step else ""))


def error_class(error: Exception) -> type[errors.RbdCsiError]:
    """Return the class of our error for an exception of the bindings."""
    for ancestor in type(error).__mro__:
        if ancestor in _BY_CLASS:
            return _BY_CLASS[ancestor]
    return _BY_ERRNO.get(abs(errno_of(error)), errors.Failed)


def errno_of(error: Exception) -> int:
    """Return the errno of an exception of the bindings, 0 if it has none."""
    return getattr(error, "errno", None) or 0


def compared_unequal(error: Exception) -> bool:
    """Return whether an operation changed nothing because its comparison of an omap key failed."""
    return abs(errno_of(error)) == errno.ECANCELED


def _description(error: Exception) -> str:
    number = errno_of(error)
    name = errno.errorcode.get(abs(number), "")
    return f"{type(error).__name__}({name})" if name else f"{type(error).__name__}: {error}"
