"""Runs a command in a machine, by asking the agent there (guest/agent.py)."""

import base64
import json
import socket
from collections.abc import Collection, Sequence
from typing import Any

from e2e import errors
from rbdcsi.host import command

_PATIENCE = 10.0  # seconds for an agent to say that its time is over


def run(
    address: str, argv: Sequence[str], seconds: float, stdin: bytes, ok: Collection[int]
) -> command.CommandResult:
    """Run a command as root, to its end.

    Args:
        address: the agent's, `host:port`.
        argv: program and arguments.
        seconds: how long it may take; it is killed then.
        stdin: its input.
        ok: exit codes that are no error.

    Raises:
        Failed: another exit code than those in `ok`, or it could not be started.
        DeadlineExceeded: it, or the machine, did not answer in time.
    """
    line = " ".join(argv)
    answer = _ask(address, argv, seconds, stdin)
    if answer.get("error") == "timeout":
        raise _too_slow(argv, seconds)
    if "error" in answer:
        raise errors.Failed(f"`{line}` could not be started in the machine: {answer['error']}")
    done = command.CommandResult(
        answer["exit_code"],
        base64.b64decode(answer["stdout"]),
        base64.b64decode(answer["stderr"]),
    )
    if done.exit_code not in ok:
        said = (done.stderr or done.stdout).decode(errors="replace").strip()
        raise errors.Failed(f"`{line}` in the machine ended with {done.exit_code}: {said}")
    return done


def _ask(address: str, argv: Sequence[str], seconds: float, stdin: bytes) -> Any:
    asked = {"argv": argv, "stdin": base64.b64encode(stdin).decode(), "seconds": seconds}
    host, _, port = address.rpartition(":")
    longest = seconds + _PATIENCE
    try:
        with socket.create_connection((host, int(port)), timeout=longest) as connection:
            connection.sendall(json.dumps(asked).encode() + b"\n")
            with connection.makefile("rb") as stream:
                line = stream.readline()
    except TimeoutError as error:
        raise _too_slow(argv, longest) from error
    if not line:
        raise errors.Failed(f"the machine ended the connection at `{' '.join(argv)}`")
    return json.loads(line)


def _too_slow(argv: Sequence[str], seconds: float) -> errors.DeadlineExceeded:
    return errors.DeadlineExceeded(
        f"`{' '.join(argv)}` did not end within {seconds:g} s in the machine"
    )
