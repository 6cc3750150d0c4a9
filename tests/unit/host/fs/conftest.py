"""Programs that stand first on the PATH."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def put_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Give what puts a program of some name, which runs a shell script, first on the PATH."""

    def put(name: str, script: str) -> None:
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    return put
