"""Makes a virtual machine a Kubernetes node: containerd, runc and the kubelet in it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import yaml

from e2e import vm
from e2e.kubernetes import build, images, login
from e2e.kubernetes.control_plane import ControlPlane

CONTAINERD = "/var/lib/containerd"
KUBELET_LOG, CONTAINERD_LOG = "/var/log/kubelet.log", "/var/log/containerd.log"
_ETC = "/etc/kubernetes"
_SOCKET = "/run/containerd/containerd.sock"
# Threads that look for work, and are interrupted in it, cost an emulated node more than the work.
_ONE_THREAD = ("env", "GOMAXPROCS=1", "GODEBUG=asyncpreemptoff=1")
# As systemd does: the kubelet ends when containerd is not ready yet.
_AGAIN_AND_AGAIN = f"""\
while :; do
    [ -e {login.KUBELET_STOPPED} ] || {{ "$@" & echo $! >{login.KUBELET_PID}; wait; }}
    sleep 1
done
"""
_CONTAINERD_CONFIG = f"""\
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{images.PAUSE}"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
"""


@dataclass(frozen=True)
class Node:
    """A machine of a Kubernetes; its name is the node's."""

    machine: vm.Machine
    index: int

    def start(self, plane: ControlPlane, others: Sequence["Node"]) -> None:
        """Make it a node, or make it one again after it was booted; it is ready some time later.

        Args:
            plane: what it joins.
            others: the other nodes, whose Pods it shall reach.
        """
        machine = self.machine
        machine.write("/etc/containerd/config.toml", _CONTAINERD_CONFIG)
        machine.write("/etc/cni/net.d/10-pods.conflist", _pod_network(plane, self.index))
        machine.write(f"{_ETC}/ca.crt", plane.authority.root.certificate.read_text())
        machine.write(f"{_ETC}/kubelet.yaml", _kubelet_config(), "600")
        machine.write(f"{_ETC}/kubeconfig", plane.node_kubeconfig(machine.name), "600")
        login.allow(machine, plane.login_key)
        self._prepare(plane, others)
        machine.spawn(CONTAINERD_LOG, *_ONE_THREAD, "containerd")
        machine.spawn(
            KUBELET_LOG,
            *(*_ONE_THREAD, "sh", "-c", _AGAIN_AND_AGAIN, "kubelet"),
            build.build("kubelet"),
            f"--config={_ETC}/kubelet.yaml",
            f"--kubeconfig={_ETC}/kubeconfig",
            f"--hostname-override={machine.name}",
            f"--node-ip={machine.address}",
            "--housekeeping-interval=1m",  # of container statistics: the most it does otherwise
        )

    def _prepare(self, plane: ControlPlane, others: Sequence["Node"]) -> None:
        subnets = [(plane.addresses.pods(each.index), each.machine.address) for each in others]
        lines = [
            "modprobe loop",  # for the kubelet and raw volumes; elsewhere udev loads it
            "sysctl -q -w net.ipv4.ip_forward=1",
            f"ip route replace default via {plane.addresses.host}",
            *(f"ip route replace {subnet} via {address}" for subnet, address in subnets),
        ]
        self.machine.run("sh", "-ec", "\n".join(lines))


def _pod_network(plane: ControlPlane, index: int) -> str:
    ranges = [[{"subnet": plane.addresses.pods(index)}]]
    bridge = {
        "type": "bridge",
        "bridge": "pods",
        "isGateway": True,
        "ipam": {"type": "host-local", "ranges": ranges, "routes": [{"dst": "0.0.0.0/0"}]},
    }
    return json.dumps({"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge]})


def _kubelet_config() -> str:
    return yaml.safe_dump(
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {"x509": {"clientCAFile": f"{_ETC}/ca.crt"}},
            "cgroupDriver": "cgroupfs",
            "containerRuntimeEndpoint": f"unix://{_SOCKET}",
            "resolvConf": "",  # there is no name server
            "syncFrequency": "10s",  # a grown volume of a running Pod waits for the next round
            "localStorageCapacityIsolation": False,  # it would count every Pod's files
            # Machines are small, and what they need is imported once and kept.
            "evictionHard": {"memory.available": "0%", "nodefs.available": "0%"},
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
        }
    )
