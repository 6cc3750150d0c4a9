"""The domain's errors. Each class carries the gRPC code that the CSI tables give it.

    RbdCsiError
    ├── InvalidRequest       INVALID_ARGUMENT
    ├── Unauthenticated      UNAUTHENTICATED
    ├── Forbidden            PERMISSION_DENIED
    ├── NotFound             NOT_FOUND
    ├── AlreadyExists        ALREADY_EXISTS
    ├── Refused              FAILED_PRECONDITION
    │   └── ConfigError      (never reaches a caller: the driver does not start)
    ├── SizeOutOfRange       OUT_OF_RANGE
    ├── Exhausted            RESOURCE_EXHAUSTED
    ├── Busy                 ABORTED
    │   └── ChildStuck
    ├── Unavailable          UNAVAILABLE
    ├── DeadlineExceeded     DEADLINE_EXCEEDED
    └── Failed               INTERNAL
        └── CommandFailed    (host/command.py)

A message names the object, what was found, what was expected, and the next step.
"""

from typing import ClassVar, Protocol


class RbdCsiError(Exception):
    """Base of every error that may reach a caller; `code` is the name of a gRPC status code."""

    code: ClassVar[str] = "INTERNAL"


class InvalidRequest(RbdCsiError):
    """The request cannot be right, whatever the state of the world."""

    code = "INVALID_ARGUMENT"


class Unauthenticated(RbdCsiError):
    """Ceph does not accept the user and key."""

    code = "UNAUTHENTICATED"


class Forbidden(RbdCsiError):
    """Ceph knows the user, but its capabilities do not allow this."""

    code = "PERMISSION_DENIED"


class NotFound(RbdCsiError):
    """The volume, node, pool or path does not exist."""

    code = "NOT_FOUND"


class AlreadyExists(RbdCsiError):
    """The object exists with other properties than those asked for."""

    code = "ALREADY_EXISTS"


class Refused(RbdCsiError):
    """The state of the volume forbids it now; somebody has to act first."""

    code = "FAILED_PRECONDITION"


class ConfigError(Refused):
    """The configuration cannot be used; each line of the message is one mistake and its fix."""


class SizeOutOfRange(RbdCsiError):
    """A size or range that cannot be served."""

    code = "OUT_OF_RANGE"


class Exhausted(RbdCsiError):
    """No space, quota, or room on the node is left."""

    code = "RESOURCE_EXHAUSTED"


class Busy(RbdCsiError):
    """Another operation on the same object is under way; the same call later may succeed."""

    code = "ABORTED"


class Child(Protocol):
    """A child process, as subprocess.Popen has it."""

    pid: int

    def poll(self) -> int | None:
        """Return None while the child lives."""


class ChildStuck(Busy):
    """A child process was killed and does not die: the kernel holds it (D state).

    Until `child.poll()` is not None it may still change the object it was working on.
    """

    def __init__(self, message: str, child: Child) -> None:
        super().__init__(message)
        self.child = child


class Unavailable(RbdCsiError):
    """Ceph or the host does not answer now."""

    code = "UNAVAILABLE"


class DeadlineExceeded(RbdCsiError):
    """The time of the call, or of one of its steps, ran out."""

    code = "DEADLINE_EXCEEDED"


class Failed(RbdCsiError):
    """Something failed that should not have; the message says which step and how."""

    code = "INTERNAL"
