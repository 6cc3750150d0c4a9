import os
import stat
from pathlib import Path

import pytest

from rbdcsi import errors
from rbdcsi.host.fs import paths


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "kubelet/pods/one").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    return tmp_path / "kubelet"


def test_directory_is_created_for_its_owner_and_group_only(base: Path) -> None:
    paths.create_target(base / "pods/one/mount", base, "directory")

    assert stat.S_IMODE((base / "pods/one/mount").stat().st_mode) == 0o750


def test_file_is_created_for_its_owner_only(base: Path) -> None:
    paths.create_target(base / "pods/one/disk", base, "file")

    assert stat.S_IMODE((base / "pods/one/disk").stat().st_mode) == 0o600


@pytest.mark.parametrize("kind", ["directory", "file"])
def test_creating_again_changes_nothing(base: Path, kind: paths.Kind) -> None:
    target = base / "pods/one/target"
    paths.create_target(target, base, kind)
    before = target.stat().st_ino

    paths.create_target(target, base, kind)

    assert target.stat().st_ino == before


def test_opened_target_is_the_thing_itself(base: Path) -> None:
    with paths.open_target(base / "pods/one", base, "directory") as opened:
        assert os.path.samestat(os.fstat(opened.fd), (base / "pods/one").stat())


def test_missing_parent_is_not_found_and_named(base: Path) -> None:
    with pytest.raises(errors.NotFound, match="'two'"):
        paths.create_target(base / "pods/two/mount", base, "directory")


@pytest.mark.parametrize(
    "path",
    ["relative", "{base}", "{base}/../outside/x", "/", "/etc/x", "{base}suffix/x", "{base}/a\0b"],
)
def test_path_that_is_not_inside_the_base_is_invalid(base: Path, path: str) -> None:
    with pytest.raises(errors.InvalidRequest):
        paths.create_target(Path(path.format(base=base)), base, "directory")


def test_name_that_no_file_system_takes_is_invalid(base: Path) -> None:
    with pytest.raises(errors.InvalidRequest):
        paths.create_target(base / ("x" * 4096), base, "directory")


@pytest.mark.parametrize("kind", ["directory", "file"])
def test_link_as_the_target_is_invalid_and_not_followed(base: Path, kind: paths.Kind) -> None:
    (base / "pods/one/link").symlink_to(base.parent / "outside")

    with pytest.raises(errors.InvalidRequest):
        paths.create_target(base / "pods/one/link", base, kind)


def test_link_on_the_way_is_invalid_and_not_followed(base: Path) -> None:
    (base / "pods/link").symlink_to(base.parent / "outside")

    with pytest.raises(errors.InvalidRequest, match="link"):
        paths.create_target(base / "pods/link/mount", base, "directory")

    assert list((base.parent / "outside").iterdir()) == []


def test_base_itself_may_be_a_link(base: Path) -> None:
    alias = base.parent / "alias"
    alias.symlink_to(base)

    paths.create_target(alias / "pods/one/mount", alias, "directory")

    assert (base / "pods/one/mount").is_dir()


def test_target_of_the_other_kind_is_invalid(base: Path) -> None:
    paths.create_target(base / "file", base, "file")

    with pytest.raises(errors.InvalidRequest, match="must be a directory"):
        paths.create_target(base / "file", base, "directory")
    with pytest.raises(errors.InvalidRequest, match="must be a file"):
        paths.create_target(base / "pods", base, "file")


@pytest.mark.parametrize("kind", ["directory", "file"])
def test_removed_target_is_gone_and_removing_again_is_fine(base: Path, kind: paths.Kind) -> None:
    target = base / "pods/one/target"
    paths.create_target(target, base, kind)

    paths.remove_target(target, base)
    paths.remove_target(target, base)

    assert not target.exists()


def test_removing_below_a_missing_parent_is_fine(base: Path) -> None:
    paths.remove_target(base / "never/there", base)


def test_data_on_the_hosts_own_disk_is_kept(base: Path) -> None:
    (base / "pods/one/data").write_text("precious")

    with pytest.raises(errors.Refused, match="holds data"):
        paths.remove_target(base / "pods/one", base)
    with pytest.raises(errors.Refused, match="holds data"):
        paths.remove_target(base / "pods/one/data", base)

    assert (base / "pods/one/data").read_text() == "precious"


def test_no_descriptor_is_left_open(base: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208  a Path would hold one itself

    paths.create_target(base / "pods/one/mount", base, "directory")
    with pytest.raises(errors.NotFound):
        paths.create_target(base / "pods/no/mount", base, "directory")

    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


STAGE = Path("/kubelet/plugins/volume/globalmount")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (STAGE, True),
        (STAGE / "device", True),
        (STAGE.parent, True),
        (Path("/"), True),
        (STAGE.with_name("globalmount2"), False),
        (Path("/kubelet/pods/pod/volume"), False),
    ],
)
def test_path_itself_and_those_above_and_below_overlap(path: Path, expected: bool) -> None:
    assert paths.overlap(path, STAGE) is paths.overlap(STAGE, path) is expected
