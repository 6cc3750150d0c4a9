"""The chart rendered: what `make manifests` writes, and tests compare with what is committed."""

from pathlib import Path

from e2e.clusters import commands
from e2e.release import programs, schemas

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy/helm/rbdcsi"
PLAIN = ROOT / "deploy/kubernetes/base/rbdcsi.yaml"
GOLDEN = ROOT / "tests/deploy"
EVERYTHING = GOLDEN / "everything.values.yaml"

_HEAD = "# Rendered from deploy/helm/rbdcsi by `make manifests`: change it there.\n"


def rendered() -> dict[Path, str]:
    """Return what the committed files must hold: the plain manifests, and every value in use."""
    return {
        PLAIN: _HEAD + template("--set", "existingSecret=rbdcsi-config"),
        GOLDEN / "everything.golden.yaml": _HEAD + template("--values", str(EVERYTHING)),
    }


def template(*flags: str) -> str:
    """Return the chart's objects as `helm template` makes them.

    Args:
        flags: further ones, such as `--set name=value`.

    Raises:
        Failed: helm refuses the values; the message is helm's.
    """
    return helm("template", "rbdcsi", str(CHART), "--kube-version", schemas.KUBERNETES, *flags)


def helm(*words: str) -> str:
    """Run helm for the namespace of the manifests and return what it printed."""
    return commands.run([programs.built("helm"), *words, "--namespace", "rbdcsi"])


def kustomized(directory: Path) -> str:
    """Return the objects of a kustomization."""
    return commands.run([programs.built("kustomize"), "build", directory])


if __name__ == "__main__":
    for path, text in rendered().items():
        path.write_text(text)
        print(path.relative_to(ROOT))
