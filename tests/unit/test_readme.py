"""What the README shows is true: its examples are read by the code that reads a user's."""

import re
from pathlib import Path
from typing import Any

import yaml

from rbdcsi import DRIVER_NAME
from rbdcsi.config import clusters
from rbdcsi.model import storage_class

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
CLUSTERS, STORAGE_CLASS = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)


def test_the_configuration_is_accepted(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("AQBhYmNkAAAAABAAYWJjZGVmZ2hpamtsbW5vcA==")
    key.chmod(0o600)
    file = tmp_path / "config.yaml"
    file.write_text(CLUSTERS.replace("/etc/rbdcsi/key", str(key)))
    assert [cluster.cluster_id for cluster in clusters.load(file).clusters] == ["main"]


def test_the_storage_class_is_accepted() -> None:
    found: dict[str, Any] = yaml.safe_load(STORAGE_CLASS)
    assert found["provisioner"] == DRIVER_NAME
    assert storage_class.parse(found["parameters"]).pool == "kubernetes"


def test_the_table_has_every_parameter_of_a_storage_class() -> None:
    table = README[README.index("| parameter |") :]
    rows = re.findall(r"^\| (`[^|]+`) \|", table, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`([^`]+)`", row)}
    of_the_provisioner = {
        storage_class.PVC_NAME,
        storage_class.PVC_NAMESPACE,
        storage_class.PV_NAME,
    }
    assert named == set(storage_class.KNOWN) - of_the_provisioner


def test_the_verbs_are_those_of_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for text in (README, (ROOT / "CONTRIBUTING.md").read_text()):
        assert set(re.findall(r"make ([a-z0-9-]+)", text)) <= targets
