"""Kills drivers by chance, at any moment or right after a step, and starts them again."""

import contextlib
import os
import random
import re
import signal
import threading
from collections.abc import Sequence
from pathlib import Path

import rbdcsi
from e2e import processes
from e2e.driver import Driver
from e2e.walk.world import World

_PAUSE = (0.5, 3.0)  # seconds, at least and at most
_TOGETHER = 0.4  # of a node's deaths: with the child that has a filesystem frozen
OF_ROLLBACK = "rollback."  # steps of the operator's command begin with it
_OF_FREEZE = "freeze."  # those of a node that freezes, which would be hit too seldom
_STEP = re.compile(r'steps\.done\(\s*"([a-z_.]+)"')


def steps() -> list[str]:
    """Return the names of the driver's steps."""
    sources = Path(rbdcsi.__file__).parent.rglob("*.py")
    return sorted({name for file in sources for name in _STEP.findall(file.read_text())})


class Deaths:
    """Kills and starts drivers; `count` is how many died."""

    def __init__(self, world: World, drivers: Sequence[Driver], chance: random.Random) -> None:
        self.count = 0
        self._world = world
        self._drivers = drivers
        self._chance = chance
        self._steps = [step for step in steps() if not step.startswith(OF_ROLLBACK)]

    def run(self, ending: threading.Event) -> None:
        """Kill and start drivers until `ending` is set; all run after that."""
        while not ending.wait(self._chance.uniform(*_PAUSE)):
            for driver in self._drivers:
                if driver.process and driver.process.poll() is not None:
                    self._again(driver, "")
            step = self._step() if self._chance.random() < 0.5 else ""
            self._again(self._chance.choice(self._drivers), step)
        for driver in self._drivers:
            self._again(driver, "")

    def _step(self) -> str:
        freezes = [step for step in self._steps if step.startswith(_OF_FREEZE)]
        return self._chance.choice(freezes if self._chance.random() < 0.3 else self._steps)

    def _again(self, driver: Driver, step: str) -> None:
        self.count += 1
        self._kill(driver)
        self._world.note(f"killed {driver.name}, starts again, dies after {step or 'no step'}")
        try:
            driver.start(kill_after=step)
        except AssertionError:
            if not step or driver.runs():
                raise
            driver.start()  # it did the step while it started

    def _kill(self, driver: Driver) -> None:
        """Kill a driver, as a container's end does it with the child that freezes, or alone."""
        children = []
        if driver.runs() and self._chance.random() < _TOGETHER:
            family = processes.descendants(driver.pid)
            children = [each.pid for each in family if "freeze_child" in each.command]
        for child in children:
            _signal(child, signal.SIGSTOP)  # it would thaw
        driver.kill()
        for child in children:
            self._world.count("freezing child killed")
            _signal(child, signal.SIGKILL)


def _signal(child: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, number)
