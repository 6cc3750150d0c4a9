"""Which addresses a Kubernetes on the machines' network has: none that another run has, too.

10.77.N.0/24   this host and the machines: see e2e.vm.network
10.78.N.0/24   Pods, 62 for each of four machines
10.79.N.0/24   services; the first is the API server's
"""

from dataclasses import dataclass

_BLOCK = 64
_FIRST_MACHINE = 10  # as in e2e.vm.network


@dataclass(frozen=True)
class Addresses:
    """The addresses that go with one of `e2e.vm`'s networks, by its number."""

    number: int

    @property
    def host(self) -> str:
        """This host's, as machines see it."""
        return f"10.77.{self.number}.1"

    def machine(self, index: int) -> str:
        """Return the address of the machine with that index, from 0."""
        return f"10.77.{self.number}.{_FIRST_MACHINE + index}"

    @property
    def services(self) -> str:
        """The services' subnet."""
        return f"10.79.{self.number}.0/24"

    @property
    def api_server(self) -> str:
        """Where the API server listens: inside and outside it has the same address."""
        return f"10.79.{self.number}.1"

    @property
    def advertised(self) -> str:
        """Where clients inside find the API server."""
        return self.api_server

    def pods(self, index: int) -> str:
        """Return the subnet of the Pods at the machine with that index, from 0."""
        return f"10.78.{self.number}.{_BLOCK * index}/26"


@dataclass(frozen=True)
class Loopback:
    """The addresses of an API server that only this host uses; it has no nodes and no services."""

    api_server: str
    advertised: str = "10.79.255.1"  # it refuses a loopback address, and nothing connects to it
    services: str = "10.79.255.0/24"
