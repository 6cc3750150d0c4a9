"""Group snapshots of claims, as their users make them: of one moment, each member restored."""

import itertools
from collections.abc import Mapping

from e2e.kubernetes import chart, snapshots, workload
from e2e.kubernetes.client import Object
from tests.kubernetes.conftest import Rbd

Namespace = workload.Namespace
CLAIMS = ("even", "odd")
LABELS = {"app": "database"}

# A numbered line to each volume in turn, the next one when the last is on Ceph.
_WRITER = """
n=0
while :; do
  for name in even odd; do
    echo $n >>/data/$name/log && sync /data/$name/log || { echo "line $n" >/tmp/failed; exit 1; }
    n=$((n + 1))
  done
done
"""


def test_members_of_a_group_are_of_one_moment_and_restored(namespace: Namespace, rbd: Rbd) -> None:
    for name in CLAIMS:
        claim = workload.claim(name)
        namespace.apply({**claim, "metadata": {"name": name, "labels": LABELS}})
    namespace.apply(_pod("writer", CLAIMS, ["sh", "-c", _WRITER]))
    namespace.wait_for_pod("writer")
    namespace.run("writer", "while test ! -s /data/odd/log; do sleep 0.1; done")
    namespace.apply(snapshots.group("group", LABELS))
    namespace.kubernetes.wait_for(
        "volumegroupsnapshot", "group", "jsonpath={.status.readyToUse}=true", namespace.name
    )
    written = int(namespace.run("writer", "wc -l </data/even/log"))
    namespace.run("writer", f"until test $(wc -l </data/even/log) -gt {written}; do sleep 1; done")
    images = [namespace.image(name) for name in CLAIMS]
    for of, member in _members(namespace).items():
        namespace.claim(f"old-{of}", source=snapshots.source(member))
    namespace.apply(_pod("reader", [f"old-{name}" for name in CLAIMS], ["sleep", "infinity"]))
    namespace.wait_for_pod("reader")
    numbers = [
        [int(line) for line in namespace.run("reader", f"cat /data/old-{name}/log").split()]
        for name in CLAIMS
    ]
    together = sorted(itertools.chain(*numbers))
    assert together == list(range(len(together)))
    assert len(together) >= 2
    assert namespace.run("writer", "cat /tmp/failed 2>/dev/null || echo none") == "none\n"
    namespace.delete("volumegroupsnapshot", "group")
    namespace.kubernetes.wait(
        lambda: not any(rbd("snap", "ls", f"{chart.POOL}/{image}") for image in images),
        "the images have no snapshot",
    )
    namespace.kubernetes.wait(lambda: not _members(namespace), "the members are gone")


def _members(namespace: Namespace) -> Mapping[str, str]:
    """Return the names of the snapshots, by those of their claims."""
    return {
        each["spec"]["source"]["persistentVolumeClaimName"]: each["metadata"]["name"]
        for each in namespace.kubernetes.list("volumesnapshots", namespace.name)
    }


def _pod(name: str, claims: tuple[str, ...] | list[str], command: list[str]) -> Object:
    """Return a Pod that has each claim's volume at /data/CLAIM."""
    pod = workload.pod(name, "", command=command)
    (container,) = pod["spec"]["containers"]
    mounts = [{"name": each, "mountPath": f"{workload.MOUNT}/{each}"} for each in claims]
    volumes = [{"name": each, "persistentVolumeClaim": {"claimName": each}} for each in claims]
    changed = {"containers": [{**container, "volumeMounts": mounts}], "volumes": volumes}
    return {**pod, "spec": {**pod["spec"], **changed}}
