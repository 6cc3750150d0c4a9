"""The doctor: facts → findings, each with what is wrong, what it hinders, and what mends it.

Each rule is a pure function of a cluster's facts. A state that passes by itself, such as that of an
image which is just being mapped, is no finding: `findings.lasting` compares two looks.
"""

from rbdcsi.operator.doctor import (
    about_clones,
    about_fences,
    about_locations,
    about_nodes,
    about_snapshots,
    about_volumes,
)

RULES = (
    *about_locations.RULES,
    *about_nodes.RULES,
    *about_volumes.RULES,
    *about_clones.RULES,
    *about_snapshots.RULES,
    *about_fences.RULES,
)
