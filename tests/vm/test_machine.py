"""The virtual machines themselves: each verb, and that nothing of them stays."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e import errors, processes, vm
from e2e.clusters import commands

HOLD = """
import signal
from e2e import vm
with vm.network() as network, vm.Machine("victim", network, 0):
    print(network.number, flush=True)
    signal.pause()
"""
ANY = range(256)


@pytest.fixture(scope="module")
def machine(network: vm.Network) -> Iterator[vm.Machine]:
    with vm.Machine("node-x", network, 7) as running:
        yield running


def boot_id(machine: vm.Machine) -> str:
    return machine.read("/proc/sys/kernel/random/boot_id")


def reaches(machine: vm.Machine, address: str) -> bool:
    return machine.run("busybox", "ping", "-c1", "-W2", address, ok=ANY).exit_code == 0


def of_machines() -> set[str]:
    """Return what machines of this test's processes have on this host."""
    found = {p.command for p in processes.descendants(os.getpid()) if "rbdcsi-vm-" in p.command}
    links = {link.name for link in Path("/sys/class/net").glob("rbdcsi*")}
    return found | links


def test_machine_has_a_kernel_that_maps(machine: vm.Machine) -> None:
    machine.run("modprobe", "-a", "rbd", "nbd")

    assert machine.run("ls", "/sys/bus/rbd/add_single_major", "/dev/nbd0").text
    assert machine.run("hostname").text.strip() == "node-x"


def test_command_has_its_exit_code_output_and_input(machine: vm.Machine) -> None:
    done = machine.run("sh", "-c", "cat; echo bad >&2; exit 3", stdin=b"\0given", ok=(3,))

    assert (done.exit_code, done.stdout, done.stderr) == (3, b"\0given", b"bad\n")


def test_failed_command_is_an_error_with_its_words(machine: vm.Machine) -> None:
    with pytest.raises(errors.Failed, match="no such thing"):
        machine.run("sh", "-c", "echo no such thing >&2; false")
    with pytest.raises(errors.Failed, match="nothing-of-that-name"):
        machine.run("nothing-of-that-name")


def test_command_is_ended_at_its_deadline(machine: vm.Machine) -> None:
    with pytest.raises(errors.DeadlineExceeded):
        machine.run("sleep", "4711", seconds=1)

    assert machine.run("pgrep", "-f", "sleep 4711", ok=ANY).exit_code == 1


def test_root_is_the_hosts_and_what_is_written_stays_inside(
    machine: vm.Machine, tmp_path: Path
) -> None:
    machine.write(tmp_path / "written", "inside")

    assert machine.read(tmp_path / "written") == "inside"
    assert machine.read(__file__) == Path(__file__).read_text()
    assert not (tmp_path / "written").exists()


def test_cut_machine_reaches_nobody_and_still_obeys(
    machine: vm.Machine, network: vm.Network
) -> None:
    assert reaches(machine, network.host)
    machine.cut()
    assert not reaches(machine, network.host)
    machine.join()
    assert reaches(machine, network.host)


def test_frozen_machine_goes_on_where_it_was(machine: vm.Machine) -> None:
    before = boot_id(machine)
    machine.freeze()
    with pytest.raises(errors.DeadlineExceeded):
        machine.run("true", seconds=0.1)
    machine.thaw()

    assert boot_id(machine) == before


@pytest.mark.parametrize("power_fails", [False, True])
def test_only_disk_and_hardware_id_outlive_a_boot(machine: vm.Machine, power_fails: bool) -> None:
    before, hardware = boot_id(machine), machine.read("/sys/class/dmi/id/product_uuid")
    for directory in ("/run", "/etc", vm.KUBELET):
        machine.write(f"{directory}/note", "written")
    if power_fails:
        machine.run("sync")
        machine.kill()
        assert not machine.is_running
        machine.start()
    else:
        machine.reboot()

    assert boot_id(machine) != before
    assert machine.read("/sys/class/dmi/id/product_uuid") == hardware
    assert machine.run("ls", "/run/note", "/etc/note", ok=ANY).text == ""
    assert machine.read(f"{vm.KUBELET}/note") == "written"


def test_stopped_machine_starts_again(machine: vm.Machine) -> None:
    machine.stop()
    assert not machine.is_running
    machine.start()

    assert machine.run("echo", "here").text == "here\n"


def test_panic_is_on_the_console_and_ends_it(machine: vm.Machine) -> None:
    with contextlib.suppress(errors.Failed, errors.DeadlineExceeded, OSError):
        machine.run("sh", "-c", "echo c >/proc/sysrq-trigger", seconds=10)
    commands.wait_until(lambda: not machine.is_running, "the machine has ended")

    assert "sysrq triggered crash" in machine.console()
    machine.kill()
    machine.start()


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_is_left_also_when_the_body_fails(temporary: Path, fails: bool) -> None:
    before = of_machines(), set(temporary.iterdir())
    with contextlib.suppress(ArithmeticError), vm.network() as network:  # noqa: SIM117
        with vm.Machine("brief", network, 3):
            assert of_machines() > before[0]
            if fails:
                raise ArithmeticError

    assert (of_machines(), set(temporary.iterdir())) == before


def test_nothing_is_left_when_the_process_is_killed(temporary: Path) -> None:
    before = set(temporary.iterdir())
    with subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE) as holder:
        assert holder.stdout
        number = int(holder.stdout.readline())
        links = Path(f"/sys/class/net/rbdcsi{number}")
        children = processes.descendants(holder.pid)
        assert links.exists()
        assert {"qemu-system-x86_64", "virtiofsd"} <= {
            Path(child.command.split()[0]).name for child in children
        }
        holder.send_signal(signal.SIGKILL)

    def gone() -> bool:
        running = {process.pid for process in processes.running()}
        left = {child.pid for child in children} & running
        return not (left or links.exists() or set(temporary.iterdir()) - before)

    commands.wait_until(gone, "everything of the killed process is gone", 20)
