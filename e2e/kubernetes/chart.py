"""Installs the driver with its Helm chart, as its users do, and takes it away again."""

import configparser
from collections.abc import Mapping
from pathlib import Path

import yaml

from e2e import errors
from e2e.clusters import Cluster, commands, controller_caps, node_caps
from e2e.kubernetes.client import Kubernetes
from e2e.release import manifests, programs

RELEASE = "rbdcsi"
NAMESPACE = "rbdcsi-system"
DRIVER = "rbd.rbdcsi.io"
CLUSTER_ID, POOL, CLASS = "main", "kubernetes", "rbd"  # as in deploy/examples

CLUSTER_NAME = "machines"  # in node ids

_SECONDS = 300
_MODULES = ("rbd", "nbd", "fuse", "loop")  # of every mapper


def prepare(cluster: Cluster, directory: Path, mapper: str) -> Path:
    """Make pool and users in Ceph, and return the file of the chart's values for them.

    Args:
        cluster: must be reached from nodes and Pods.
        directory: where the file goes; it has the users' keys.
        mapper: of the nodes.
    """
    cluster.create_pool(POOL)
    controller, node = "rbdcsi-controller", "rbdcsi-node"
    values = {
        "clusterName": CLUSTER_NAME,
        "clusters": [
            {
                "clusterID": CLUSTER_ID,
                "monitors": [_monitors(cluster)],
                "pool": POOL,
                "user": controller,
                "key": cluster.create_user(controller, controller_caps(POOL)).reveal(),
                "nodeUser": node,
                "nodeKey": cluster.create_user(node, node_caps(POOL)).reveal(),
            }
        ],
        "storageClasses": _classes(),
        "volumeSnapshotClasses": [{"name": CLASS, "default": True}],
        "volumeGroupSnapshotClasses": [{"name": CLASS, "default": True}],
        # Kubernetes' suite asks for the capacity of a class without delayed binding, too.
        "sidecars": {"provisioner": {"extraArgs": ["--capacity-for-immediate-binding"]}},
        "node": {"mapper": mapper, "kernelModules": list(_MODULES)},
    }
    file = directory / "values.yaml"
    file.touch(mode=0o600)
    file.write_text(yaml.safe_dump(values))
    return file


def install(kubernetes: Kubernetes, values: Path) -> None:
    """Install the chart, or bring what is installed to these values; return when it is ready.

    Raises:
        Failed: Helm's or kubectl's message, and the Pods as they are.
    """
    timeout = f"--timeout={_SECONDS}s"
    flags = ["--install", "--create-namespace", f"--values={values}", "--wait", timeout]
    # Helm does not wait for as many node plugins as may be unavailable during an update.
    nodes = ("rollout", "status", f"daemonset/{RELEASE}-node", "-n", NAMESPACE, timeout)
    try:
        _helm(kubernetes, "upgrade", RELEASE, str(manifests.CHART), *flags)
        kubernetes.kubectl(*nodes, timeout=_SECONDS + 10)
    except errors.Failed as error:
        error.add_note(_state(kubernetes))
        raise


def uninstall(kubernetes: Kubernetes) -> None:
    """Take the release away, and wait until its Pods are gone."""
    _helm(kubernetes, "uninstall", RELEASE, "--wait", f"--timeout={_SECONDS}s")
    kubernetes.wait(lambda: not list(kubernetes.list("pods", NAMESPACE)), "no Pod of the driver")


def _helm(kubernetes: Kubernetes, *words: str) -> None:
    who = [f"--kubeconfig={kubernetes.kubeconfig}", f"--namespace={NAMESPACE}"]
    commands.run([programs.built("helm"), *who, *words], timeout=_SECONDS + 30)


def _monitors(cluster: Cluster) -> str:
    """Return the monitors with both protocols' ports: krbd speaks the old one."""
    parser = configparser.ConfigParser(strict=False)
    parser.read(cluster.conf)
    return parser["global"]["mon host"]


def _state(kubernetes: Kubernetes) -> str:
    """Return what helps to see why Pods are not ready."""
    here = ("-n", NAMESPACE)
    logs = ("logs", *here, "--all-containers", "--tail=15", "-l", "app.kubernetes.io/name=rbdcsi")
    return "\n".join(
        [
            kubernetes.kubectl("get", "pods", *here, "-o", "wide"),
            kubernetes.kubectl("get", "events", *here, "--sort-by=.lastTimestamp")[-3000:],
            kubernetes.kubectl(*logs, "--ignore-errors"),
        ]
    )


def _classes() -> list[Mapping[str, object]]:
    """Return the default class, those of a filesystem or mapper, and one that waits for a Pod."""
    return [
        {"name": CLASS, "default": True, "parameters": {"pool": POOL}},
        *(
            {"name": f"{CLASS}-{kind}", "parameters": {"csi.storage.k8s.io/fstype": kind}}
            for kind in ("xfs", "btrfs")
        ),
        *(
            {"name": f"{CLASS}-{mounter}", "parameters": {"mounter": mounter}}
            for mounter in ("nbd", "fuse")
        ),
        {"name": f"{CLASS}-wait", "volumeBindingMode": "WaitForFirstConsumer"},
    ]
