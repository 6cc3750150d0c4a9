"""Images of ceph-csi become volumes by `rbdcsi volumes adopt`, and can go back."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import rados
import rbd
import yaml

import rbdcsi
from e2e import snapshots, volume
from e2e.clusters import Cluster, commands
from e2e.driver import Driver
from e2e.volume import Volume
from rbdcsi.api import csi_pb2
from rbdcsi.attachments import store
from rbdcsi.model import format_mark, ids
from rbdcsi.model.image_layout import Layout
from rbdcsi.volumes import spec
from tests.integration.controller.view import View
from tests.integration.operator import ceph_csi_image
from tests.integration.operator.ceph_csi_image import CephCsiImage
from tests.integration.operator.conftest import Hold
from tests.integration.operator.shell import Shell
from tests.integration.operator.states import A
from tests.refusal import refused

pytestmark = [pytest.mark.usefixtures("nothing_left"), pytest.mark.timeout(300)]


@pytest.fixture
def image(view: View, cluster: Cluster, tmp_path: Path) -> Iterator[CephCsiImage]:
    """Give a volume of ceph-csi with ext4."""
    made = ceph_csi_image.make(view.ioctx, cluster, tmp_path)
    yield made
    _remove(made)


def _remove(made: CephCsiImage) -> None:
    """Remove the image if it is there with its record, and what ceph-csi kept of it."""
    if made.name in rbd.RBD().list(made.ioctx):
        store.Records(made.ioctx).change(made.image_id, lambda _record: None)
        commands.wait_until(lambda: _removed(made), "no client watches the image")
    made.remove_kept()


def _removed(made: CephCsiImage) -> bool:
    try:
        rbd.RBD().remove(made.ioctx, made.name)
    except rbd.ImageBusy:  # Ceph drops the watch of a client that was killed after 30 s
        return False
    return True


def _adopted(shell: Shell, made: CephCsiImage, *words: str) -> dict[str, Any]:
    """Adopt an image and return its PersistentVolume."""
    done = shell.run("volumes", "adopt", made.image, "--yes", *words)
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = yaml.safe_load(done.stdout)
    return document


def _volume(document: dict[str, Any]) -> Volume:
    """Return the volume of a PersistentVolume, as the kubelet would use it."""
    source, options = document["spec"]["csi"], document["spec"].get("mountOptions", ())
    fs_type = source.get("fsType")
    capability = volume.mounted(fs_type, flags=options) if fs_type else volume.raw()
    return Volume(source["volumeHandle"], capability)


def _used(controller: Driver, node: Driver, made: Volume, old: str, new: str) -> None:
    """Attach, stage and publish a volume, read what is in its file, and write it anew."""
    volume.attach(controller, made, A)
    volume.stage(node, made)
    target = volume.publish(node, made)
    assert (target / "file").read_text() == old
    (target / "file").write_text(new)
    volume.unpublish(node, made)
    volume.unstage(node, made)
    volume.detach(controller, made, A)


@pytest.mark.parametrize("fs_type", ["ext4", "xfs"])
def test_whole_life_of_an_adopted_volume(
    fs_type: str,
    view: View,
    controller: Driver,
    nodes: tuple[Driver, Driver],
    shell: Shell,
    cluster: Cluster,
    tmp_path: Path,
) -> None:
    image = ceph_csi_image.make(view.ioctx, cluster, tmp_path, fs_type)
    kept, image_id = image.kept(), image.image_id
    made = _volume(_adopted(shell, image))
    assert ids.parse(made.id).image_id == image_id
    (row,) = shell.json("volumes", "ls")
    assert (row["volume"], row["use"]) == (made.id, f"{fs_type} (formatted)")
    assert made.id in {each.volume.volume_id for each in _listed(controller)}
    _used(controller, nodes[0], made, "written with ceph-csi", "and by a Pod")
    _used(controller, nodes[0], made, "and by a Pod", "and again")
    assert shell.findings() == []
    assert image.kept() == kept
    volume.delete(controller, made)
    assert image.name not in rbd.RBD().list(view.ioctx)
    view.wait_until_gone(image_id)
    image.remove_kept()


def _listed(controller: Driver) -> list[Any]:
    return list(controller.controller.ListVolumes(csi_pb2.ListVolumesRequest()).entries)


def test_the_persistent_volume_has_what_is_asked_for(
    image: CephCsiImage, shell: Shell, view: View
) -> None:
    document = _adopted(
        *(shell, image, "--fs-type", "ext4", "--pv", "moved", "--claim", "shop/data"),
        *("--storage-class", "rbd", "--reclaim-policy", "Delete"),
        *("--access-mode", "ReadWriteOncePod", "--node-stage-secret", "shop/ceph-user"),
        *("--parameter", "mounter=rbd-nbd", "--parameter", "mapOptions=nbd:try-netlink"),
    )
    assert document == {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": "moved",
            "annotations": {"pv.kubernetes.io/provisioned-by": rbdcsi.DRIVER_NAME},
        },
        "spec": {
            "storageClassName": "rbd",
            "persistentVolumeReclaimPolicy": "Delete",
            "accessModes": ["ReadWriteOncePod"],
            "volumeMode": "Filesystem",
            "capacity": {"storage": "64Mi"},
            "csi": {
                "driver": "rbd.rbdcsi.io",
                "volumeHandle": f"v1:local:{view.ioctx.get_pool_id()}::{image.image_id}",
                "fsType": "ext4",
                "nodeStageSecretRef": {"name": "ceph-user", "namespace": "shop"},
            },
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": "shop",
                "name": "data",
            },
        },
    }
    metadata = view.metadata(_volume(document))
    kept = spec.read(metadata, image.name)
    assert kept
    assert (kept.node.mapper, kept.node.map_options) == ("nbd", {"nbd": "try-netlink"})
    assert (metadata[spec.PV], metadata[spec.PVC], metadata[spec.PVC_NAMESPACE]) == (
        "moved",
        "data",
        "shop",
    )
    mark = format_mark.read_mark(metadata[format_mark.KEY], image.name)
    assert mark == format_mark.Mark(format_mark.Phase.FORMATTED, "ext4")
    assert mark.generation == 0


def test_an_access_mode_that_never_attaches_is_refused_before_anything_is_written(
    image: CephCsiImage, shell: Shell
) -> None:
    before = image.kept(), _metadata(image)
    modes = ("--access-mode", "ReadWriteOnce", "--access-mode", "ReadWriteMany")
    done = shell.run("volumes", "adopt", image.image, "--yes", *modes)
    assert (done.returncode, done.stdout) == (1, "")
    assert "--access-mode ReadWriteMany: a filesystem takes one node at a time" in done.stderr
    assert (image.kept(), _metadata(image)) == before


def test_it_asks_first_and_says_what_to_do_next(image: CephCsiImage, shell: Shell) -> None:
    words = ("volumes", "adopt", image.image)
    before = image.kept(), _metadata(image)
    for answer, text in (("", "repeat it with --yes"), ("n", "Aborted")):
        done = shell.run(*words, answer=answer)
        assert (done.returncode, done.stdout) == (1, "")
        assert text in done.stderr
    assert (image.kept(), _metadata(image)) == before
    done = shell.run(*words, answer="y")
    assert done.returncode == 0
    assert f"set PersistentVolume {image.volume_name} to Retain" in done.stderr
    assert f"volumeName: {image.name}" in done.stderr


def _metadata(image: CephCsiImage) -> dict[str, str]:
    with rbd.Image(image.ioctx, image.name, read_only=True) as opened:
        return dict(opened.metadata_list())


def test_a_repeat_prints_the_same_and_another_use_is_refused(
    image: CephCsiImage, shell: Shell, controller: Driver, nodes: tuple[Driver, Driver]
) -> None:
    document = _adopted(shell, image)
    made, metadata = _volume(document), _metadata(image)
    volume.attach(controller, made, A)
    volume.stage(nodes[0], made)
    done = shell.run("volumes", "adopt", image.image)
    assert (done.returncode, yaml.safe_load(done.stdout)) == (0, document)
    volume.unstage(nodes[0], made)
    volume.detach(controller, made, A)
    for words in (["--block"], ["--parameter", "mounter=nbd"]):
        done = shell.run("volumes", "adopt", image.image, *words, "--yes")
        assert (done.returncode, "was adopted before, but" in done.stderr) == (1, True)
    after = _metadata(image)
    assert {**after, format_mark.KEY: ""} == {**metadata, format_mark.KEY: ""}


@pytest.mark.parametrize("step", ["adopt.location", "adopt.metadata"])
def test_a_repeat_finishes_an_adoption_that_was_killed(
    image: CephCsiImage, shell: Shell, step: str
) -> None:
    argv = [*shell.program, "volumes", "adopt", image.image, "--yes", "--config", str(shell.config)]
    environment = {**os.environ, "RBDCSI_TEST_KILL_AFTER": step}
    killed = subprocess.run(argv, env=environment, capture_output=True, check=False)
    assert (killed.returncode, killed.stdout) == (-9, b"")
    assert (spec.KEY in _metadata(image)) == (step == "adopt.metadata")
    assert _adopted(shell, image)["spec"]["csi"]["fsType"] == "ext4"
    assert shell.findings() == []


def test_a_raw_block_volume_keeps_its_bytes_and_is_never_mounted(
    view: View,
    controller: Driver,
    nodes: tuple[Driver, Driver],
    shell: Shell,
    cluster: Cluster,
    tmp_path: Path,
) -> None:
    image = ceph_csi_image.make(view.ioctx, cluster, tmp_path, "")
    with rbd.Image(view.ioctx, image.name) as opened:
        opened.write(b"a database's own", 0)
    done = shell.run("volumes", "adopt", image.image, "--yes")
    assert (done.returncode, "holds unknown data" in done.stderr) == (1, True)
    document = _adopted(shell, image, "--block")
    assert document["spec"]["volumeMode"] == "Block"
    made = _volume(document)
    volume.attach(controller, made, A)
    volume.stage(nodes[0], made)
    with volume.publish(nodes[0], made).open("rb") as device:
        assert device.read(16) == b"a database's own"
    volume.unpublish(nodes[0], made)
    volume.unstage(nodes[0], made)
    volume.detach(controller, made, A)
    mounted = Volume(made.id, volume.mounted())
    volume.attach(controller, mounted, A)
    with refused("FAILED_PRECONDITION", "raw block use only"):
        volume.stage(nodes[0], mounted)
    volume.detach(controller, mounted, A)
    volume.delete(controller, made)
    image.remove_kept()


def test_an_adopted_volume_whose_filesystem_is_gone_is_not_formatted(
    image: CephCsiImage, controller: Driver, nodes: tuple[Driver, Driver], shell: Shell
) -> None:
    made = _volume(_adopted(shell, image))
    with rbd.Image(image.ioctx, image.name) as opened:
        opened.discard(0, opened.size())
    volume.attach(controller, made, A)
    with refused("FAILED_PRECONDITION", "was formatted as ext4, but reads as blank"):
        volume.stage(nodes[0], made)
    volume.detach(controller, made, A)


def test_without_adoption_it_is_a_static_volume(
    image: CephCsiImage, controller: Driver, nodes: tuple[Driver, Driver], view: View
) -> None:
    kept = image.kept()
    handle = f"v1:local:{view.ioctx.get_pool_id()}::{image.image_id}"
    made = Volume(handle, volume.mounted())
    _used(controller, nodes[0], made, "written with ceph-csi", "by a static volume")
    with refused("FAILED_PRECONDITION", "no volume of this driver"):
        volume.delete(controller, made)
    assert image.kept() == kept


def test_the_way_back(
    image: CephCsiImage,
    controller: Driver,
    nodes: tuple[Driver, Driver],
    shell: Shell,
    tmp_path: Path,
) -> None:
    kept, before = image.kept(), _metadata(image)
    made = _volume(_adopted(shell, image))
    _used(controller, nodes[0], made, "written with ceph-csi", "by this driver")
    for key in _keys_of_the_guide():
        if key in _metadata(image):
            image.cluster.rbd("image-meta", "remove", image.image, key)
    assert (image.kept(), _metadata(image)) == (kept, before)
    assert shell.json("volumes", "ls") == []
    assert shell.findings() == []
    with ceph_csi_image.read(image, tmp_path) as mounted:
        assert (mounted / "file").read_text() == "by this driver"
    with refused("FAILED_PRECONDITION", "no volume of this driver"):
        volume.delete(controller, made)
    again = _volume(_adopted(shell, image))
    _used(controller, nodes[0], again, "by this driver", "and back again")


def _keys_of_the_guide() -> list[str]:
    """Return the metadata that the guide removes on the way back."""
    guide = Path(__file__).parents[3] / "docs/how-to/from-ceph-csi.md"
    lines = [line for line in guide.read_text().splitlines() if "image-meta remove" in line]
    keys = [line.split()[-1] for line in lines]
    assert {spec.KEY, format_mark.KEY} <= set(keys)
    return keys


def test_an_image_in_use_is_refused_with_its_client(
    image: CephCsiImage, shell: Shell, hold: Hold, view: View
) -> None:
    made = Volume(f"v1:local:{view.ioctx.get_pool_id()}::{image.image_id}", volume.mounted())
    before = _metadata(image)
    with hold(made) as address:
        done = shell.run("volumes", "adopt", image.image, "--yes")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"client {address} has it open" in done.stderr
    assert _metadata(image) == before


def _encrypt_block(image: CephCsiImage) -> None:
    image.set_metadata("rbd.csi.ceph.com/encrypted", "encrypted")


def _encrypt_files(image: CephCsiImage) -> None:
    image.set(image.object, "csi.volume.encryptKMS", "vault")


def _journal(image: CephCsiImage) -> None:
    image.cluster.rbd("feature", "enable", image.image, "exclusive-lock", "journaling")


def _blank(image: CephCsiImage) -> None:
    with rbd.Image(image.ioctx, image.name) as opened:
        opened.discard(0, opened.size())


def _luks(image: CephCsiImage) -> None:
    with rbd.Image(image.ioctx, image.name) as opened:
        opened.discard(0, opened.size())
        opened.write(b"LUKS\xba\xbe\x00\x01", 0)


def _raw_mark(image: CephCsiImage) -> None:
    mark = format_mark.Mark(format_mark.Phase.RAW, "ext4")
    image.set_metadata(format_mark.KEY, format_mark.MARK.encode(mark))


def _nothing(_image: CephCsiImage) -> None:
    pass


@pytest.mark.parametrize(
    ("change", "words", "text"),
    [
        (_encrypt_block, [], "was encrypted by ceph-csi"),
        (_encrypt_block, ["--block"], "was encrypted by ceph-csi"),
        (_encrypt_files, [], "was encrypted by ceph-csi"),
        (_luks, [], "holds crypto_LUKS, expected is one of ext4, xfs, btrfs"),
        (_blank, ["--fs-type", "ext4"], "holds no filesystem"),
        (_nothing, ["--fs-type", "xfs"], "holds ext4, expected is xfs"),
        (_raw_mark, [], "says that this driver used it before (raw)"),
        (_journal, [], "has the feature journaling, which krbd lacks"),
        (_nothing, ["--parameter", "pool=x"], "write NAME=VALUE"),
        (_nothing, ["--block", "--fs-type", "ext4"], "exclude each other"),
        (_nothing, ["--pv", "Not_a_name"], "is no name that Kubernetes takes"),
        (_nothing, ["--claim", "data"], "--claim: 'data' must be NAMESPACE/NAME"),
    ],
)
def test_an_image_that_cannot_be_adopted_is_refused_and_left_as_it_is(
    image: CephCsiImage,
    shell: Shell,
    change: Callable[[CephCsiImage], None],
    words: list[str],
    text: str,
) -> None:
    change(image)
    before = image.kept(), _metadata(image)
    done = shell.run("volumes", "adopt", image.image, "--yes", *words)
    assert (done.returncode, done.stdout) == (1, "")
    assert text in done.stderr
    assert "Traceback" not in done.stderr
    assert (image.kept(), _metadata(image)) == before


def test_an_image_in_the_trash_is_refused(image: CephCsiImage, shell: Shell) -> None:
    image_id = image.image_id
    rbd.RBD().trash_move(image.ioctx, image.name, 0)
    done = shell.run("volumes", "adopt", image.image, "--yes")
    assert (done.returncode, f"--image-id {image_id}" in done.stderr) == (1, True)
    rbd.RBD().trash_restore(image.ioctx, image_id, image.name)
    done = shell.run("volumes", "adopt", f"{image.image}-not", "--yes")
    assert (done.returncode, "there is no image" in done.stderr) == (1, True)


def test_an_image_that_is_migrated_is_refused(image: CephCsiImage, shell: Shell) -> None:
    image.cluster.rbd("migration", "prepare", image.image, image.image)
    try:
        done = shell.run("volumes", "adopt", image.image, "--yes")
        assert (done.returncode, "is being migrated" in done.stderr) == (1, True)
    finally:
        image.cluster.rbd("migration", "abort", image.image)


def test_the_secondary_of_a_mirrored_image_is_refused(image: CephCsiImage, shell: Shell) -> None:
    pool, rbd_tool = image.ioctx.get_pool_name(), image.cluster.rbd
    rbd_tool("mirror", "pool", "enable", pool, "image")
    rbd_tool("mirror", "image", "enable", image.image, "snapshot")
    try:
        rbd_tool("mirror", "image", "demote", image.image)
        done = shell.run("volumes", "adopt", image.image, "--yes")
        assert (done.returncode, "is the secondary copy" in done.stderr) == (1, True)
    finally:
        rbd_tool("mirror", "image", "disable", "--force", image.image)
        rbd_tool("mirror", "pool", "disable", pool)


def test_a_volume_of_the_driver_is_not_adopted(controller: Driver, shell: Shell) -> None:
    made = volume.create(controller, "own", size=16 * volume.MIB)
    done = shell.run("volumes", "adopt", "csi-own", "--yes", "--block")
    assert (done.returncode, "is the volume 'own' of this driver already" in done.stderr) == (
        1,
        True,
    )
    volume.delete(controller, made)


def test_an_image_that_is_attached_as_an_unmanaged_one_is_refused(
    image: CephCsiImage, controller: Driver, nodes: tuple[Driver, Driver], shell: Shell, view: View
) -> None:
    assert nodes
    made = Volume(f"v1:local:{view.ioctx.get_pool_id()}::{image.image_id}", volume.mounted())
    volume.attach(controller, made, A)
    done = shell.run("volumes", "adopt", image.image, "--yes")
    assert (done.returncode, f"attached to node {A}" in done.stderr) == (1, True)
    volume.detach(controller, made, A)


def test_volumes_of_ceph_csi_are_no_findings_beside_those_of_the_driver(
    controller: Driver, shell: Shell, view: View, cluster: Cluster, tmp_path: Path, hold: Hold
) -> None:
    own = volume.create(controller, "beside", size=16 * volume.MIB)
    image = ceph_csi_image.make(view.ioctx, cluster, tmp_path, "")  # empty, as a half-made image
    assert shell.findings() == []
    with hold(Volume(f"v1:local:0::{image.image_id}", volume.raw())):
        assert shell.findings() == []
    (row,) = shell.json("volumes", "ls")
    assert row["volume"] == own.id
    volume.delete(controller, own)
    _remove(image)


def test_an_image_made_by_hand_is_adopted_with_its_layout_and_notes(
    controller: Driver, shell: Shell, view: View, cluster: Cluster, tmp_path: Path
) -> None:
    base = ceph_csi_image.make(view.ioctx, cluster, tmp_path)
    pool = view.ioctx.get_pool_name()
    cluster.rbd("snap", "create", f"{base.image}@before")
    cluster.rbd("snap", "protect", f"{base.image}@before")
    cluster.rbd("clone", f"{base.image}@before", f"{pool}/archive", "--image-feature", "layering")
    done = shell.run("volumes", "adopt", f"{pool}/archive", "--yes")
    assert done.returncode == 0, done.stderr
    assert f"is a clone of {base.image}@before, which must stay" in done.stderr
    assert "rbd flatten" not in done.stderr
    made = _volume(yaml.safe_load(done.stdout))
    kept = spec.read(view.metadata(made), "archive")
    assert kept
    assert (kept.name, kept.layout) == ("archive", Layout(("layering",), 4 << 20))
    volume.delete(controller, made)
    view.wait_until_gone(ids.parse(made.id).image_id)
    cluster.rbd("snap", "unprotect", f"{base.image}@before")
    cluster.rbd("snap", "purge", base.image)
    _remove(base)


def test_a_snapshot_of_ceph_csi_is_restored_also_after_its_volume_was_adopted_and_deleted(
    image: CephCsiImage,
    controller: Driver,
    nodes: tuple[Driver, Driver],
    shell: Shell,
    view: View,
) -> None:
    size = ceph_csi_image.SIZES["ext4"]
    with ceph_csi_image.with_snapshot(image) as snapshot:
        done = shell.run("volumes", "adopt", image.image, "--yes")
        assert "the image has snapshots" in done.stderr
        adopted = _volume(yaml.safe_load(done.stdout))
        for name in ("before", "after"):
            made = volume.create(controller, name, size=size, source=snapshot)
            _used(controller, nodes[0], made, "written with ceph-csi", f"restored {name}")
            volume.delete(controller, made)
            view.wait_until_gone(ids.parse(made.id).image_id)
            volume.delete(controller, adopted)
        assert view.objects_of(ids.parse(adopted.id).image_id)
        with refused("FAILED_PRECONDITION", "was not taken by this driver and is not deleted"):
            snapshots.delete(controller, snapshot)
    view.wait_until_gone(ids.parse(adopted.id).image_id)


def test_an_image_in_a_namespace_is_adopted_and_its_location_becomes_known(
    controller: Driver, shell: Shell, view: View, admin: rados.Rados
) -> None:
    pool = view.ioctx.get_pool_name()
    rbd.RBD().namespace_create(view.ioctx, "apart")
    with admin.open_ioctx(pool) as ioctx:
        ioctx.set_namespace("apart")
        rbd.RBD().create(ioctx, "archive", 16 << 20, old_format=False)
        done = shell.run("volumes", "adopt", f"{pool}/apart/archive", "--block", "--yes")
        assert done.returncode == 0, done.stderr
        made = _volume(yaml.safe_load(done.stdout))
        assert f":{view.ioctx.get_pool_id()}:apart:" in made.id
        assert shell.findings() == []
        assert made.id in {each.volume.volume_id for each in _listed(controller)}
        volume.delete(controller, made)
        View(ioctx).wait_until_gone(ids.parse(made.id).image_id)
        for name in [each.key for each in ioctx.list_objects()]:
            ioctx.remove_object(name)
    rbd.RBD().namespace_remove(view.ioctx, "apart")
