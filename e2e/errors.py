"""Errors of the test bed, so that none of the driver's own can be taken for one of these."""


class BedError(Exception):
    """Base of every error that the test bed raises."""


class Failed(BedError):
    """A tool, a daemon or a check of the test bed failed."""


class DeadlineExceeded(BedError):
    """A tool did not end, or a fact did not come true, in time."""


class Unavailable(BedError):
    """The test bed lacks a program, a file or a right that it needs."""


class NotOurs(Unavailable):
    """The test bed would have to change what it only uses, such as an existing cluster."""


class Exhausted(BedError):
    """Every port or network that could be taken is in use."""
