"""Builds Kubernetes, its test suite and the CSI sidecars from the Go modules that `modules/` pins.

A program is built once for each content of its module and kept in the cache: cold, all of them
take half an hour of one core.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from e2e import caches, golang

MODULES = Path(__file__).parent / "modules"

_OF_KUBERNETES = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet")
OF_A_CLUSTER = (*_OF_KUBERNETES, "snapshot-controller")
OF_CHANGED_BLOCKS = ("csi-snapshot-metadata", "lister")
OF_THE_SUITE = ("ginkgo", "e2e.test")

_SECONDS = 1800  # the longest, e2e.test, on two slow cores that do other things, too
_VERSION = "k8s.io/component-base/version"


@dataclass(frozen=True)
class Program:
    """One program: its name, the module that pins it, its package, and whether it is a test."""

    name: str
    module: str
    package: str
    test: bool = False


PROGRAMS = {
    program.name: program
    for program in (
        *(
            Program(name, "kubernetes", f"k8s.io/kubernetes/cmd/{name}")
            for name in (*_OF_KUBERNETES, "kubectl")
        ),
        Program("registrar", "kubernetes", "rbdcsi/e2e/kubernetes/registrar"),
        Program("agnhost", "kubernetes", "k8s.io/kubernetes/test/images/agnhost"),
        Program("ginkgo", "kubernetes", "github.com/onsi/ginkgo/v2/ginkgo"),
        Program("e2e.test", "kubernetes", "k8s.io/kubernetes/test/e2e", test=True),
        Program(
            "csi-provisioner",
            "sidecars",
            "github.com/kubernetes-csi/external-provisioner/v6/cmd/csi-provisioner",
        ),
        Program(
            "csi-attacher",
            "sidecars",
            "github.com/kubernetes-csi/external-attacher/v4/cmd/csi-attacher",
        ),
        Program(
            "csi-resizer",
            "resizer",
            "github.com/kubernetes-csi/external-resizer/v2/cmd/csi-resizer",
        ),
        *(
            Program(
                name,
                "snapshotter",
                f"github.com/kubernetes-csi/external-snapshotter/v8/cmd/{name}",
            )
            for name in ("csi-snapshotter", "snapshot-controller")
        ),
        Program(
            "csi-snapshot-metadata",
            "metadata",
            "github.com/kubernetes-csi/external-snapshot-metadata/cmd/csi-snapshot-metadata",
        ),
        Program("lister", "metadata", "rbdcsi/e2e/kubernetes/metadata/lister"),
    )
}


def build(name: str) -> Path:
    """Return the path of the program, built now unless the cache has it.

    Raises:
        Unavailable, Failed: see `golang.run`.
    """
    program = PROGRAMS[name]
    directory = caches.made(f"go/{name}-{digest(program.module)}", lambda to: _build(program, to))
    return directory / name


def version(module: str, package: str) -> str:
    """Return the version of a Go package that the module pins, such as "v1.35.4"."""
    text = (MODULES / module / "go.mod").read_text()
    (found,) = re.findall(rf"^(?:require)?\s+{re.escape(package)} (\S+)", text, re.MULTILINE)
    return str(found)


def sources(module: str, package: str) -> Path:
    """Return the directory of a pinned Go module's sources."""
    found = golang.run(MODULES / module, "list", "-m", "-f", "{{.Dir}}", package, timeout=300)
    return Path(found.strip())


def digest(module: str) -> str:
    """Return what a module pins and contains, as a few letters."""
    files = sorted(path for path in (MODULES / module).rglob("*") if path.is_file())
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()[:12]


def _build(program: Program, directory: Path) -> None:
    print(f"building {program.name}", flush=True)
    # vet would look at the thousands of packages below, too
    verb = ("test", "-c", "-vet=off") if program.test else ("build",)
    flags = ("-ldflags", _link_flags(program.module), "-o", directory / program.name)
    golang.run(MODULES / program.module, *verb, *flags, program.package, timeout=_SECONDS)


def _link_flags(module: str) -> str:
    """Return what makes a program say its version; the suite and charts ask for it."""
    facts = {}
    if module == "kubernetes":
        full = version("kubernetes", "k8s.io/kubernetes")
        major, minor, _ = full.removeprefix("v").split(".")
        facts = {"gitVersion": full, "gitMajor": major, "gitMinor": minor}
    return " ".join(["-s -w", *(f"-X {_VERSION}.{key}={value}" for key, value in facts.items())])
