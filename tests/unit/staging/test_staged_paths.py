from pathlib import Path

import pytest

from rbdcsi import errors
from rbdcsi.staging.staged_paths import StagedPaths, overlap

STAGE = Path("/kubelet/plugins/volume/globalmount")


class NeverEnds:
    """A child that lives."""

    pid = 1

    def poll(self) -> int | None:
        return None


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
    assert overlap(path, STAGE) is overlap(STAGE, path) is expected


def test_note_outlives_the_plugin_until_it_is_removed(tmp_path: Path) -> None:
    directory = tmp_path / "staged"
    assert StagedPaths(directory).overlapping(STAGE) == []
    for _ in range(2):
        with StagedPaths(directory).noted(STAGE):
            assert StagedPaths(directory).overlapping(STAGE) == [STAGE]
    assert StagedPaths(directory).overlapping(STAGE / "device") == [STAGE]
    for _ in range(2):
        StagedPaths(directory).remove(STAGE)
        assert StagedPaths(directory).overlapping(STAGE) == []


@pytest.mark.parametrize(
    ("error", "is_kept"),
    [
        (errors.Failed("mount: wrong fs type"), False),
        (errors.Busy("in use"), False),
        (errors.DeadlineExceeded("killed"), True),
        (errors.ChildStuck("mount does not die", NeverEnds()), True),
    ],
)
def test_note_of_a_failed_mount_stays_only_if_the_mount_may_still_appear(
    tmp_path: Path, error: errors.RbdCsiError, is_kept: bool
) -> None:
    notes = StagedPaths(tmp_path)
    with pytest.raises(type(error)), notes.noted(STAGE):
        raise error
    assert notes.overlapping(STAGE) == ([STAGE] if is_kept else [])


@pytest.mark.parametrize("text", [b"", b"\xff", b"{}", b'{"version": 2, "path": "/a"}'])
def test_damaged_note_is_skipped(tmp_path: Path, text: bytes) -> None:
    notes = StagedPaths(tmp_path)
    with notes.noted(STAGE):
        (tmp_path / "damaged").write_bytes(text)
        (tmp_path / "draft.new").write_bytes(b"{")
    assert notes.overlapping(STAGE) == [STAGE]
