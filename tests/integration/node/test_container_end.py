"""The node plugin's container ends with all that is in its control group; volumes must not."""

import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import rados

from e2e import driver, volume
from e2e.clusters import commands
from e2e.driver import Driver
from rbdcsi.host.kernel import cgroup
from tests.integration.node import lab as labs
from tests.integration.node.conftest import wait_until_registered
from tests.integration.node.freezes import freeze, is_frozen
from tests.integration.node.lab import Lab
from tests.integration.node.writer import writing

pytestmark = pytest.mark.usefixtures("nothing_left")

HIERARCHIES = (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup"))  # hybrid hosts, pure ones


@pytest.fixture
def groups() -> Iterator[tuple[Path, Path]]:
    """Give the container's control group, which exists, and the daemons', which does not yet."""
    root = next(path for path in HIERARCHIES if (path / "cgroup.procs").exists())
    name = f"rbdcsi-test-{uuid.uuid4().hex[:8]}"
    container, daemons = root / f"{name}-container", root / f"{name}-daemons"
    container.mkdir()
    yield container, daemons
    for group in (container, daemons):
        group.rmdir()


@pytest.fixture
def contained(
    installation: driver.Installation, ioctx: rados.Ioctx, groups: tuple[Path, Path]
) -> Iterator[Driver]:
    """Give a node plugin in its container's group."""
    container, daemons = groups
    name = f"node-{uuid.uuid4().hex[:4]}"
    node = installation.node(name, "--daemon-cgroup", str(daemons)).start()
    (container / "cgroup.procs").write_text(str(node.pid))
    wait_until_registered(ioctx, node)
    yield node
    node.stop()


def test_mounted_volume_outlives_the_container_and_the_next_one_takes_it_over(
    lab: Lab, contained: Driver, groups: tuple[Path, Path]
) -> None:
    container, daemons = groups
    with lab.volume("outlives", at=contained) as made:
        volume.stage(contained, made)
        target = volume.publish(contained, made)
        assert _members(daemons) == set(labs.daemons(contained).values())
        (target / "before").write_text("before")

        _end(container)
        contained.wait_for_death()
        (target / "between").write_text("between")
        commands.sync(target)

        contained.start()
        assert (target / "before").read_text() == "before"
        volume.unpublish(contained, made)
        volume.unstage(contained, made)
        assert labs.held_at(contained) == []

        volume.stage(contained, made)
        target = volume.publish(contained, made)
        assert (target / "between").read_text() == "between"


def test_group_that_is_none_is_refused_with_the_reason(tmp_path: Path) -> None:
    reason = cgroup.unusable(tmp_path / "group")
    assert reason is not None
    assert f"{tmp_path} is no control group" in reason
    assert not (tmp_path / "group").exists()


def test_a_frozen_volume_is_thawed_although_no_container_follows(
    lab: Lab, contained: Driver, groups: tuple[Path, Path], tmp_path: Path
) -> None:
    container, _daemons = groups
    with lab.volume("frozen-container", at=contained) as made:
        volume.stage(contained, made)
        with writing(volume.publish(contained, made) / "records", tmp_path) as writer:
            freeze(lab, contained, made)
            assert is_frozen(made.target(contained))
            _end(container)
            contained.wait_for_death()
            writer.require_goes_on()
        contained.stop()
        contained.start()
        volume.until_let_through(lambda: volume.unpublish(contained, made))


def _members(group: Path) -> set[int]:
    return {int(pid) for pid in (group / "cgroup.procs").read_text().split()}


def _end(group: Path) -> None:
    """Kill all that is in the group, as a container runtime does."""
    for pid in _members(group):
        os.kill(pid, signal.SIGKILL)
    commands.wait_until(lambda: not _members(group), "the container's processes are gone")
