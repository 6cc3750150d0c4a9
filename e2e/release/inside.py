"""The driver run from inside its image, as a container would, without a container runtime.

with inside.shared(directory):
    driver.installed(cluster, directory, pool, program=inside.program(directory))
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from e2e.clusters import commands
from e2e.release import image

_SCRIPT = Path(__file__).with_name("inside.sh")


@contextlib.contextmanager
def shared(directory: Path) -> Iterator[None]:
    """Make the directory a mount that both sides share, as the kubelet's is, during the body."""
    commands.run(["mount", "--bind", directory, directory])
    try:
        commands.run(["mount", "--make-shared", directory])
        yield
    finally:
        commands.run(["umount", directory])


def program(directory: Path) -> tuple[str, ...]:
    """Return the command that is `rbdcsi` in the image.

    Args:
        directory: a shared one, which the image's programs see under the same path; of the rest of
            the host they see devices, processes and network.
    """
    return (str(_SCRIPT), str(image.unpacked()), str(directory), "rbdcsi")
