"""The cache: what several need at once is made by one of them, and is there whole or not at all."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from e2e import caches


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return caches.root()


def test_one_of_several_makes_it_and_the_others_wait() -> None:
    begun, may_end = threading.Event(), threading.Event()

    def make(directory: Path) -> None:
        assert not begun.is_set(), "it is made a second time"
        begun.set()
        assert may_end.wait(30)
        (directory / "file").write_text("whole")

    with ThreadPoolExecutor(3) as together:
        calls = [together.submit(caches.made, "family/thing-1", make) for _ in range(3)]
        assert begun.wait(30)
        assert not any(call.done() for call in calls)
        may_end.set()
        directories = {call.result(30) for call in calls}

    (directory,) = directories
    assert (directory / "file").read_text() == "whole"


def test_nothing_is_there_of_what_could_not_be_made(root: Path) -> None:
    def fail(directory: Path) -> None:
        (directory / "half").touch()
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        caches.made("family/thing-1", fail)
    assert list((root / "family").iterdir()) == []


def test_draft_of_a_process_that_was_killed_is_removed(root: Path) -> None:
    draft = root / "family/thing-1.draft"
    draft.mkdir(parents=True)
    (draft / "half").touch()

    made = caches.made("family/thing-1", lambda directory: (directory / "file").touch())

    assert [path.name for path in (root / "family").iterdir()] == ["thing-1"]
    assert [path.name for path in made.iterdir()] == ["file"]
