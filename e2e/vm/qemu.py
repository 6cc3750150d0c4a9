"""Pure: the command line of qemu for one machine."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from e2e.vm.kernel import Kernel

# In the machine's directory.
CONSOLE, REPORTS, MONITOR, SHARE = "console.log", "reports.log", "monitor", "share"
CHANNEL = "channel"  # qemu's own network, by which the guest is reached from loopback
_MIB = 1 << 20


@dataclass(frozen=True)
class Plan:
    """What a machine is made of.

    Attributes:
        directory: of its sockets, console and reports.
        memory: bytes.
        mac: the hardware address of eth0.
        uuid: the hardware id, the same at each boot.
        disks: image files, vda first.
        kernel_words: further parameters of the kernel.
        told: what the guest's programs find in their environment.
    """

    directory: Path
    memory: int
    mac: str
    uuid: str
    disks: Sequence[Path]
    kernel_words: Sequence[str]
    told: Mapping[str, str]


def command(plan: Plan, kernel: Kernel, tap: int) -> list[str]:
    """Return the arguments that boot the machine; `tap` is a descriptor that qemu inherits."""
    here, memory = plan.directory, f"{plan.memory // _MIB}M"
    lines = [
        "-nodefaults -no-user-config -display none -no-reboot",
        "-machine q35 -accel tcg,thread=multi -cpu max -smp 2",
        f"-uuid {plan.uuid}",
        f"-m {memory} -numa node,memdev=memory",
        f"-object memory-backend-memfd,id=memory,size={memory},share=on",  # for virtiofsd
        f"-kernel {kernel.image} -initrd {kernel.initrd}",
        f"-chardev file,id=console,path={here}/{CONSOLE},append=on -serial chardev:console",
        f"-chardev file,id=reports,path={here}/{REPORTS},append=on -serial chardev:reports",
        f"-qmp unix:{here}/{MONITOR},server=on,wait=off",
        f"-chardev socket,id=share,path={here}/{SHARE}",
        "-device vhost-user-fs-pci,chardev=share,tag=host",
        f"-netdev tap,id=tests,fd={tap} -device virtio-net-pci,netdev=tests,mac={plan.mac}",
        f"-netdev user,id={CHANNEL},restrict=on -device virtio-net-pci,netdev={CHANNEL}",
    ]
    for number, file in enumerate(plan.disks):
        lines.append(f"-drive if=none,id=disk{number},format=raw,discard=unmap,file={file}")
        lines.append(f"-device virtio-blk-pci,drive=disk{number}")
    return ["qemu-system-x86_64", *" ".join(lines).split(), "-append", _boot_line(plan)]


def _boot_line(plan: Plan) -> str:
    """Return the kernel's; with -no-reboot, `panic=-1` has qemu end when the kernel panics."""
    # Without tsc, time is read from hpet: a system call, and qemu's one lock, each time.
    clock = ("tsc=reliable", "clocksource=tsc")
    # Both guard against attackers, who are not here, and take a sixth of the time.
    fast = ("mitigations=off", "init_on_alloc=0")
    words = ("quiet", "console=ttyS0", "panic=-1", "cgroup_no_v1=all", *clock, *fast)
    told = (f"{name}={value}" for name, value in plan.told.items())
    return " ".join((*words, *plan.kernel_words, *told))
