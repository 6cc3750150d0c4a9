"""The kinds of values that options take, and rules between the options of one list; pure.

A kind refuses only values that no node takes: a volume of such a class can never be staged, and the
class cannot be changed. Where programs or kernels differ, it accepts those that any of them takes.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

_FACTORS = {"": 1, "b": 1, **{unit: 1 << 10 * (power + 1) for power, unit in enumerate("kmgtpe")}}


class Values(ABC):
    """The values that an option takes."""

    @abstractmethod
    def words(self) -> str:
        """The values in words, such as "a number from 1 to 8"."""

    @abstractmethod
    def takes(self, value: str) -> bool:
        """Return whether the option takes that value; an empty one is none."""

    def mistake(self, value: str) -> str | None:
        """Return a sentence about a value that the option does not take, otherwise None."""
        return None if self.takes(value) else f"the value must be {self.words()}"


Allowed = Mapping[str, Values | None]  # options by name; None: the option has no value


class Choice(Values):
    """One of a few words, of which the empty one is no value."""

    def __init__(self, *names: str) -> None:
        self._names = names

    def words(self) -> str:
        """See `Values.words`."""
        *others, last = (name or "nothing" for name in self._names)
        return f"{', '.join(others)} or {last}" if others else last

    def takes(self, value: str) -> bool:
        """See `Values.takes`."""
        return value in self._names


NOTHING = Choice("")
FLAG = Choice("0", "1")
OPTIONAL_FLAG = Choice("", "0", "1")


@dataclass(frozen=True)
class Text(Values):
    """A text that matches a pattern."""

    pattern: str
    meaning: str

    def words(self) -> str:
        """See `Values.words`."""
        return self.meaning

    def takes(self, value: str) -> bool:
        """See `Values.takes`."""
        return re.fullmatch(self.pattern, value, re.ASCII) is not None


def label(longest: int) -> Text:
    """Return the kind of a filesystem's label of so many characters."""
    words = f"1 to {longest} of A-Z a-z 0-9 . _ - that begin with no -"
    return Text(f"[A-Za-z0-9_.][A-Za-z0-9_.-]{{0,{longest - 1}}}", words)


@dataclass(frozen=True)
class Number(Values):
    """A whole number.

    Attributes:
        least: the smallest one.
        most: the largest one.
        units: the letters of which one may follow it, in lower case. xfs has other options that
            decide the size of `b` (block) and `s` (sector), so such a number may be any.
        multiple_of: it is a multiple of this one.
        power_of_2: it is a power of two.
    """

    least: int
    most: int
    units: str = ""
    multiple_of: int = 1
    power_of_2: bool = False

    def words(self) -> str:
        """See `Values.words`."""
        kind = "a power of two" if self.power_of_2 else "a number"
        kind = kind if self.multiple_of == 1 else f"a multiple of {self.multiple_of}"
        units = f", or with one of the units {' '.join(self.units)}" if self.units else ""
        return f"{kind} from {self.least} to {self.most}{units}"

    def takes(self, value: str) -> bool:
        """See `Values.takes`."""
        match = re.fullmatch("([0-9]{1,20})([a-z]?)", value.lower(), re.ASCII)
        if match is None or match[2] not in ("", *self.units):
            return False
        if match[2] in {"b", "s"} or (match[1].startswith("0") and match[1] != "0"):
            return True  # some programs take a number that begins with 0 for octal
        number = in_bytes(value)
        return (
            self.least <= number <= self.most
            and number % self.multiple_of == 0
            and not (self.power_of_2 and number & (number - 1))
        )


def in_bytes(value: str) -> int:
    """Return the number of bytes of a size such as `64k`, with btrfs's meaning of the unit `b`."""
    digits = value.rstrip("bkmgtpeBKMGTPE")
    return int(digits) * _FACTORS[value[len(digits) :].lower()]


class Either(Values):
    """A value of one of several kinds."""

    def __init__(self, *kinds: Values) -> None:
        self._kinds = kinds

    def words(self) -> str:
        """See `Values.words`."""
        return " or ".join(kind.words() for kind in self._kinds)

    def takes(self, value: str) -> bool:
        """See `Values.takes`."""
        return any(kind.takes(value) for kind in self._kinds)


class Items(Values):
    """Items with commas between them, each a name, or a name and a value."""

    def __init__(self, items: Allowed) -> None:
        self._items = items

    def words(self) -> str:
        """See `Values.words`."""
        return f"a list of {', '.join(self._items)}"

    def takes(self, value: str) -> bool:
        """See `Values.takes`."""
        return self.mistake(value) is None

    def mistake(self, value: str) -> str | None:
        """See `Values.mistake`."""
        if not value:
            return f"the value must be {self.words()}"
        for item in value.split(","):
            name, equals, text = item.partition("=")
            if name not in self._items:
                return f"{name!r} is none of {', '.join(self._items)}"
            if mistake := mistake_of(self._items[name], text if equals else None):
                return f"{name}: {mistake}"
        return None


def flags(names: str) -> Allowed:
    """Return these options, none of which has a value."""
    return dict.fromkeys(names.split())


def valued(values: Values, names: str) -> Allowed:
    """Return these options, all of which take the same values."""
    return dict.fromkeys(names.split(), values)


def mistake_of(values: Values | None, value: str | None) -> str | None:
    """Return a sentence about the mistake in an option's value, None if there is none.

    Args:
        values: the values that the option takes; None: it has no value.
        value: the value; None: the option stands alone.
    """
    if values is None:
        return None if value is None else "it takes no value"
    if value == "":
        return f"no value follows; {values.mistake('') or 'leave the = out'}"
    return values.mistake(value or "")


class Rule(NamedTuple):
    """A rule between two settings of one list. A setting is an option with its value, if any."""

    setting: str  # a pattern
    other: str  # a pattern
    needed: bool  # the setting needs the other one; otherwise it excludes it
    words: str  # the other one for the message


def needs(setting: str, other: str, words: str) -> Rule:
    """Return the rule that a setting is possible only with another one.

    Args:
        setting: a pattern of it.
        other: a pattern of the other one.
        words: the other one for the message.
    """
    return Rule(setting, other, needed=True, words=words)


def excludes(setting: str, other: str, words: str) -> Rule:
    """Return the rule that a setting is possible only without another one; see `needs`."""
    return Rule(setting, other, needed=False, words=words)


def broken(rules: Iterable[Rule], settings: Sequence[str]) -> str | None:
    """Return a sentence about the first rule that the settings break, None if there is none."""
    for rule in rules:
        has_other = any(re.fullmatch(rule.other, each) for each in settings)
        setting = next((each for each in settings if re.fullmatch(rule.setting, each)), None)
        if setting is None or has_other == rule.needed:
            continue
        if rule.needed:
            return f"{setting!r} needs {rule.words}; add it, or leave {setting!r} out"
        return f"{setting!r} does not go with {rule.words}; leave one of them out"
    return None
