"""Every exception of the installed bindings has a place among the driver's errors."""

import errno
from types import ModuleType

import pytest
import rados
import rbd

from rbdcsi import errors
from rbdcsi.ceph import ceph_errors
from rbdcsi.ceph.ceph_errors import ConnectionLost
from rbdcsi.runtime import deadlines

EXPECTED: dict[ModuleType, dict[str, type[errors.RbdCsiError]]] = {
    rados: {
        "Error": errors.Failed,
        "OSError": errors.Failed,
        "ObjectNotFound": errors.NotFound,
        "NoData": errors.NotFound,
        "ObjectExists": errors.AlreadyExists,
        "ObjectBusy": errors.Busy,
        "InProgress": errors.Busy,
        "NoSpace": errors.Exhausted,
        "TimedOut": errors.Unavailable,
        "InterruptedOrTimeoutError": errors.Unavailable,
        "NotConnected": errors.Unavailable,
        "ConnectionShutdown": ConnectionLost,
        "PermissionDeniedError": errors.Unauthenticated,
        "PermissionError": errors.Forbidden,
        "InvalidArgumentError": errors.Failed,
        "ExtendMismatch": errors.Failed,
        "IoctxStateError": errors.Failed,
        "IOError": errors.Failed,
        "IsConnected": errors.Failed,
        "LogicError": errors.Failed,
        "ObjectStateError": errors.Failed,
        "RadosStateError": errors.Failed,
    },
    rbd: {
        "Error": errors.Failed,
        "OSError": errors.Failed,
        "ImageNotFound": errors.NotFound,
        "ObjectNotFound": errors.NotFound,
        "ImageExists": errors.AlreadyExists,
        "ObjectExists": errors.AlreadyExists,
        "ImageBusy": errors.Refused,
        "ImageHasSnapshots": errors.Refused,
        "ReadOnlyImage": errors.Refused,
        "OperationCanceled": errors.Busy,
        "NoSpace": errors.Exhausted,
        "DiskQuotaExceeded": errors.Exhausted,
        "Timeout": errors.Unavailable,
        "ConnectionShutdown": ConnectionLost,
        "PermissionError": errors.Forbidden,
        "InvalidArgument": errors.InvalidRequest,
        "ArgumentOutOfRange": errors.InvalidRequest,
        "FunctionNotSupported": errors.InvalidRequest,
        "OperationNotSupported": errors.InvalidRequest,
        "IncompleteWriteError": errors.Failed,
        "IOError": errors.Failed,
        "LogicError": errors.Failed,
    },
}


def _exceptions(module: ModuleType) -> dict[str, type[Exception]]:
    return {
        name: found
        for name, found in vars(module).items()
        if isinstance(found, type) and issubclass(found, Exception)
    }


def _made(kind: type[Exception]) -> Exception:
    more = (5, 0) if kind is rados.ExtendMismatch else ()
    return kind("the words of Ceph", *more)


@pytest.mark.parametrize("module", EXPECTED, ids=lambda module: module.__name__)
def test_each_exception_class_becomes_the_error_it_stands_for(module: ModuleType) -> None:
    found = {
        name: ceph_errors.error_class(_made(kind)) for name, kind in _exceptions(module).items()
    }
    assert found == EXPECTED[module]


@pytest.mark.parametrize(
    "kind",
    [kind for module in EXPECTED for kind in _exceptions(module).values()],
    ids=lambda kind: f"{kind.__module__}.{kind.__name__}",
)
def test_no_exception_of_the_bindings_leaves_the_adapter(kind: type[Exception]) -> None:
    original = _made(kind)
    with pytest.raises(errors.RbdCsiError, match=r"^doing this: Ceph said \S") as caught:
        _raise_translated(original)
    assert caught.value.__cause__ is original


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.ENOENT, errors.NotFound),
        (errno.ENOSPC, errors.Exhausted),
        (errno.EDQUOT, errors.Exhausted),
        (errno.EBUSY, errors.Busy),
        (errno.EAGAIN, errors.Busy),
        (errno.EBADF, errors.Busy),
        (errno.ESTALE, errors.Busy),
        (errno.ETIMEDOUT, errors.Unavailable),
        (errno.ENOTCONN, errors.Unavailable),
        (errno.ESHUTDOWN, ConnectionLost),
        (errno.EACCES, errors.Forbidden),
        (errno.EPERM, errors.Forbidden),
        (errno.EIO, errors.Failed),
        (errno.EINVAL, errors.Failed),
        (524, errors.Failed),
        (0, errors.Failed),
    ],
)
def test_an_errno_means_the_same_from_a_plain_exception_and_from_a_return_code(
    number: int, expected: type[errors.RbdCsiError]
) -> None:
    for signed in (number, -number):
        assert type(ceph_errors.from_errno(signed, "", "doing")) is expected
        for plain in (rados.OSError("x", signed), rbd.OSError("x", signed)):
            assert ceph_errors.error_class(plain) is expected


def test_the_message_says_what_was_done_what_ceph_said_and_what_to_do() -> None:
    full = ceph_errors.from_exception(rbd.DiskQuotaExceeded("x", errno.EDQUOT), "creating image a")
    assert str(full).startswith("creating image a: Ceph said DiskQuotaExceeded(EDQUOT); the pool")
    assert "ceph osd pool set-quota" in str(full)
    told = ceph_errors.from_errno(-errno.EPERM, "access denied", "monitor command 'df'")
    assert str(told).startswith(
        "monitor command 'df': Ceph said EPERM access denied; give the user"
    )


def test_errors_of_ours_and_of_python_pass_as_they_are() -> None:
    for error in (errors.Refused("no"), KeyError("bug")):
        with pytest.raises(type(error)) as caught:
            _raise_translated(error)
        assert caught.value is error


def test_nothing_is_asked_of_ceph_when_the_callers_time_is_over() -> None:
    with deadlines.within(0), pytest.raises(errors.DeadlineExceeded):
        _raise_translated(AssertionError("the body ran"))


def _raise_translated(error: Exception) -> None:
    with ceph_errors.translated("doing this"):
        raise error
