"""M2, M3 and M9 with krbd: driver and floor both at work inside a virtual machine.

All of both runs in the machine (`python -m bench.machine`), controller and tools too, so neither
pays for the way into it; only Ceph is outside. Commands come to it and results go as JSON.
"""

import json
import platform
import sys
from pathlib import Path

from bench import data_path, journey, lab, restore
from bench.metric import Result, from_raw
from e2e import processes, vm
from e2e.clusters import existing
from e2e.clusters.local import LocalCluster
from e2e.vm.node import compile_driver

_ROOT = Path(__file__).parents[1]
_CONF, _KEYRING = "/etc/ceph/ceph.conf", "/etc/ceph/ceph.client.admin.keyring"
_SECONDS = 3600.0


def measure(scale: float, store: lab.Store) -> tuple[list[Result], dict[str, str]]:
    """Measure in a machine; returns the results, and what is otherwise there than here."""
    compile_driver()
    with (
        vm.network() as network,
        LocalCluster(backend=store, address=network.host) as cluster,
        vm.Machine("bench", network, 0, memory=2048 * vm.MIB) as machine,
    ):
        machine.run("modprobe", "rbd")
        machine.write(_CONF, cluster.conf.read_text())
        machine.write(_KEYRING, cluster.keyring.read_text(), mode="600")
        settings = (f"RBDCSI_TEST_CEPH_CONF={_CONF}", f"RBDCSI_TEST_CEPH_KEYRING={_KEYRING}")
        inside = (sys.executable, "-m", "bench.machine", str(scale))
        done = machine.run("env", f"--chdir={_ROOT}", *settings, *inside, seconds=_SECONDS)
    told = json.loads(done.text)
    return [from_raw(raw) for raw in told["results"]], told["facts"]


def _measure_inside(scale: float) -> str:
    processes.adopt()
    with existing.connected() as cluster, lab.at_work(cluster, scale, "krbd") as running:
        families = (journey.measure, restore.measure, data_path.measure)
        results = [result for measure in families for result in measure(running)]
    kernel = f"{platform.release()} in a virtual machine without KVM"
    return json.dumps({"facts": {"kernel": kernel}, "results": [r.raw() for r in results]})


if __name__ == "__main__":
    print(_measure_inside(float(sys.argv[1])))
