"""A network of its own for virtual machines: a bridge in a namespace, and a way to it from here.

    this machine (10.77.N.1) ── veth ── bridge in a network namespace ── taps ── machines

What machines shall reach (Ceph's daemons, an API server) runs here and binds `Network.host`.
Everything ends with the process: the namespace with its descriptor, and what is in it with it.
"""

import contextlib
import fcntl
import json
import os
import random
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from e2e import errors
from e2e.clusters import commands
from e2e.vm import namespaces

BRIDGE = "machines"
_FIRST_MACHINE = 10
# <linux/if_tun.h>
_TUNSETIFF = 0x400454CA
_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR = 0x0002, 0x1000, 0x4000


@dataclass(frozen=True)
class Network:
    """The network 10.77.NUMBER.0/24 and the descriptor of its namespace."""

    number: int
    descriptor: int

    @property
    def host(self) -> str:
        """The address of this machine, in the namespace that the tests run in."""
        return f"10.77.{self.number}.1"

    @property
    def namespace(self) -> str:
        """A path of the namespace, for `nsenter --net=…`."""
        return f"/proc/{os.getpid()}/fd/{self.descriptor}"

    def address(self, index: int) -> str:
        """Return the address of the machine with that index, from 0."""
        return f"10.77.{self.number}.{_FIRST_MACHINE + index}"

    def run(self, *argv: str) -> str:
        """Run a command in the namespace and return its output."""
        return commands.run(["nsenter", f"--net={self.namespace}", *argv])

    def tap(self, name: str) -> int:
        """Return the descriptor of a new tap on the bridge; it is gone when that is closed."""
        tap = namespaces.inside(self.descriptor, lambda: _open_tap(name))
        self.run("ip", "link", "set", name, "master", BRIDGE, "up")
        return tap

    def cut(self, name: str) -> None:
        """Take a tap off the bridge: its machine sees a carrier, and nobody answers."""
        self.run("ip", "link", "set", name, "nomaster")

    def join(self, name: str) -> None:
        """Put a tap back onto the bridge."""
        self.run("ip", "link", "set", name, "master", BRIDGE)


@contextlib.contextmanager
def made() -> Iterator[Network]:
    """Give a new network; it is gone after the body.

    Raises:
        Exhausted: every number is taken by another run, or by this machine's own networks.
    """
    with contextlib.ExitStack() as undo:
        network = Network(undo.enter_context(_claimed_number()), namespaces.create())
        undo.callback(os.close, network.descriptor)
        ours, theirs = f"rbdcsi{network.number}", "host"
        _ip("link", "add", ours, "type", "veth", "peer", theirs, "netns", network.namespace)
        undo.callback(_ip, "link", "delete", ours)
        _ip("address", "add", f"{network.host}/24", "dev", ours)
        _ip("link", "set", ours, "up")
        for line in (
            f"link add {BRIDGE} type bridge",
            f"link set {theirs} master {BRIDGE} up",
            f"link set {BRIDGE} up",
            "link set lo up",
        ):
            network.run("ip", *line.split())
        yield network


@contextlib.contextmanager
def _claimed_number() -> Iterator[int]:
    """Give a number that no other run has; the kernel drops the claim with this process."""
    for number in random.sample(range(1, 255), 254):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as mark:
            try:
                mark.bind(f"\0rbdcsi-network-{number}")
            except OSError:
                continue
            if not _is_routed(f"10.77.{number}.0/24"):
                yield number
                return
    raise errors.Exhausted("10.77.0.0/16: every network in it is in use on this machine")


def _is_routed(subnet: str) -> bool:
    routes = json.loads(_ip("-json", "route", "show", "match", subnet) or "[]")
    inner = json.loads(_ip("-json", "route", "show", "root", subnet) or "[]")
    return any(route["dst"] != "default" for route in [*routes, *inner])


def _ip(*words: str) -> str:
    return commands.run(["ip", *words])


def _open_tap(name: str) -> int:
    tap = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        flags = _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR
        fcntl.ioctl(tap, _TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
    except OSError:
        os.close(tap)
        raise
    return tap
