"""What is asked of a running qemu, over its monitor's socket (QMP)."""

import contextlib
import json
import re
import socket
from pathlib import Path
from typing import Any

from e2e import errors

_SECONDS = 30.0


class Monitor:
    """The one connection to a qemu's monitor."""

    def __init__(self, path: Path) -> None:
        """Connect to the socket at that path, which qemu has made already."""
        with contextlib.ExitStack() as undo:
            self._socket = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            self._socket.settimeout(_SECONDS)
            self._socket.connect(str(path))
            self._stream = self._socket.makefile("rw")
            self._stream.readline()  # the greeting
            self._ask("qmp_capabilities")
            undo.pop_all()

    def close(self) -> None:
        """End the connection; qemu goes on."""
        self._stream.close()
        self._socket.close()

    def forward(self, network: str, address: str, port: int) -> int:
        """Return a new port of this machine's loopback that leads to a port in the guest.

        Args:
            network: the id of qemu's user-mode network.
            address: the guest's in it.
            port: where the guest listens, or will.

        Raises:
            Failed: qemu refuses.
        """
        said = self._human(f"hostfwd_add {network} tcp:127.0.0.1:0-{address}:{port}")
        # `TCP[HOST_FORWARD]  12  127.0.0.1 45678  10.0.2.15  7000  0  0`
        listed = rf"TCP\[HOST_FORWARD\]\s+\d+\s+\S+\s+(\d+)\s+{re.escape(address)}\s+{port}\s"
        found = re.search(listed, self._human("info usernet"))
        if found is None:
            raise errors.Failed(f"qemu does not forward to {address}:{port}: {said}")
        return int(found[1])

    def _human(self, line: str) -> str:
        return str(self._ask("human-monitor-command", {"command-line": line}))

    def _ask(self, command: str, arguments: object = None) -> Any:
        asked = {"execute": command, **({"arguments": arguments} if arguments else {})}
        self._stream.write(json.dumps(asked) + "\n")
        self._stream.flush()
        while line := self._stream.readline():
            said = json.loads(line)
            if "error" in said:
                raise errors.Failed(f"qemu's {command}: {said['error']['desc']}")
            if "return" in said:  # anything else is an event
                return said["return"]
        raise errors.Failed(f"qemu ended the connection at {command}")
