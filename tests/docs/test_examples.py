"""YAML that the documents show is accepted by what reads it."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.release import manifests
from rbdcsi import DRIVER_NAME, errors
from rbdcsi.model import ids
from tests.deploy.renderings import class_that_the_driver_takes
from tests.docs.documents import ROOT, Block, blocks
from tools.reference import sources

pytestmark = pytest.mark.timeout(900)  # builds helm when the cache is cold

YAML = blocks("yaml")
VALUES = [block for block in YAML if block.text.startswith("# values.yaml\n")]
CONFIGURATIONS = [block for block in YAML if block.text.startswith("clusters:\n")]
OBJECTS = [block for block in YAML if block.text.startswith("apiVersion:")]
SCRAPES = [block for block in YAML if block.text.startswith("scrape_configs:\n")]
IMAGES = [block for block in YAML if block.text.startswith("images:\n")]
KEY = "AQBhYmNkAAAAABAAYWJjZGVmZ2hpamtsbW5vcA=="
# By the value that makes them.
CLASSES = {
    "storageClasses": "StorageClass",
    "volumeSnapshotClasses": "VolumeSnapshotClass",
    "volumeGroupSnapshotClasses": "VolumeGroupSnapshotClass",
}


CHECKED = VALUES + CONFIGURATIONS + OBJECTS + SCRAPES + IMAGES


def objects(block: Block) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(block.text))


def test_every_block_of_yaml_is_checked_below() -> None:
    assert [str(block) for block in YAML if block not in CHECKED] == []


@pytest.mark.parametrize("block", VALUES, ids=str)
def test_chart_takes_the_values(block: Block, tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    file.write_text(block.text)
    cluster = () if "clusters:" in block.text else ("--set", "existingSecret=rbdcsi-config")
    snapshots = ("--api-versions", "snapshot.storage.k8s.io/v1")
    text = manifests.template("--values", str(file), *cluster, *snapshots)
    kinds = [class_that_the_driver_takes(each) for each in filter(None, yaml.safe_load_all(text))]
    for key, kind in CLASSES.items():
        assert (f"{key}:" in block.text) is (kind in kinds)


@pytest.mark.parametrize("block", CONFIGURATIONS, ids=str)
def test_driver_takes_the_configuration(block: Block, tmp_path: Path) -> None:
    key, file = tmp_path / "key", tmp_path / "config.yaml"
    key.write_text(KEY)
    key.chmod(0o600)
    file.write_text(block.text.replace("/etc/rbdcsi/key", str(key)))
    assert sources.CONFIGURATION.load(file).clusters[0].credentials().user == "rbdcsi"


@pytest.mark.parametrize("block", OBJECTS, ids=str)
def test_objects_are_complete(block: Block) -> None:
    for each in objects(block):
        assert each["metadata"]["name"]
        class_that_the_driver_takes(each)
        if each["kind"] == "VolumeSnapshotContent":
            assert each["spec"]["driver"] == DRIVER_NAME
            ids.parse_snapshot(each["spec"]["source"]["snapshotHandle"])


def test_classes_of_every_kind_are_shown() -> None:
    kinds = {class_that_the_driver_takes(each) for block in OBJECTS for each in objects(block)}
    assert set(CLASSES.values()) <= kinds


@pytest.mark.parametrize("kustomization", ["base", "overlays/microceph", "overlays/development"])
def test_plain_manifests_take_another_image(kustomization: str, tmp_path: Path) -> None:
    (block,) = IMAGES
    copy = shutil.copytree(ROOT / "deploy/kubernetes", tmp_path / "kubernetes")
    with (copy / "base/kustomization.yaml").open("a") as file:
        file.write(block.text)
    (image,) = yaml.safe_load(block.text)["images"]
    text = manifests.kustomized(copy / kustomization)
    assert image["name"] not in text
    assert text.count(f"image: {image['newName']}:{image['newTag']}") == 3  # kernel-modules, too


def test_a_prometheus_of_ones_own_gives_series_the_labels_of_the_charts_monitor() -> None:
    (block,) = SCRAPES
    (job,) = yaml.safe_load(block.text)["scrape_configs"]
    own = {
        each["target_label"]: each["source_labels"]
        for each in job["relabel_configs"]
        if "target_label" in each
    }
    values = "existingSecret=rbdcsi-config,monitoring.podMonitor.enabled=true"
    rendered = yaml.safe_load_all(manifests.template("--set", values))
    (monitor,) = (each for each in rendered if each and each["kind"] == "PodMonitor")
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    of_chart = {
        each["targetLabel"]: each["sourceLabels"]
        for each in endpoint["relabelings"]
        if "sourceLabels" in each
    }
    assert own == {**of_chart, "pod": ["__meta_kubernetes_pod_name"]}  # the operator adds that one
    assert job["honor_labels"] == endpoint["honorLabels"]
    assert "rbdcsi" in job["job_name"]


def test_static_volume_of_the_guide_is_the_example() -> None:
    guide = next(block for block in OBJECTS if block.page.stem == "static-volumes")
    example = (ROOT / "deploy/examples/static.yaml").read_text()
    assert objects(guide) == list(yaml.safe_load_all(example))


def test_mounters_and_access_of_the_move_from_ceph_csi_are_accepted() -> None:
    page = (ROOT / "docs/how-to/from-ceph-csi.md").read_text()
    kept = re.search(r"^\| (`pool`.*?) \| the same", page, re.MULTILINE)
    assert kept
    assert set(re.findall(r"`([^`]+)`", kept[1])) <= set(sources.PARAMETERS.KNOWN)
    accepted = re.search(r"^\| (`imageFormat.*?) \| accepted", page, re.MULTILINE)
    assert accepted
    for text in re.findall(r"`([^`]+)`", accepted[1]):
        name, _, value = text.replace('"', "").partition(": ")
        assert sources.PARAMETERS.parse({name: value}) == sources.PARAMETERS.Parameters()
    for text in re.findall(r"^\| (.*?) \| refused", page, re.MULTILINE):
        for name in re.findall(r"`(\w+)", text):
            with pytest.raises(errors.InvalidRequest):
                sources.PARAMETERS.parse({name: "true"})
