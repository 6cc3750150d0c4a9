"""Monitor commands, sent and answered as JSON; `rados_mon_op_timeout` bounds each of them."""

import json
from typing import Any

import rados

from rbdcsi import errors
from rbdcsi.ceph import ceph_errors


def run(cluster: rados.Rados, prefix: str, **arguments: object) -> Any:
    """Run a monitor command and return its decoded answer.

    Raises:
        Unavailable: the monitors did not answer in time.
        Forbidden: the user may not run it.
        Failed: the monitor refused it; its answer is in the message.
    """
    command = json.dumps({"prefix": prefix, "format": "json", **arguments})
    with ceph_errors.translated("monitor command", repr(prefix)) as doing:
        code, output, answer = cluster.mon_command(command, b"")
        if code:
            raise ceph_errors.from_errno(code, answer, doing)
    try:
        return _decoded(output.decode())
    except ValueError as error:
        raise errors.Failed(
            f"monitor command {prefix!r}: the answer is not JSON: {error}"
        ) from error


def _decoded(output: str) -> Any:
    """Decode an answer; `osd blocklist ls` answers with two JSON values in a row, a list here."""
    values, decoder, output = [], json.JSONDecoder(), output.strip()
    while output:
        value, end = decoder.raw_decode(output)
        values.append(value)
        output = output[end:].strip()
    return values[0] if len(values) == 1 else values or None
