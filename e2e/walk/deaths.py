"""Kills drivers by chance, at any moment or right after a step, and starts them again."""

import random
import re
import threading
from collections.abc import Sequence
from pathlib import Path

import rbdcsi
from e2e.driver import Driver
from e2e.walk.world import World

_PAUSE = (0.5, 3.0)  # seconds, at least and at most
_STEP = re.compile(r'steps\.done\(\s*"([a-z.]+)"')


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
        self._steps = steps()

    def run(self, ending: threading.Event) -> None:
        """Kill and start drivers until `ending` is set; all run after that."""
        while not ending.wait(self._chance.uniform(*_PAUSE)):
            for driver in self._drivers:
                if driver.process and driver.process.poll() is not None:
                    self._again(driver, "")
            step = self._chance.choice(self._steps) if self._chance.random() < 0.5 else ""
            self._again(self._chance.choice(self._drivers), step)
        for driver in self._drivers:
            self._again(driver, "")

    def _again(self, driver: Driver, step: str) -> None:
        self.count += 1
        driver.kill()
        self._world.note(f"killed {driver.name}, starts again, dies after {step or 'no step'}")
        try:
            driver.start(kill_after=step)
        except AssertionError:
            if not step or driver.runs():
                raise
            driver.start()  # it did the step while it started
