"""Commands to Ceph's monitors by librados, for what each module of tests does.

The tool `ceph` is a Python program, which takes a third of a second of processor time.
"""

import errno
import json
from typing import Any

import rados

from e2e import errors


def command(connection: rados.Rados, prefix: str, **arguments: object) -> Any:
    """Run a command and return its answer, parsed from JSON; None if it answers nothing.

    Args:
        connection: its `rados_mon_op_timeout` is the time limit.
        prefix: the command's words.
        arguments: by the names in the monitor's table (src/mon/MonCommands.h).

    Raises:
        DeadlineExceeded: the monitors do not answer.
        Failed: the monitors refuse.
    """
    request = json.dumps({"prefix": prefix, "format": "json", **arguments})
    code, output, words = connection.mon_command(request, b"")
    if code in {-errno.ETIMEDOUT, -errno.EINTR}:
        raise errors.DeadlineExceeded(f"`{prefix}` was not answered: do the monitors run?")
    if code:
        raise errors.Failed(f"`{prefix}` ended with {errno.errorcode.get(-code, code)}: {words}")
    return json.loads(output) if output.strip() else None
