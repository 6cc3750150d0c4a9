"""Lets Kubernetes' suite log in to a node by ssh, where it stops and starts the kubelet.

The suite asks systemd for that, which the machines do not have: what it says to `systemctl` is
done by a script of that name. Its kubelet ends and starts as it does under systemd.
"""

from pathlib import Path

from e2e import vm
from e2e.clusters import commands

KUBELET_PID, KUBELET_STOPPED = "/run/kubelet.pid", "/run/kubelet.stopped"
_SYSTEMCTL = f"""\
#!/bin/sh
lives() {{ kill -0 "$(cat {KUBELET_PID})" 2>/dev/null; }}
[ "$2" = kubelet ] || exit 5
case $1 in
stop)
    touch {KUBELET_STOPPED}
    kill "$(cat {KUBELET_PID})"
    while lives; do sleep 0.1; done
    ;;
start) rm -f {KUBELET_STOPPED} ;;
show) lives && echo active || echo inactive ;;
*) exit 1 ;;
esac
"""


def make_key(directory: Path) -> Path:
    """Make a key pair, and return the file of the private one; the public one is beside it."""
    key = directory / "login"
    commands.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key])
    return key


def allow(machine: vm.Machine, key: Path) -> None:
    """Let the owner of the key log in as root; dropbear, as OpenSSH's package starts a daemon."""
    machine.write("/root/.ssh/authorized_keys", key.with_suffix(".pub").read_text(), "600")
    machine.write("/root/.bashrc", "")  # the host's would be run at every login
    machine.write("/usr/bin/systemctl", _SYSTEMCTL, "755")
    machine.run("install", "-d", "/etc/dropbear")  # where -R keeps the host's key
    machine.spawn("/var/log/dropbear.log", "dropbear", "-R", "-F", "-E", "-s")
