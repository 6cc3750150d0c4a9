"""Findings, and how they are made from facts. Pure."""

import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from rbdcsi.operator.facts import Cluster, LocationFacts


@dataclass(frozen=True)
class Finding:
    """Something that does not mend itself.

    Attributes:
        kind: the name of the rule, which does not change between versions.
        cluster: the clusterID.
        object: the volume handle, node id, client address or location that it is about.
        wrong: what is wrong.
        hinders: what it hinders or endangers.
        remedy: what mends it, for a person.
        commands: the commands that do so, in their order; none if none is certain.
    """

    kind: str
    cluster: str
    object: str
    wrong: str
    hinders: str
    remedy: str
    commands: tuple[str, ...] = ()

    @property
    def identity(self) -> tuple[str, str, str, tuple[str, ...]]:
        """What makes two findings the same one, though their texts may differ."""
        return self.kind, self.cluster, self.object, self.commands


Rule: TypeAlias = Callable[[Cluster], Iterator[Finding]]


def examine(clusters: Iterable[Cluster], rules: Sequence[Rule]) -> list[Finding]:
    """Return the findings of all rules in all clusters."""
    return [finding for cluster in clusters for rule in rules for finding in rule(cluster)]


def lasting(before: Iterable[Finding], after: Iterable[Finding]) -> list[Finding]:
    """Return the findings of the second look that were in the first one, too."""
    identities = {finding.identity for finding in before}
    return [finding for finding in after if finding.identity in identities]


def command(*words: object) -> str:
    """Return a command line that a shell can read."""
    return shlex.join(str(word) for word in words)


def rados(location: LocationFacts, *words: object) -> str:
    """Return the command line of `rados` in a location."""
    namespace = ("--namespace", location.id.namespace) if location.id.namespace else ()
    return command("rados", "--pool", location.pool, *namespace, *words)
