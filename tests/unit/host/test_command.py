import os
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest

from e2e import processes
from e2e.clusters import commands
from rbdcsi import errors
from rbdcsi.host import command
from rbdcsi.host.kernel import memfd
from rbdcsi.runtime import deadlines


def test_output_exit_code_and_both_streams_come_back() -> None:
    done = command.run(("sh", "-c", "echo out; echo err >&2; exit 3"), seconds=5, ok=(0, 3))

    assert (done.exit_code, done.text, done.stderr) == (3, "out\n", b"err\n")


def test_other_exit_code_is_a_failure_with_command_code_and_last_words() -> None:
    with pytest.raises(command.CommandFailed) as caught:
        command.run(("sh", "-c", "echo cause >&2; exit 7"), seconds=5)

    assert caught.value.exit_code == 7
    assert "exit code 7" in str(caught.value)
    assert "cause" in str(caught.value)
    assert isinstance(caught.value, errors.Failed)


def test_of_many_words_the_first_and_the_last_are_kept() -> None:
    script = "echo first cause; seq 2000; echo last words"
    with pytest.raises(command.CommandFailed) as caught:
        command.run(("sh", "-c", f"({script}) >&2; exit 1"), seconds=5)

    said = str(caught.value)
    assert "it said: first cause\n1\n" in said
    assert said.endswith("2000\nlast words")
    assert len(said) < 500


def test_message_has_step_and_cause_and_no_long_argument() -> None:
    argument = '{"driver": "rbd", "pool": "volumes", "image": "image-1", "user": "node"}'
    script = 'echo "tool: --blockdev $0: no such image" >&2; exit 1'
    with pytest.raises(command.CommandFailed) as caught:
        command.run(("sh", "-c", script, argument), seconds=5, step="exporting volumes/image-1")

    assert str(caught.value) == (
        "exporting volumes/image-1: exit code 1; it said: tool: --blockdev …: no such image"
    )


def test_message_about_time_has_the_step() -> None:
    with pytest.raises(command.CommandTimedOut) as caught:
        command.run(("sleep", "600"), seconds=0.2, step="mounting ext4 of /dev/rbd0")

    assert str(caught.value).startswith("mounting ext4 of /dev/rbd0: not finished after")


def test_missing_program_is_a_failure_that_names_it() -> None:
    with pytest.raises(command.CommandFailed, match="no-such-program") as caught:
        command.run(("no-such-program",), seconds=5)

    assert caught.value.exit_code == 127


def test_nul_in_an_argument_is_a_failure_and_no_crash() -> None:
    with pytest.raises(command.CommandFailed):
        command.run(("echo", "a\0b"), seconds=5)


def test_late_child_and_its_own_children_are_killed(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    script = f"sleep 600 & echo $! > {pid_file}; wait"

    with pytest.raises(command.CommandTimedOut) as caught:
        command.run(("sh", "-c", script), seconds=0.5)

    assert isinstance(caught.value, errors.DeadlineExceeded)
    assert _has_ended(int(pid_file.read_text()))


def test_callers_deadline_is_shorter_than_the_commands() -> None:
    with deadlines.within(0.2), pytest.raises(command.CommandTimedOut):
        command.run(("sleep", "600"), seconds=600)


def test_nothing_is_started_after_the_callers_deadline(tmp_path: Path) -> None:
    with deadlines.within(0), pytest.raises(errors.DeadlineExceeded):
        command.run(("touch", str(tmp_path / "started")), seconds=5)

    assert not (tmp_path / "started").exists()


def test_child_speaks_english_and_leads_a_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    script = "import os; print(os.environ['LC_ALL'], os.getsid(0) == os.getpid())"

    assert command.run((sys.executable, "-c", script), seconds=10).text == "C True\n"


def test_input_is_empty_unless_given() -> None:
    assert command.run(("cat",), seconds=5).stdout == b""
    assert command.run(("cat",), seconds=5, stdin=b"told").stdout == b"told"


def test_descriptors_are_closed_in_the_child_unless_passed() -> None:
    with memfd.containing("content") as fd:
        assert command.run(("cat", memfd.path(fd)), seconds=5, pass_fds=(fd,)).text == "content"
        with pytest.raises(command.CommandFailed):
            command.run(("cat", memfd.path(fd)), seconds=5)


PLUGIN = """
import sys
from rbdcsi.host import command
command.run(("sh", "-c", 'echo $$ >"$0"; exec sleep 600', sys.argv[1]), seconds=600,
            outlives_plugin=sys.argv[2] == "daemon")
"""


@pytest.mark.parametrize("kind", ["child", "daemon"])
def test_child_dies_with_the_plugin_and_a_daemon_lives_on(tmp_path: Path, kind: str) -> None:
    pid_file = tmp_path / "pid"
    with processes.start((sys.executable, "-c", PLUGIN, str(pid_file), kind), 2) as plugin:
        commands.wait_until(lambda: bool(_text(pid_file)), "the child runs")
        pid = int(_text(pid_file))
        plugin.kill()
        plugin.wait()
    if kind == "child":
        assert _has_ended(pid)
    else:
        assert Path(f"/proc/{pid}").exists()
        os.kill(pid, signal.SIGKILL)


def test_child_with_the_setuid_bit_dies_with_the_plugin(tmp_path: Path) -> None:
    """mount(8) has it; the kernel forgets the signal if such a program gains rights by it."""
    sleep, pid_file = tmp_path / "sleep", tmp_path / "pid"
    shutil.copy(str(shutil.which("sleep")), sleep)
    sleep.chmod(0o4755)
    plugin_text = PLUGIN.replace("exec sleep", f"exec {sleep}")
    with processes.start((sys.executable, "-c", plugin_text, str(pid_file), "child"), 2) as plugin:
        commands.wait_until(lambda: bool(_text(pid_file)), "the child runs")
        plugin.kill()
        plugin.wait()
    assert _has_ended(int(_text(pid_file)))


def test_child_does_not_start_if_the_plugin_died_before_the_kernel_knew(tmp_path: Path) -> None:
    pid_file, started, gate = tmp_path / "pid", tmp_path / "started", tmp_path / "gate"
    late = tmp_path / "setpriv"
    late.write_text(
        f"#!/bin/sh\necho $$ >{pid_file}; while [ ! -e {gate} ]; do sleep 0.01; done\n"
        f'exec {shutil.which("setpriv")} "$@"\n'
    )
    late.chmod(0o755)
    plugin_text = f"import os; os.environ['PATH'] = {str(tmp_path)!r} + ':' + os.environ['PATH']"
    argv = (sys.executable, "-c", f"{plugin_text}\n{PLUGIN}", str(started), "child")
    with processes.start(argv, 2) as plugin:
        commands.wait_until(lambda: bool(_text(pid_file)), "the child is about to start")
        plugin.kill()
        plugin.wait()
    gate.touch()

    assert _has_ended(int(_text(pid_file)))
    assert not started.exists()


def test_message_names_the_program_without_the_path_that_it_was_started_by() -> None:
    with pytest.raises(command.CommandFailed) as caught:
        command.run(("dd", "if=/never"), seconds=5)

    assert caught.value.stderr.startswith("dd: failed to open '/never'")


def test_bytes_that_are_no_text_survive() -> None:
    assert os.fsencode(command.run(("printf", r"\377"), seconds=5).text) == b"\xff"


def _text(file: Path) -> str:
    return file.read_text().strip() if file.exists() else ""


def _has_ended(pid: int) -> bool:
    """Tell whether the process is gone or a zombie, which waits for this machine's init."""
    ends_at = time.monotonic() + 5
    while time.monotonic() < ends_at:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.01)
    return False
