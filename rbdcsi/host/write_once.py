"""A script of its own, run by path as a child: one write(2) of standard input to the file named.

Kernel files under /sys act on one whole write and may block, so it is not done in the server. The
exit code is the errno of the failure, 0 if there was none. It imports nothing of the project.
"""

import os
import sys


def main() -> int:
    """Write; return the errno."""
    try:
        fd = os.open(sys.argv[1], os.O_WRONLY)
        os.write(fd, sys.stdin.buffer.read())
    except OSError as error:
        return error.errno or 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
