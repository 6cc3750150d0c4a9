"""The image: what is in it and what is not. `make test-image` runs other tests from inside it."""

import json
import re
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

import rbdcsi
from e2e import clusters
from e2e.release import image
from tests import programs

pytestmark = [pytest.mark.image, pytest.mark.timeout(1800)]

LARGEST = 350_000_000  # bytes, unpacked
CHART_PROGRAMS = {"sh", "modprobe"}  # of its container that loads kernel modules


@pytest.fixture(scope="session")
def root() -> Path:
    return image.unpacked()


def inside(root: Path, *command: str) -> str:
    done = subprocess.run(
        ["chroot", root, *command], capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout


def configuration() -> dict[str, Any]:
    """Return the image's configuration as its archive has it."""
    with tarfile.open(image.archive()) as archive:
        manifest = json.loads(archive.extractfile("manifest.json").read())  # type: ignore[union-attr]
        (entry,) = manifest
        assert entry["RepoTags"] == [image.REFERENCE]
        found = json.loads(archive.extractfile(entry["Config"]).read())  # type: ignore[union-attr]
        return dict(found["config"])


def test_it_is_small(root: Path) -> None:
    assert image.size(root) < LARGEST


def test_its_one_entry_point_is_the_driver_of_this_version(root: Path) -> None:
    config = configuration()
    assert config["Entrypoint"] == ["/usr/local/bin/rbdcsi"]
    assert config["Labels"]["org.opencontainers.image.version"] == rbdcsi.__version__
    assert f"version {rbdcsi.__version__}" in inside(root, *config["Entrypoint"], "--version")


def test_mount_does_not_drop_labels_of_selinux_in_it(root: Path) -> None:
    assert (root / "etc/selinux/config").exists(), "tests/vm/test_selinux.py shows what it is for"


def test_its_ceph_is_newer_than_the_cluster_of_the_tests(
    root: Path, cluster: clusters.Cluster
) -> None:
    ours = re.search(r"ceph version (\d+)", inside(root, "rbd-nbd", "--version"))
    theirs = re.search(r"ceph version (\d+)", cluster.ceph("version")["version"])
    assert ours
    assert theirs
    assert int(ours[1]) > int(theirs[1])


def test_every_program_that_driver_and_chart_run_is_in_it(root: Path) -> None:
    missing = [
        name
        for name in sorted(programs.of_the_driver() | CHART_PROGRAMS)
        if not inside(root, "sh", "-c", f"command -v {name} || true")
    ]
    assert missing == []


def test_a_newer_ceph_comes_from_a_source_of_ones_own(tmp_path: Path) -> None:
    source = """\
Types: deb
URIs: https://download.example.com/debian
Suites: trixie
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mQINBAAA="""
    image.write_stage("base", tmp_path, CEPH_SOURCES=source)
    assert (tmp_path / "etc/apt/sources.list.d/ceph.sources").read_text() == f"{source}\n"
    assert (tmp_path / "etc/ssl/certs/ca-certificates.crt").stat().st_size


def test_nothing_of_building_and_testing_is_in_it(root: Path) -> None:
    packages = {
        path.name.partition("-")[0] for path in root.glob("opt/rbdcsi/lib/*/site-packages/*")
    }
    assert {"grpc", "rbdcsi"} <= packages
    assert packages.isdisjoint({"pip", "pytest", "mypy", "grpc_tools", "hatchling"})
    assert not list(root.glob("usr/bin/*gcc*"))
