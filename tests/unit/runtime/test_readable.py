"""Waiting for files, also for those with high numbers."""

import fcntl
import os
import resource

from rbdcsi.runtime.readable import wait_until_readable

HIGH = 2000  # select(2) takes up to 1,023


def test_a_file_is_waited_for_whatever_its_number() -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(limits[0], 2 * HIGH), limits[1]))
    reader, writer = os.pipe()
    high = fcntl.fcntl(reader, fcntl.F_DUPFD_CLOEXEC, HIGH)
    try:
        assert not wait_until_readable(high, 0.01)
        os.write(writer, b"x")
        assert wait_until_readable(high, None)
        os.read(high, 1)
        os.close(writer)
        assert wait_until_readable(high, 1), "its end can be read"
    finally:
        os.close(reader)
        os.close(high)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
