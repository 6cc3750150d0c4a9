"""The chart rendered: `make manifests` writes the plain manifests, and a test compares them."""

from pathlib import Path

from e2e.clusters import commands
from e2e.release import programs, schemas

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy/helm/rbdcsi"
PLAIN = ROOT / "deploy/kubernetes/base/rbdcsi.yaml"
EVERYTHING = ROOT / "tests/deploy/everything.values.yaml"

_HEAD = "# Rendered from deploy/helm/rbdcsi by `make manifests`: change it there.\n"


def plain() -> str:
    """Return the text that the file `PLAIN` must hold."""
    return _HEAD + template("--set", "existingSecret=rbdcsi-config")


def template(*flags: str, release: str = "rbdcsi", namespace: str = "rbdcsi") -> str:
    """Return the chart's objects as `helm template` makes them.

    Args:
        flags: further ones, such as `--set name=value`.
        release: the name of the release.
        namespace: where it would be installed.

    Raises:
        Failed: helm refuses the values; the message is helm's.
    """
    version = ("--kube-version", schemas.KUBERNETES)
    return helm("template", release, str(CHART), *version, *flags, namespace=namespace)


def helm(*words: str, namespace: str = "rbdcsi") -> str:
    """Run helm for a namespace and return what it printed."""
    return commands.run([programs.built("helm"), *words, "--namespace", namespace])


def kustomized(directory: Path) -> str:
    """Return the objects of a kustomization."""
    return commands.run([programs.built("kustomize"), "build", directory])


if __name__ == "__main__":
    PLAIN.write_text(plain())
    print(PLAIN.relative_to(ROOT))
