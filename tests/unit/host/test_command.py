import os
import sys
import time
from pathlib import Path

import pytest

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
    assert len(said) < 1000


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


def test_bytes_that_are_no_text_survive() -> None:
    assert os.fsencode(command.run(("printf", r"\377"), seconds=5).text) == b"\xff"


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
