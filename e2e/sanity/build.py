"""Builds csi-sanity, the public conformance test of CSI, at the version that go.mod beside pins."""

from pathlib import Path

from e2e import golang

MODULE = Path(__file__).parent
SANITY = golang.ROOT / "build/csi-sanity"

_PACKAGE = "github.com/kubernetes-csi/csi-test/v5/cmd/csi-sanity"
_BUILD_SECONDS = 900  # two slow cores with nothing in Go's cache; it is a second once that is full


def build() -> Path:
    """Return the path of the built csi-sanity; Go's own cache decides what is left to do.

    Raises:
        Unavailable, Failed: see `golang.run`.
    """
    golang.run(MODULE, "build", "-o", SANITY, _PACKAGE, timeout=_BUILD_SECONDS)
    return SANITY
