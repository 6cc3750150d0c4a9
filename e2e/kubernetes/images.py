"""Container images of what `build` made, as one archive for `ctr images import`.

No registry is asked: each image is one layer of static programs, under the name by which charts
and Kubernetes' suite ask for it. What is in them is the real thing, but for `registrar`, and for
nginx and jessie-dnsutils, which are busybox: the suite's storage specs only use a shell.
"""

import hashlib
import io
import json
import shutil
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from e2e import caches, errors
from e2e.clusters import commands
from e2e.kubernetes import build

PAUSE = "registry.k8s.io/pause:3.10.1"
_SUITE = "registry.k8s.io/e2e-test-images"
_OF_EXAMPLES = "docker.io/library/busybox:1.37"
_SIDECARS = "registry.k8s.io/sig-storage"
_CSI = "github.com/kubernetes-csi"
_VERSION_OF = {  # each sidecar: its module among `build.MODULES`, and the package that it pins
    "csi-provisioner": ("sidecars", f"{_CSI}/external-provisioner/v6"),
    "csi-attacher": ("sidecars", f"{_CSI}/external-attacher/v4"),
    "csi-resizer": ("resizer", f"{_CSI}/external-resizer/v2"),
    "csi-snapshotter": ("snapshotter", f"{_CSI}/external-snapshotter/v8"),
}
# Specs want dd's `oflag=nocache`, which only GNU's knows, and a shell with `let`; busybox's would
# run no other dd than its own.
_INSTEAD_OF_BUSYBOX = {
    "bin/dd": Path("/bin/dd"),
    "bin/sh": Path("/bin/bash"),
    "lib/x86_64-linux-gnu/libc.so.6": Path("/lib/x86_64-linux-gnu/libc.so.6"),
    "lib/x86_64-linux-gnu/libtinfo.so.6": Path("/lib/x86_64-linux-gnu/libtinfo.so.6"),
    "lib64/ld-linux-x86-64.so.2": Path("/lib64/ld-linux-x86-64.so.2"),
}
_FORM = 7  # of the archive; part of the cache's key


@dataclass(frozen=True)
class Image:
    """An image: its names, its one program, and whether a shell with its tools is in it, too."""

    names: Sequence[str]
    program: Path
    arguments: Sequence[str] = ()
    shell: bool = True


def archive() -> Path:
    """Return the archive with every image but the driver's own; the cache keeps it.

    Raises:
        Unavailable, Failed: a program could not be built.
    """
    digests = (build.digest(each) for each in ("kubernetes", *_modules()))
    key = f"{'-'.join(digests)}-{_FORM}"
    return caches.made(f"images/{key}", _make) / "images.tar"


def _modules() -> Sequence[str]:
    return sorted({module for module, _package in _VERSION_OF.values()})


def _make(directory: Path) -> None:
    pause = directory / "pause"
    _compile_pause(pause)
    with tarfile.open(directory / "images.tar", "w") as target:
        manifest = [_add(target, image) for image in _images(pause)]
        _write(target, "manifest.json", json.dumps(manifest).encode())


def _images(pause: Path) -> Sequence[Image]:
    wanted = ("busybox:1.37.0-1", "nginx:1.14-4", "jessie-dnsutils:1.7")
    shells = [*(f"{_SUITE}/{name}" for name in wanted), _OF_EXAMPLES]
    agnhost = [f"{_SUITE}/agnhost:2.59"]
    return [
        Image([PAUSE], pause, shell=False),
        Image(shells, _busybox(), ["sh"]),
        Image(agnhost, build.build("agnhost"), ["pause"]),
        *(
            Image([f"{_SIDECARS}/{name}:{version}"], build.build(program), shell=False)
            for name, program, version in (
                *((name, name, build.version(*of)) for name, of in _VERSION_OF.items()),
                ("csi-node-driver-registrar", "registrar", "v2.15.0"),
            )
        ),
    ]


def _compile_pause(program: Path) -> None:
    """Compile Kubernetes' own pause.c, which its Go module carries."""
    sources = build.sources("kubernetes", "k8s.io/kubernetes")
    source = sources / "build/pause/linux/pause.c"
    version = PAUSE.rpartition(":")[2]
    commands.run(["gcc", "-Os", "-static", f"-DVERSION=v{version}", "-o", program, source])


def _add(target: tarfile.TarFile, image: Image) -> Mapping[str, object]:
    """Add the image's layer and configuration, and return its entry of the manifest."""
    layer = _layer(image)
    diff = hashlib.sha256(layer).hexdigest()
    configuration = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {
                "Entrypoint": [f"/{image.program.name}"],
                "Cmd": list(image.arguments),
                "Env": ["PATH=/bin:/"],
            },
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{diff}"]},
        }
    ).encode()
    name = f"{hashlib.sha256(configuration).hexdigest()}.json"
    _write(target, name, configuration)
    _write(target, f"{diff}.tar", layer)
    return {"Config": name, "RepoTags": list(image.names), "Layers": [f"{diff}.tar"]}


def _layer(image: Image) -> bytes:
    """Return the tar file of the image's root: its program and, if wished, a shell's commands."""
    layer = io.BytesIO()
    with tempfile.TemporaryDirectory() as name, tarfile.open(fileobj=layer, mode="w") as target:
        tree = Path(name)
        for directory in ("bin", "tmp", "etc"):
            (tree / directory).mkdir()
        (tree / "tmp").chmod(0o1777)
        (tree / "etc/passwd").write_text("root:x:0:0:root:/:/bin/sh\n")
        (tree / "etc/group").write_text("root:x:0:\n")
        shutil.copy(image.program, tree)
        if image.shell:
            _install_shell(tree)
        target.add(tree, "")
    return layer.getvalue()


def _install_shell(tree: Path) -> None:
    busybox = tree / "bin/busybox"
    shutil.copy(_busybox(), busybox)
    for command in commands.run([busybox, "--list"]).split():
        if command != "busybox" and f"bin/{command}" not in _INSTEAD_OF_BUSYBOX:
            (tree / "bin" / command).symlink_to("busybox")
    for name, file in _INSTEAD_OF_BUSYBOX.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, tree / name)


def _busybox() -> Path:
    found = shutil.which("busybox")
    if found is None:
        raise errors.Unavailable("busybox is not installed: tools/packages.sh lists the packages")
    return Path(found)


def _write(target: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    target.addfile(entry, io.BytesIO(content))
