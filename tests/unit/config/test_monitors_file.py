"""Files with monitors that Rook and ceph-csi keep up to date."""

import json
from pathlib import Path

import pytest

from rbdcsi import errors
from rbdcsi.config import clusters_file, monitors_file

KEY = "AQAAAAAAAAAAABAAAQIDBAUGBwgJCgsMDQ4PEA=="
# As Rook 1.17 writes it, with the sections of other drivers.
ROOK = json.dumps(
    [
        {
            "clusterID": "rook-ceph",
            "monitors": ["10.96.0.11:6789", "10.96.0.12:6789"],
            "cephFS": {"netNamespaceFilePath": "", "subvolumeGroup": ""},
            "rbd": {"netNamespaceFilePath": "", "radosNamespace": "", "mirrorDaemonCount": 0},
            "nfs": {"netNamespaceFilePath": ""},
            "namespace": "rook-ceph",
        },
        {"clusterID": "other", "monitors": ["[v2:10.96.0.21:3300,v1:10.96.0.21:6789]"]},
    ]
)


@pytest.mark.parametrize(
    ("text", "monitors"),
    [
        (
            "a=10.96.0.11:6789,b=10.96.0.12:6789,c=[fd00::1]:6789",
            ("10.96.0.11:6789", "10.96.0.12:6789", "[fd00::1]:6789"),
        ),
        ("mon-a=rook-ceph-mon-a:3300\n", ("rook-ceph-mon-a:3300",)),
        (
            "ceph01.example.com=10.0.0.1:6789,mon_1=10.0.0.2:6789",
            ("10.0.0.1:6789", "10.0.0.2:6789"),
        ),
        (
            "a=10.0.0.1\nb=10.0.0.2 c.d=mon-c;e=[v2:10.0.0.5:3300,v1:10.0.0.5:6789]\n",
            ("10.0.0.1", "10.0.0.2", "mon-c", "[v2:10.0.0.5:3300,v1:10.0.0.5:6789]"),
        ),
        ("10.0.0.1, mon-b:6789\n", ("10.0.0.1", "mon-b:6789")),
        (
            "[v2:10.0.0.1:3300,v1:10.0.0.1:6789],10.0.0.2",
            ("[v2:10.0.0.1:3300,v1:10.0.0.1:6789]", "10.0.0.2"),
        ),
        (ROOK, ("10.96.0.11:6789", "10.96.0.12:6789")),
    ],
)
def test_each_form_is_read(text: str, monitors: tuple[str, ...], tmp_path: Path) -> None:
    file = tmp_path / "monitors"
    file.write_text(text)
    assert monitors_file.read(file, "rook-ceph") == monitors


def test_the_cluster_is_found_by_its_id(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(ROOK)
    assert monitors_file.read(file, "other") == ("[v2:10.96.0.21:3300,v1:10.96.0.21:6789]",)
    with pytest.raises(ValueError, match="lists rook-ceph, other, not 'main'"):
        monitors_file.read(file, "main")


@pytest.mark.parametrize(
    "text", ["", "a=,b=", "a.b=", "[]", "[1]", "{}", '[{"clusterID": "rook-ceph"}]']
)
def test_a_file_without_monitors_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "monitors"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"monitor|must be a list|lists no cluster"):
        monitors_file.read(file, "rook-ceph")


def test_a_new_monitor_is_seen_without_a_restart(tmp_path: Path) -> None:
    file, config = tmp_path / "monitors", tmp_path / "config.yaml"
    facts = {"clusterID": "rook-ceph", "monitorsFile": str(file), "pool": "rbd", "user": "u"}
    config.write_text(json.dumps({"clusters": [{**facts, "key": KEY}]}))
    with pytest.raises(errors.ConfigError, match=r"clusters\[0\].monitorsFile: .* cannot be read"):
        clusters_file.load(config)
    file.write_text("a=10.96.0.11:6789")
    (cluster,) = clusters_file.load(config).clusters
    assert cluster.mon_host() == "10.96.0.11:6789"
    file.write_text("b=10.96.0.12:6789,c=10.96.0.13:6789")
    assert cluster.mon_host() == "10.96.0.12:6789,10.96.0.13:6789"
    file.write_text("")
    with pytest.raises(errors.Unavailable, match="cluster rook-ceph: must name at least one"):
        cluster.mon_host()
