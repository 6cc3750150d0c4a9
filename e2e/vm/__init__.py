"""Virtual machines with a kernel of their own, for what the host's kernel lacks: krbd and nbd.

with vm.network() as network, vm.Machine("node-a", network, 0) as machine:
    machine.run("modprobe", "rbd")
"""

from e2e.vm.machine import KUBELET, MIB, REPORTS, Machine
from e2e.vm.network import Network
from e2e.vm.network import made as network

__all__ = ["KUBELET", "MIB", "REPORTS", "Machine", "Network", "network"]
