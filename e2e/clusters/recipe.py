"""What a one-OSD cluster is made of: configuration, keys, and the commands that create it."""

import base64
import os
import struct
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

CEPH_CONF = """\
[global]
fsid = {fsid}
mon host = {mon_host}
public addr = {address}
cluster addr = {address}
run dir = {directory}/run
crash dir = {directory}/crash
auth allow insecure global id reclaim = false
auth cluster required = {auth}
auth service required = {auth}
auth client required = {auth}

# One OSD holds everything once.
osd pool default size = 1
mon allow pool size one = true
mon warn on pool no redundancy = false
osd crush chooseleaf type = 0
osd pool default pg num = 16
osd pool default pg autoscale mode = off
mon allow pool delete = true

# Free space is the machine's affair, and tests shall not wait for batches of map changes.
mon data avail warn = 1
mon data avail crit = 0
paxos propose interval = 0.05
mgr stats period = 1
osd heartbeat interval = 1

[client.admin]
keyring = {directory}/admin.keyring

[mon]
mon data = {directory}/mon
log file = {directory}/log/$name.log
admin socket = {directory}/run/$name.asok

[mgr]
mgr data = {directory}/mgr
keyring = {directory}/mgr/keyring
log file = {directory}/log/$name.log
admin socket = {directory}/run/$name.asok
mgr initial modules =

[osd]
osd data = {directory}/osd
keyring = {directory}/osd/keyring
log file = {directory}/log/$name.log
admin socket = {directory}/run/$name.asok
osd objectstore = {backend}
osd memory target = 1073741824
# Before 17.2.8 and 18.2.5, a client that dies while the OSD registers its watch is listed as a
# watcher until its object leaves this cache (Ceph's issue 58120), so without load for ever.
osd pg object context cache count = 0
bluestore block size = 10737418240
memstore device bytes = 10737418240
osd mclock skip benchmark = true
"""

CAPS: Mapping[str, Mapping[str, str]] = {
    "mon.": {"mon": "allow *"},
    "client.admin": {"mon": "allow *", "mgr": "allow *", "osd": "allow *", "mds": "allow *"},
    "mgr.a": {"mon": "allow profile mgr", "osd": "allow *", "mds": "allow *"},
    "osd.0": {"mon": "allow profile osd", "mgr": "allow profile osd", "osd": "allow *"},
}


@dataclass(frozen=True)
class Recipe:
    """A cluster that is to be made; the fsid also serves as the OSD's uuid."""

    fsid: str
    directory: Path
    backend: str
    address: str
    port: int  # of the messenger's version 2
    old_port: int  # of version 1, the kernel's default
    bare: bool = False  # clients are told the address alone
    cephx: bool = True  # daemons and clients show that they have a key

    @property
    def conf(self) -> Path:
        """The ceph.conf of daemons and clients."""
        return self.directory / "ceph.conf"

    @property
    def keyring(self) -> Path:
        """The keyring of client.admin."""
        return self.directory / "admin.keyring"

    @property
    def logs(self) -> Path:
        """The directory of the daemons' logs."""
        return self.directory / "log"

    @property
    def monitors(self) -> str:
        """Both protocols, for the monitor map."""
        return f"[v2:{self.address}:{self.port},v1:{self.address}:{self.old_port}]"

    @property
    def mon_host(self) -> str:
        """The monitors as ceph.conf has them."""
        return self.address if self.bare else self.monitors

    @property
    def make_monitor_map(self) -> Sequence[str | Path]:
        """The command that writes the first monitor map."""
        who = ["--fsid", self.fsid, "--addv", "a", self.monitors]
        return ["monmaptool", "--create", *who, self.directory / "monmap"]

    @property
    def make_monitor(self) -> Sequence[str | Path]:
        """The command that makes the monitor's store, with everybody's keys."""
        keys = ["--keyring", str(self.directory / "all.keyring")]
        monitors = ["--monmap", str(self.directory / "monmap")]
        return ["ceph-mon", "--mkfs", "-i", "a", "--conf", self.conf, *keys, *monitors]

    @property
    def make_osd(self) -> Sequence[str | Path]:
        """The command that makes the OSD's store; it asks no monitor."""
        who = ["-i", "0", "--osd-uuid", self.fsid]
        return ["ceph-osd", "--mkfs", *who, "--conf", self.conf, "--no-mon-config"]

    def write(self) -> None:
        """Write ceph.conf, the keyrings and the daemons' directories."""
        for name in ("mon", "mgr", "osd", "log", "run", "crash"):
            (self.directory / name).mkdir()
        self.conf.write_text(
            CEPH_CONF.format(
                fsid=self.fsid,
                mon_host=self.mon_host,
                address=self.address,
                directory=self.directory,
                backend=self.backend,
                auth="cephx" if self.cephx else "none",
            )
        )
        sections = {entity: _section(entity, new_key()) for entity in CAPS}
        _write_secret(self.directory / "all.keyring", "".join(sections.values()))
        _write_secret(self.keyring, sections["client.admin"])
        _write_secret(self.directory / "mgr" / "keyring", sections["mgr.a"])
        _write_secret(self.directory / "osd" / "keyring", sections["osd.0"])


def new_key() -> str:
    """Return a fresh key in Ceph's encoding: type 1 (AES), time of birth, length, 16 bytes."""
    return base64.b64encode(
        struct.pack("<HIIH", 1, int(time.time()), 0, 16) + os.urandom(16)
    ).decode()


def _section(entity: str, key: str) -> str:
    caps = "".join(f'\tcaps {service} = "{cap}"\n' for service, cap in CAPS[entity].items())
    return f"[{entity}]\n\tkey = {key}\n{caps}"


def _write_secret(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)
