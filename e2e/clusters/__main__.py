"""`python -m e2e.clusters start|stop|status`: one local cluster to play with.

A holder process owns it; the cluster ends when the holder does, whatever ends it.
"""

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click

from e2e import clusters
from e2e.clusters import commands, local
from rbdcsi import errors

DIRECTORY = Path(tempfile.gettempdir()) / f"rbdcsi-cluster-{os.getuid()}"
NOTE = DIRECTORY / "holder.json"
POOL, USER = "volumes", "rbdcsi"
HOLD = [sys.executable, "-m", "e2e.clusters", "hold"]
USAGE = """\
Ceph {fsid} runs in {directory} (process {holder}).

  export CEPH_CONF={directory}/ceph.conf      # then, as client.admin:
  ceph status
  rbd create {pool}/first --size 1G && rbd ls -l {pool}

The driver's configuration:

  clusters:
    - clusterID: {fsid}
      confFile: {directory}/ceph.conf
      pool: {pool}
      user: {user}
      keyring: {directory}/{user}.keyring

Stop it with: make cluster-stop"""


@click.group(help=__doc__)
def main() -> None:
    """Group the commands."""


@main.command()
def start() -> None:
    """Start the cluster, leave it running, and say how to use it."""
    with _holder() as holder:
        if holder is None:
            _launch()
    print(_usage())


@main.command()
def stop() -> None:
    """End exactly the cluster that `start` left running."""
    with _holder() as holder:
        if holder is None:
            print("no cluster runs")
            return
        signal.pidfd_send_signal(holder, signal.SIGTERM)
        if not select.select([holder], [], [], 60)[0]:
            raise errors.DeadlineExceeded(f"the holder of {DIRECTORY} did not end within 60 s")
    print(f"ended; {DIRECTORY} is gone")


@main.command()
def status() -> None:
    """Say whether the cluster runs, and how to use it."""
    with _holder() as holder:
        print("no cluster runs" if holder is None else _usage())


@main.command(hidden=True)
def hold() -> None:
    """Own the cluster until a signal comes."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    with local.LocalCluster(DIRECTORY) as cluster:
        cluster.create_pool(POOL)
        key = cluster.create_user(USER, clusters.driver_caps(POOL))
        keyring = DIRECTORY / f"{USER}.keyring"
        keyring.touch(mode=0o600)
        keyring.write_text(f"[client.{USER}]\n\tkey = {key.reveal()}\n")
        facts = {"holder": os.getpid(), "fsid": cluster.fsid}
        NOTE.with_suffix(".new").write_text(json.dumps(facts))
        NOTE.with_suffix(".new").rename(NOTE)  # whoever sees it sees all of it
        signal.pause()


@contextlib.contextmanager
def _holder() -> Iterator[int | None]:
    """Give a handle of the holder, or None; by its command line too, for process ids are reused."""
    try:
        holder = json.loads(NOTE.read_text())["holder"]
        handle = os.pidfd_open(holder)
    except (FileNotFoundError, ProcessLookupError):
        yield None
        return
    try:
        line = Path(f"/proc/{holder}/cmdline").read_bytes()
        yield handle if line.endswith(b"e2e.clusters\0hold\0") else None
    finally:
        os.close(handle)


def _launch() -> None:
    shutil.rmtree(DIRECTORY, ignore_errors=True)  # of a holder that a power cut ended
    with tempfile.TemporaryFile("w+") as said:
        holder = subprocess.Popen(
            HOLD, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True
        )

        def decided() -> bool:
            return NOTE.exists() or holder.poll() is not None

        commands.wait_until(decided, "the cluster runs", 120)
        if holder.returncode is not None:
            said.seek(0)
            raise errors.Failed(f"the cluster did not start:\n{said.read()}")


def _usage() -> str:
    facts = json.loads(NOTE.read_text())
    return USAGE.format(**facts, directory=DIRECTORY, pool=POOL, user=USER)


if __name__ == "__main__":
    main()
