"""Paths from a request: below the kubelet's directory, through no link, or refused untouched."""

from pathlib import Path

import pytest

from e2e import volume
from e2e.driver import Driver
from tests.integration.node import lab as labs
from tests.integration.node.lab import Lab
from tests.refusal import refused

pytestmark = pytest.mark.usefixtures("nothing_left")


def _outside(node: Driver, name: str) -> list[str]:
    kubelet = node.kubelet
    return [
        f"/tmp/{name}",
        f"{kubelet}",
        f"{kubelet}/../{name}",
        f"{kubelet}-not/{name}",
        f"relative/{name}",
        f"{kubelet}/pods/../../{name}",
        "/",
        "/etc",
    ]


def test_target_outside_is_refused_and_nothing_is_made(lab: Lab) -> None:
    node = lab.nodes[0]
    with lab.volume("paths-target") as made:
        volume.stage(node, made)
        before = labs.held_at(node)
        for path in _outside(node, "target"):
            with refused("INVALID_ARGUMENT", path, "must be"):
                labs.publish_at(node, made, path)
            with refused("INVALID_ARGUMENT", path, "must be"):
                labs.unpublish_at(node, made, Path(path))
        assert labs.held_at(node) == before
        assert not Path("/tmp/target").exists()


def test_staging_path_outside_is_refused_and_nothing_is_mapped(lab: Lab) -> None:
    node = lab.nodes[0]
    with lab.volume("paths-staging") as made:
        for path in _outside(node, "staging"):
            with refused("INVALID_ARGUMENT", path, "must be"):
                labs.stage_with(node, made, staging=path)
        assert labs.held_at(node) == []
        assert lab.watchers(made) == set()


@pytest.mark.parametrize("at", ["itself", "above"])
def test_link_leads_nowhere(lab: Lab, tmp_path: Path, at: str) -> None:
    node = lab.nodes[0]
    with lab.volume("paths-link") as made:
        volume.stage(node, made)
        before = labs.held_at(node)
        link = node.kubelet / "link"
        link.symlink_to(tmp_path)
        path = link if at == "itself" else link / "target"
        try:
            with refused("INVALID_ARGUMENT", str(path), "link"):
                labs.publish_at(node, made, path)
            code = "FAILED_PRECONDITION" if at == "itself" else "INVALID_ARGUMENT"
            with refused(code, str(path)):
                labs.publish_at(node, made, made.target(node), staging=path)
            with refused("INVALID_ARGUMENT", str(path), "link"):
                labs.unpublish_at(node, made, path)
        finally:
            link.unlink()
        assert labs.held_at(node) == before
        assert list(tmp_path.iterdir()) == []


def test_path_with_odd_signs_is_a_path_like_any_other(lab: Lab) -> None:
    node = lab.nodes[0]
    with lab.volume("paths-odd") as made:
        volume.stage(node, made)
        target = node.kubelet / "pods" / "pod" / f"a b\\040,ü'\"-o ro\n{made.target(node).name}"
        target.parent.mkdir(exist_ok=True)
        labs.publish_at(node, made, target)
        (target / "file").write_text("there")
        assert (made.staging(node) / "file").read_text() == "there"
        labs.unpublish_at(node, made, target)
        assert not target.exists()
