"""Classes that ceph-csi and Rook show in their documents work as they are, but for the provisioner.

The parameter sets are those of ceph-csi's examples/rbd/storageclass.yaml and of Rook's
deploy/examples/csi/rbd/storageclass*.yaml (2026), with the optional ones that change no volume. The
node maps with `fuse`, so options of other mappers are stored and checked, not used.
"""

import dataclasses
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import rados
import yaml

from e2e import driver, volume
from e2e.clusters import Cluster
from e2e.driver import Driver
from tests.integration.controller.view import View
from tests.integration.node.conftest import wait_until_registered
from tests.integration.whole_life import Class, live
from tests.refusal import refused

pytestmark = pytest.mark.usefixtures("nothing_left")

FSID, ROOK, NAMESPACE_ID = "b9127830-b0cc-4e34-aa47-9d1a2e9949a8", "rook-ceph", "clusterid"
NAMESPACE = "tenant-a"

# The users that ceph-csi's and Rook's documents tell to make.
USERS: Mapping[str, Mapping[str, str]] = {
    "csi-rbd": {"mon": "profile rbd", "osd": "profile rbd", "mgr": "profile rbd"},
    "rook-provisioner": {
        "mon": "profile rbd, allow command 'osd blocklist'",
        "osd": "profile rbd",
        "mgr": "allow rw",
    },
    "rook-node": {"mon": "profile rbd", "osd": "profile rbd", "mgr": "allow rw"},
}


def reserved(secrets: Mapping[str, str], namespace: str) -> dict[str, str]:
    """Return the parameters that name Secrets."""
    return {
        f"csi.storage.k8s.io/{purpose}-secret-{part}": text
        for purpose, secret in secrets.items()
        for part, text in (("name", secret), ("namespace", namespace))
    }


CEPH_CSI = {
    "clusterID": FSID,
    "pool": "{pool}",
    "imageFeatures": "layering",
    **reserved(
        dict.fromkeys(("provisioner", "controller-expand", "node-stage"), "csi-rbd-secret"),
        "default",
    ),
    "csi.storage.k8s.io/fstype": "ext4",
}
CEPH_CSI_EVERYTHING = {
    **CEPH_CSI,
    "dataPool": "{data_pool}",
    "imageFeatures": "layering,journaling,exclusive-lock,object-map,fast-diff",
    "mkfsOptions": "-m0 -Ediscard -i1024",
    "tryOtherMounters": "true",
    "mapOptions": "krbd:lock_on_read,queue_depth=1024;nbd:try-netlink",
    "unmapOptions": "krbd:force;nbd:force",
    "cephLogDir": "/var/log/ceph",
    "cephLogStrategy": "remove",
    "volumeNamePrefix": "foo-bar-",
    "encrypted": "false",
    "encryptionType": "block",
    "stripeUnit": "65536",
    "stripeCount": "4",
    "objectSize": "4194304",
}
_ROOK_SECRETS = {
    "provisioner": "rook-csi-rbd-provisioner",
    "controller-expand": "rook-csi-rbd-provisioner",
    "controller-publish": "rook-csi-rbd-provisioner",
    "node-stage": "rook-csi-rbd-node",
    "controller-modify": "rook-csi-rbd-provisioner",
    "node-publish": "rook-csi-rbd-node",
}
ROOK_BLOCK = {
    "clusterID": ROOK,
    "pool": "{pool}",
    "imageFormat": "2",
    "imageFeatures": "layering",
    **reserved(_ROOK_SECRETS, "rook-ceph"),
    "csi.storage.k8s.io/fstype": "ext4",
}
ROOK_OPTIONS = {
    "mapOptions": "lock_on_read,queue_depth=1024",
    "unmapOptions": "force",
    "imageFeatures": "layering,fast-diff,object-map,deep-flatten,exclusive-lock",
}


@dataclass(frozen=True)
class Bed:
    """A driver that knows the cluster by the names that the classes have."""

    controller: Driver
    node: Driver
    view: View
    names: Mapping[str, str]
    secrets: Mapping[str, Mapping[str, str]]

    def named(self, parameters: Mapping[str, str]) -> dict[str, str]:
        """Return parameters with the names of this test's pools."""
        return {name: text.format(**self.names) for name, text in parameters.items()}


@pytest.fixture(scope="module")
def data_pool() -> str:
    """Give the name of an erasure-coded pool."""
    return f"ec-{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="module")
def further_pools(data_pool: str) -> Sequence[str]:
    """Give the driver's users that pool, too."""
    return (data_pool,)


@pytest.fixture(scope="module")
def secrets(cluster: Cluster) -> Iterator[Mapping[str, Mapping[str, str]]]:
    """Give the Secrets of the users."""
    unique = uuid.uuid4().hex[:8]
    names = {user: f"{user}-{unique}" for user in USERS}
    yield {
        user: {"userID": name, "userKey": cluster.create_user(name, USERS[user]).reveal()}
        for user, name in names.items()
    }
    for name in names.values():
        cluster.ceph("auth", "rm", f"client.{name}")


@pytest.fixture(scope="module")
def bed(
    cluster: Cluster,
    temporary: Path,
    pool: str,
    data_pool: str,
    secrets: Mapping[str, Mapping[str, str]],
    admin: rados.Rados,
    program: Sequence[str],
) -> Iterator[Bed]:
    """Give controller and node with one Ceph under the clusterIDs of the classes."""
    cluster.create_pool(data_pool, erasure=True)
    cluster.rbd("namespace", "create", f"{pool}/{NAMESPACE}")
    admin.wait_for_latest_osdmap()
    with (
        tempfile.TemporaryDirectory(prefix="c", dir=temporary) as directory,
        driver.installed(
            cluster, Path(directory), pool, further_pools=(data_pool,), program=program
        ) as installation,
        admin.open_ioctx(pool) as ioctx,
    ):
        for file in (installation.config, installation.node_config):
            (entry,) = yaml.safe_load(file.read_text())["clusters"]
            clusters = [
                {**entry, "clusterID": FSID},
                {**entry, "clusterID": ROOK},
                {**entry, "clusterID": NAMESPACE_ID, "radosNamespace": NAMESPACE},
            ]
            file.write_text(yaml.safe_dump({"clusters": clusters}))
        controller, node = installation.controller().start(), installation.node("node-a").start()
        wait_until_registered(ioctx, node)
        view = View(ioctx)
        yield Bed(controller, node, view, {"pool": pool, "data_pool": data_pool}, secrets)
    cluster.delete_pool(data_pool)


CLASSES = {
    "ceph-csi": Class(CEPH_CSI, mount_options=("discard",)),
    "ceph-csi, everything": Class(CEPH_CSI_EVERYTHING, mount_options=("discard",)),
    "ceph-csi, xfs": Class(
        {**CEPH_CSI, "csi.storage.k8s.io/fstype": "xfs"}, "xfs", ("nouuid", "discard")
    ),
    "rook": Class(ROOK_BLOCK),
    "rook, options": Class({**ROOK_BLOCK, **ROOK_OPTIONS}),
    "rook, erasure-coded": Class({**ROOK_BLOCK, "dataPool": "{data_pool}"}),
}


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_as_it_is_provisions_and_mounts(bed: Bed, name: str) -> None:
    shown = CLASSES[name]
    users = ("rook-provisioner", "rook-node") if "rook" in name else ("csi-rbd", "csi-rbd")
    provisioner, node_stage = (bed.secrets[user] for user in users)
    named = dataclasses.replace(
        shown,
        parameters=bed.named(shown.parameters),
        provisioner=provisioner,
        node_stage=node_stage,
    )
    live(bed.controller, bed.node, bed.view, named, "pvc-0c1a")


def test_a_class_works_without_its_secrets_by_the_configured_users(bed: Bed) -> None:
    live(bed.controller, bed.node, bed.view, Class(bed.named(ROOK_BLOCK)), "pvc-1")


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"encrypted": "true", "encryptionKMSID": "vault"}, "would lie in Ceph unencrypted"),
        ({"topologyConstrainedPools": "[]"}, "a StorageClass for each pool"),
        ({"pool": "{data_pool}"}, "name it as `dataPool`"),
    ],
)
def test_what_cannot_be_honoured_is_refused_before_there_is_an_image(
    bed: Bed, parameters: Mapping[str, str], words: str
) -> None:
    with refused("INVALID_ARGUMENT", words):
        volume.create(bed.controller, "refused", parameters=bed.named({**ROOK_BLOCK, **parameters}))
    assert bed.view.images() == []
