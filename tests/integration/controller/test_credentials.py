"""Whose key a call uses, what a wrong one gives, and that no key is ever shown."""

import base64
import contextlib
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from e2e import driver, volume
from e2e.clusters import Cluster, controller_caps
from e2e.driver import Driver
from e2e.pool import image_id
from e2e.volume import MIB, Volume
from rbdcsi.api import csi_pb2
from rbdcsi.server import redact
from tests.integration.controller.view import View
from tests.refusal import refused

pytestmark = pytest.mark.usefixtures("nothing_left")

# Keys in form, of no user in fact; the second one of type 2, aes256k.
CANARY = base64.b64encode(b"\x01\0canarykk\x10\0canary-in-a-mine").decode()
NEWER = base64.b64encode(b"\x02\0canarykk\x20\0canary-in-a-mine-of-32-bytes-all").decode()
NODE = "node-1"


@pytest.fixture(scope="module")
def keys(cluster: Cluster, pool: str) -> Iterator[dict[str, str]]:
    """Give the keys of three users: with all rights in the pool, with none there, and read-only."""
    unique = uuid.uuid4().hex[:8]
    wanted = {
        f"good-{unique}": controller_caps(pool),
        f"elsewhere-{unique}": controller_caps("another-pool"),
        f"reader-{unique}": {**controller_caps(pool), "osd": f"profile rbd-read-only pool={pool}"},
    }
    yield {user: cluster.create_user(user, caps).reveal() for user, caps in wanted.items()}
    for user in wanted:
        cluster.ceph("auth", "del", f"client.{user}")


@pytest.fixture
def misconfigured(cluster: Cluster, temporary: Path, pool: str) -> Iterator[Driver]:
    """Give a controller whose configuration has a wrong key."""
    with (
        tempfile.TemporaryDirectory(prefix="w", dir=temporary) as directory,
        driver.installed(cluster, Path(directory), pool) as installation,
    ):
        lines = installation.config.read_text().splitlines()
        others = [line for line in lines if "keyring" not in line]
        installation.config.write_text("\n".join([*others, f"  key: {CANARY}", ""]))
        yield installation.controller().start()


def test_monitors_are_enough_where_there_is_no_ceph_conf(
    cluster: Cluster, temporary: Path, pool: str, view: View
) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="m", dir=temporary) as directory,
        driver.installed(cluster, Path(directory), pool) as installation,
    ):
        text = installation.config.read_text()
        installation.config.write_text(
            text.replace(f"confFile: {cluster.conf}", f"monitors: [{cluster.monitors}]")
        )
        controller = installation.controller().start()

        made = volume.create(controller, "by-monitors", size=16 * MIB)
        volume.delete(controller, made)
        view.wait_until_gone(image_id(made))  # its own sweeper does it, which stops with it


def _secrets(keys: dict[str, str], who: str) -> dict[str, str]:
    ((user, key),) = [(user, key) for user, key in keys.items() if user.startswith(who)]
    return {"userID": user, "userKey": key}


def test_a_wrong_key_in_the_configuration_is_named_by_its_user(
    misconfigured: Driver, keys: dict[str, str], view: View
) -> None:
    with refused("UNAUTHENTICATED", "client.controller-", "ceph auth get"):
        volume.create(misconfigured, "locked-out", size=16 * MIB)
    assert not _ready(misconfigured)

    # A Secret does not help: the configured user keeps the records and removes deleted data.
    with refused("UNAUTHENTICATED", "client.controller-"):
        secrets = _secrets(keys, "good")
        volume.create(misconfigured, "locked-out", size=16 * MIB, secrets=secrets)
    assert view.images() == []
    assert CANARY not in misconfigured.words()


def test_a_driver_whose_clusters_answer_is_ready(controller: Driver) -> None:
    assert _ready(controller)


def test_a_wrong_key_in_the_secrets_is_refused_though_the_configured_one_is_right(
    controller: Driver, keys: dict[str, str], view: View
) -> None:
    secrets = {**_secrets(keys, "good"), "userKey": CANARY}
    for _ in range(2):
        with refused("UNAUTHENTICATED", f"client.{secrets['userID']}"):
            volume.create(controller, "wrong", size=16 * MIB, secrets=secrets)
    assert view.images() == []
    secrets = _secrets(keys, "good")  # the right one is not spoilt by the wrong one before
    _delete(controller, volume.create(controller, "right", size=16 * MIB, secrets=secrets), secrets)


def test_an_unknown_user_is_refused(controller: Driver) -> None:
    with refused("UNAUTHENTICATED", "client.nobody"):
        secrets = {"userID": "client.nobody", "userKey": CANARY}
        volume.create(controller, "wrong", size=16 * MIB, secrets=secrets)


def test_a_key_of_a_newer_type_is_named_as_the_cause(controller: Driver) -> None:
    with refused("UNAUTHENTICATED", "client.newer", "of type 2 (aes256k", "Ceph 19.2.6"):
        secrets = {"userID": "newer", "userKey": NEWER}
        volume.create(controller, "newer", size=16 * MIB, secrets=secrets)


@pytest.mark.parametrize("who", ["elsewhere", "reader"])
def test_a_user_without_rights_is_refused_and_told_which_are_missing(
    controller: Driver, keys: dict[str, str], view: View, made: Volume, who: str
) -> None:
    secrets = _secrets(keys, who)
    with refused("PERMISSION_DENIED", "profile rbd"):
        volume.create(controller, "forbidden", size=16 * MIB, secrets=secrets)
    with refused("PERMISSION_DENIED"):
        _delete(controller, made, secrets)
    assert len(view.images()) == 1
    assert view.record(made).deleting is None


@pytest.mark.parametrize(
    ("secrets", "words"),
    [
        ({"userID": "admin"}, "userID and userKey go together"),
        ({"userKey": CANARY}, "userID and userKey go together"),
        ({"userID": "admin", "userKey": "short"}, "userKey"),
        ({"userID": "admin\nkeyring=/etc/shadow", "userKey": CANARY}, "userID"),
        ({"userID": "admin,key=x", "userKey": CANARY}, "userID"),
    ],
)
def test_half_a_credential_is_refused(
    controller: Driver, secrets: dict[str, str], words: str
) -> None:
    with refused("INVALID_ARGUMENT", words):
        volume.create(controller, "half", size=16 * MIB, secrets=secrets)


def test_no_key_is_ever_shown(
    installation: driver.Installation,
    keys: dict[str, str],
    known_nodes: tuple[str, str],
    view: View,
) -> None:
    assert NODE in known_nodes
    talkative = installation.controller("talkative").start()  # at log level debug
    right, wrong = _secrets(keys, "good"), {"userID": "admin", "userKey": CANARY}
    said = []
    for secrets in (right, wrong, {"userID": "admin", "userKey": f"{CANARY}x"}):
        made = Volume("", volume.mounted())
        with contextlib.suppress(grpc.RpcError):
            made = volume.create(talkative, "secret", size=16 * MIB, secrets=secrets)
        for call in (_attach, _detach, _validate, _delete):
            try:
                said.append(str(call(talkative, made, secrets)))
            except grpc.RpcError as error:
                said.append(str(error))
        if made.id:
            view.wait_until_gone(image_id(made))  # its own sweeper does it, which stops with it
    command = Path(f"/proc/{talkative.pid}/cmdline").read_bytes().decode()
    talkative.stop()
    shown = "\n".join([*said, talkative.words(), command])
    assert "DeleteVolume" in shown
    assert redact.STARS in shown
    for key in (CANARY, right["userKey"]):
        assert key not in shown


def _ready(controller: Driver) -> bool:
    return controller.identity.Probe(csi_pb2.ProbeRequest(), timeout=20).ready.value


def _attach(controller: Driver, made: Volume, secrets: dict[str, str]) -> object:
    return controller.controller.ControllerPublishVolume(
        csi_pb2.ControllerPublishVolumeRequest(
            volume_id=made.id, node_id=NODE, volume_capability=made.capability, secrets=secrets
        )
    )


def _detach(controller: Driver, made: Volume, secrets: dict[str, str]) -> object:
    return controller.controller.ControllerUnpublishVolume(
        csi_pb2.ControllerUnpublishVolumeRequest(volume_id=made.id, node_id=NODE, secrets=secrets)
    )


def _validate(controller: Driver, made: Volume, secrets: dict[str, str]) -> object:
    return controller.controller.ValidateVolumeCapabilities(
        csi_pb2.ValidateVolumeCapabilitiesRequest(
            volume_id=made.id, volume_capabilities=[made.capability], secrets=secrets
        )
    )


def _delete(controller: Driver, made: Volume, secrets: dict[str, str]) -> object:
    return controller.controller.DeleteVolume(
        csi_pb2.DeleteVolumeRequest(volume_id=made.id, secrets=secrets)
    )
