"""`python -m e2e.kubernetes.prepare [suite]`: builds in advance what tests on Kubernetes run.

First what a Kubernetes with the driver is made of; with "suite" Kubernetes' own tests after it.
Where KUBECONFIG names a Kubernetes, its nodes need nothing of ours.
"""

import os
import sys

from e2e.kubernetes import build, image_disk, images
from e2e.release import image, programs
from e2e.vm import kernel


def main(words: list[str]) -> None:
    """Build it unless the cache has it.

    Raises:
        Unavailable, Failed: a tool is missing, or a build failed.
    """
    programs.built("helm")
    build.build("kubectl")
    if "KUBECONFIG" not in os.environ:
        kernel.ready()
        for name in (*build.OF_A_CLUSTER, *build.OF_CHANGED_BLOCKS):
            build.build(name)
        image_disk.filled([images.archive(), image.archive()])
    if "suite" in words:
        for name in build.OF_THE_SUITE:
            build.build(name)


if __name__ == "__main__":
    main(sys.argv[1:])
