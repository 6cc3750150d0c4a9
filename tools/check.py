"""What a change has to pass before it lands, part by part: `.ci/run` calls it.

What takes long is cut into shards (`tests/shards.py`), of which a run has one, chosen by the number
of commits: so many landings as there are shards run all of them.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from e2e import processes
from tests.shards import SHARDS

ROOT = Path(__file__).parents[1]
LOG = ROOT / "build/prepare.log"
# sched(7): where the kernel groups processes by session, nice alone counts within the session only.
_NICELY = 'echo 10 >"/proc/$$/autogroup"; exec nice -n 10 "$0" "$@"'
# buildah's own mount namespaces would copy the mounts of tests, whose devices then stay busy.
_APART = ("unshare", "--mount", "--propagation", "private")

# So few failures may be those of tests that other work on a small machine has disturbed: they are
# run once more, alone. What fails again, or in greater numbers, fails the check.
_MOST_REPEATED = 5

# pytest's last line: `=== 57 passed, 2 skipped in 408.12s (0:06:48) ===`
_CLOSING = re.compile(r"=* ?((?:\d+ [a-z]+(?:, )?)+ in [\d.]+s.*?)(?: =+)?")


@dataclass(frozen=True)
class Part:
    """A part of the check.

    Attributes:
        name: for the table at the end.
        command: from the project's root.
        minutes: how long it takes on two quiet cores with a full cache.
        has_tests: whether it runs pytest, which then has to pass some tests.
        again: runs the tests that failed alone, then what the command had left; none if empty.
    """

    name: str
    command: Sequence[str]
    minutes: float
    has_tests: bool = True
    again: Sequence[str] = ()


@dataclass(frozen=True)
class Outcome:
    """How a part ended: seconds, and the last line of each pytest in it."""

    part: Part
    passed: bool
    seconds: float
    closing: Sequence[str]

    def __str__(self) -> str:
        verdict = "passed" if self.passed else "FAILED"
        times = f"{self.seconds / 60:5.1f} min (usually {self.part.minutes:g})"
        return "\n    ".join([f"{verdict}  {self.part.name:12} {times}", *self.closing])


def parts(shard: str) -> Sequence[Part]:
    """Return the parts of a run with that shard, in their order."""
    mark = SHARDS[shard].mark
    of = {each: shard if each == mark else "" for each in ("vm", "kubernetes")}
    return (
        Part("demo", ("make", "demo"), 0.2, has_tests=False),
        Part("tests", ("make", "test"), 25, again=("make", "test-again")),
        Part("image", ("make", "test-image"), 3),
        Part("machines", ("make", "smoke-vm", f"SHARD={of['vm']}"), 4),
        Part("builds", _builds(shard), 0, has_tests=False),
        Part("kubernetes", ("make", "smoke-kubernetes", f"SHARD={of['kubernetes']}"), 5),
    )


def shard_of_this_commit() -> str:
    """Return the name of the shard whose turn it is.

    A clone that was cut off (`git clone --depth`) does not know the number of commits; there the
    commit's own name decides, which is as good as a dice. Without git the day decides.
    """
    try:
        number = int(_git("rev-list", "--count", "HEAD"))
        if _git("rev-parse", "--is-shallow-repository") == "true":
            number = int(_git("rev-parse", "HEAD"), 16)
    except (OSError, subprocess.CalledProcessError):
        number = int(time.time()) // 86400
    return list(SHARDS)[number % len(SHARDS)]


def run(part: Part) -> Outcome:
    """Run the part, and if few of its tests fail, these once more."""
    outcome = _run(part, part.command)
    if outcome.passed or not part.again or not 0 < _failures(outcome) <= _MOST_REPEATED:
        return outcome
    again = _run(part, part.again)
    closing = [*outcome.closing, "what failed was run once more, alone:", *again.closing]
    return Outcome(part, again.passed, outcome.seconds + again.seconds, closing)


def _failures(outcome: Outcome) -> int:
    """Return how many tests pytest counted as failed, or as errors."""
    counted = re.findall(r"(\d+) (?:failed|errors?)\b", "\n".join(outcome.closing))
    return sum(map(int, counted))


def _run(part: Part, command: Sequence[str]) -> Outcome:
    """Run one of the part's commands to its end, showing what it prints."""
    print(f"\n----- {part.name}: {' '.join(command)}", flush=True)
    begin = time.monotonic()
    closing = []
    with subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as child:
        assert child.stdout
        for line in child.stdout:
            print(line, end="", flush=True)
            if last := _CLOSING.fullmatch(line.rstrip()):
                closing.append(last[1])
    tested = bool(closing) and all(" passed" in line for line in closing)
    if part.has_tests and not tested:
        closing.append("a pytest with no test that passed")
    passed = child.returncode == 0 and (tested or not part.has_tests)
    return Outcome(part, passed, time.monotonic() - begin, closing)


def main() -> int:
    """Run the parts up to the first that fails; returns the exit code."""
    shard = shard_of_this_commit()
    number, count = list(SHARDS).index(shard) + 1, len(SHARDS)
    said = f"Of the long tests this run has shard {number} of {count}: {shard}."
    print(said, flush=True)
    demo, *others = parts(shard)
    outcomes = [run(demo)]  # alone: a namespace that a build makes would keep its devices busy
    if outcomes[0].passed:
        with _building(shard):
            for part in others:
                outcomes.append(run(part))
                if not outcomes[-1].passed:
                    break
    print(f"\n{said}", *outcomes, sep="\n")
    print(f"{sum(each.seconds for each in outcomes) / 60:.1f} min in all")
    return 0 if all(each.passed for each in outcomes) else 1


@contextlib.contextmanager
def _building(shard: str) -> Iterator[None]:
    """Build what Kubernetes needs beside the body.

    A part that needs some of it sooner waits for that. A build that fails is done again by the part
    "builds", which then says why.
    """
    LOG.parent.mkdir(exist_ok=True)
    with contextlib.closing(processes.Spawner("builds")) as spawner:
        child = spawner.spawn([*_APART, "sh", "-c", _NICELY, *_builds(shard)], LOG)
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGTERM)
            child.wait()


def _builds(shard: str) -> Sequence[str]:
    suite = "suite" if shard.startswith("suite") else ""
    return ("make", "-C", str(ROOT), "prepare-kubernetes", f"PREPARE={suite}")


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
