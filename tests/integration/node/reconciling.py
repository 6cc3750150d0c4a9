"""A node in the test's own process, beside the plugin that runs or is stopped."""

import contextlib

from e2e.driver import Driver
from rbdcsi.ceph import connections
from rbdcsi.config import clusters_file
from rbdcsi.host.machine import this_machine
from rbdcsi.host.mappers import select
from rbdcsi.model import ids
from rbdcsi.staging.device_stack import Devices
from rbdcsi.staging.freeze_marks import FreezeMarks
from rbdcsi.staging.notes import Notes
from rbdcsi.staging.reconcile import Hold, Reconciler
from rbdcsi.staging.this_node import ThisNode
from tests.integration.node import lab as labs


def free(_handle: ids.VolumeHandle) -> contextlib.AbstractContextManager[None]:
    """Hold no lock: no call works on the volume."""
    return contextlib.nullcontext()


def reconciler(node: Driver, hold: Hold = free) -> Reconciler:
    """Return a reconciler of the node, which does the work of the plugin's own."""
    return Reconciler(this_node(node), hold)


def this_node(node: Driver) -> ThisNode:
    """Return the node as its plugin knows it."""
    configured = clusters_file.load(node.config)
    pooled = connections.Connections(configured, timeout=10)
    state = node.directory / "state"
    devices = Devices(select.every(state), ("fuse",), pooled, Notes(state / "notes"))
    machine = this_machine(node.directory)
    marks = FreezeMarks(state / "frozen")
    return ThisNode(labs.node_id(node), machine, node.kubelet, devices, pooled, marks)
