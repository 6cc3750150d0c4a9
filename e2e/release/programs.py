"""Builds helm, kustomize, kubeconform and actionlint at the versions that `modules/go.mod` pins."""

import hashlib
from pathlib import Path

from e2e import caches, golang

MODULE = Path(__file__).parent / "modules"
_PACKAGES = {
    "helm": "helm.sh/helm/v3/cmd/helm",
    "actionlint": "github.com/rhysd/actionlint/cmd/actionlint",
    "kustomize": "sigs.k8s.io/kustomize/kustomize/v5",
    "kubeconform": "github.com/yannh/kubeconform/cmd/kubeconform",
}
_SECONDS = 900  # two slow cores with nothing in Go's cache


def built(name: str) -> Path:
    """Return the path of a program, built now unless the cache has it.

    Raises:
        Unavailable, Failed: see `golang.run`.
    """
    pins = b"".join((MODULE / file).read_bytes() for file in ("go.mod", "go.sum"))
    digest = hashlib.sha256(pins).hexdigest()[:12]
    return caches.made(f"go/{name}-{digest}", lambda to: _build(name, to / name)) / name


def _build(name: str, to: Path) -> None:
    golang.run(MODULE, "build", "-ldflags", "-s -w", "-o", to, _PACKAGES[name], timeout=_SECONDS)
