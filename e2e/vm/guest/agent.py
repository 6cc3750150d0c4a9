"""Runs commands in a virtual machine for the tests outside: one connection, one command.

A line of JSON comes, {"argv", "stdin" (base64), "seconds"}; one goes, {"exit_code", "stdout",
"stderr"} (base64) or {"error"}. Whoever reaches the port is root here, as whoever started the
machine is anyway: it is forwarded from the host's loopback alone.
"""

import base64
import contextlib
import json
import os
import signal
import socketserver
import subprocess
from pathlib import Path

ADDRESS = ("10.0.2.15", 7000)
READY = "agent: ready"


class Command(socketserver.StreamRequestHandler):
    """One request."""

    def handle(self) -> None:
        """Run the command to its end and answer."""
        asked = json.loads(self.rfile.readline())
        try:
            answer = _run(asked["argv"], base64.b64decode(asked["stdin"]), asked["seconds"])
        except (OSError, ValueError) as error:
            answer = {"error": str(error)}
        except subprocess.TimeoutExpired:
            answer = {"error": "timeout"}
        with contextlib.suppress(OSError):  # nobody waits any more
            self.wfile.write(json.dumps(answer).encode() + b"\n")


class Agent(socketserver.ThreadingTCPServer):
    """Serves each connection in a thread of its own."""

    allow_reuse_address = True
    daemon_threads = True


def _run(argv: list[str], stdin: bytes, seconds: float) -> dict[str, object]:
    child = subprocess.Popen(
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        stdout, stderr = child.communicate(stdin, timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        raise
    return {"exit_code": child.returncode, "stdout": _text(stdout), "stderr": _text(stderr)}


def _text(output: bytes) -> str:
    return base64.b64encode(output).decode()


if __name__ == "__main__":
    with Agent(ADDRESS, Command) as agent:
        Path("/dev/console").write_text(f"{READY}\n")
        agent.serve_forever()
