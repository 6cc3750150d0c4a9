"""deploy/examples/static.yaml: an image that was made by hand, with a filesystem, as a volume."""

import json
from pathlib import Path

import yaml

from e2e.clusters import commands
from e2e.kubernetes import chart, workload
from e2e.release import manifests
from tests.kubernetes.conftest import Rbd

EXAMPLE = manifests.ROOT / "deploy/examples/static.yaml"
IMAGE = f"{chart.POOL}/archive"


def test_an_image_made_by_hand_is_a_volume_and_is_kept(
    namespace: workload.Namespace, rbd: Rbd, tmp_path: Path
) -> None:
    kubernetes = namespace.kubernetes
    namespace.claim("other")  # its handle tells the pool's number
    namespace.wait_for_claim("other")
    place = namespace.volume("other")["spec"]["csi"]["volumeHandle"].rpartition(":")[0]
    rbd("import", str(_ext4(tmp_path)), IMAGE)
    try:
        image_id = json.loads(rbd("info", "--format", "json", IMAGE))["id"]
        volume, claim = yaml.safe_load_all(EXAMPLE.read_text())
        volume["metadata"]["name"] = claim["spec"]["volumeName"] = f"{namespace.name}-archive"
        volume["spec"]["csi"]["volumeHandle"] = f"{place}:{image_id}"
        kubernetes.apply(volume)
        try:
            namespace.apply(claim)
            namespace.start("reader", "archive")
            assert namespace.run("reader", "cat /data/file") == "written by hand"
            namespace.delete("pod", "reader")
            namespace.delete("pvc", "archive")
        finally:
            kubernetes.delete("pv", volume["metadata"]["name"])
        assert IMAGE.rpartition("/")[2] in rbd("ls", chart.POOL).split()
    finally:
        kubernetes.wait(lambda: _unwatched(rbd), f"{IMAGE} is let go")
        rbd("rm", "--no-progress", IMAGE)


def _ext4(directory: Path) -> Path:
    """Return a disk with a filesystem that holds a file."""
    tree, disk = directory / "tree", directory / "disk"
    tree.mkdir()
    (tree / "file").write_text("written by hand")
    commands.run(["mkfs.ext4", "-q", "-d", tree, disk, "64M"])
    return disk


def _unwatched(rbd: Rbd) -> bool:
    return not json.loads(rbd("status", "--format", "json", IMAGE))["watchers"]
