"""A driver without Ceph: the real server around services that only wait, for the server's tests.

`python -m tests.unit.tiny SOCKET GRACE` runs it as a process of its own.
"""
# ruff: noqa: N802, ARG002  (gRPC's names and signatures)

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import structlog
from google.protobuf import wrappers_pb2

from rbdcsi import errors
from rbdcsi.api import csi_pb2, csi_pb2_grpc
from rbdcsi.config.options import Options
from rbdcsi.server import grpc_server, lifecycle
from rbdcsi.server.activity import Activity
from rbdcsi.server.locks import KeyedLocks
from rbdcsi.telemetry import logs


class Identity(csi_pb2_grpc.IdentityServicer):
    """Answers a Probe as the test wishes."""

    def __init__(self) -> None:
        self.ready = True
        self.error: errors.RbdCsiError | None = None

    def Probe(self, request: Any, context: Any) -> csi_pb2.ProbeResponse:
        if self.error:
            raise self.error
        return csi_pb2.ProbeResponse(ready=wrappers_pb2.BoolValue(value=self.ready))

    def GetPluginInfo(self, request: Any, context: Any) -> csi_pb2.GetPluginInfoResponse:
        return csi_pb2.GetPluginInfoResponse(name="tiny")


class Controller(csi_pb2_grpc.ControllerServicer):
    """Deletes a volume when `released` is set, and says in `entered` and the log that it began."""

    def __init__(self, lasts: float) -> None:
        self.lasts = lasts  # seconds that a call takes at most
        self.entered, self.released = threading.Event(), threading.Event()

    def DeleteVolume(self, request: Any, context: Any) -> csi_pb2.DeleteVolumeResponse:
        self.entered.set()
        structlog.get_logger().info("entered")
        self.released.wait(self.lasts)
        return csi_pb2.DeleteVolumeResponse()


class SnapshotMetadata(csi_pb2_grpc.SnapshotMetadataServicer):
    """Streams messages of 64 KiB, fails after `fails_after` of them, and says when it ends."""

    def __init__(self) -> None:
        self.messages, self.fails_after = 3, 1000
        self.sent = 0
        self.ended = threading.Event()

    def GetMetadataAllocated(
        self, request: Any, context: Any
    ) -> Iterator[csi_pb2.GetMetadataAllocatedResponse]:
        ranges = [csi_pb2.BlockMetadata(byte_offset=1 << 40, size_bytes=1 << 40)] * 4096
        try:
            for number in range(self.messages):
                self.sent = number
                if number == self.fails_after:
                    raise errors.NotFound("snapshot s1 is gone")
                yield csi_pb2.GetMetadataAllocatedResponse(block_metadata=ranges)
        finally:
            self.ended.set()


class Tiny:
    """The services, and how to add them to a server."""

    def __init__(self, lasts: float = 30) -> None:
        # What they do not have is UNIMPLEMENTED, and tested as such.
        self.identity = Identity()
        self.controller = Controller(lasts)
        self.snapshot_metadata = SnapshotMetadata()

    def add_to(self, server: grpc.Server) -> None:
        """Add the services."""
        csi_pb2_grpc.add_IdentityServicer_to_server(self.identity, server)
        csi_pb2_grpc.add_ControllerServicer_to_server(self.controller, server)
        csi_pb2_grpc.add_SnapshotMetadataServicer_to_server(self.snapshot_metadata, server)


def options(socket: Path, **changes: Any) -> Options:
    """Return options that are good for a test."""
    facts = {"role": "controller", "config": Path("none"), "stop_grace": 5.0, "workers": 4}
    return Options(socket=socket, **{**facts, **changes})


def main(socket: str, grace: str) -> None:
    """Serve until SIGTERM; calls take two seconds."""
    logs.configure("json", "info")
    stopping, tiny = lifecycle.stop_on_signals(), Tiny(lasts=2)
    chosen = options(Path(socket), stop_grace=float(grace))
    finished = grpc_server.serve(chosen, tiny.add_to, stopping, KeyedLocks(), Activity())
    lifecycle.leave(finished=finished)


if __name__ == "__main__":
    main(*sys.argv[1:])
