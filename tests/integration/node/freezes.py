"""Freezes a volume's filesystem at a node as a controller does, which may die then."""

import secrets
import subprocess
from pathlib import Path

from e2e.clusters import commands
from e2e.driver import Driver
from e2e.volume import Volume
from rbdcsi.nodes import presence
from rbdcsi.nodes.freeze_messages import FreezeAnswer, FreezeOrder, FreezeState
from tests.integration.node.lab import Lab, node_id


def is_frozen(path: Path) -> bool:
    """Return whether the filesystem is frozen; one that is not is frozen for a moment."""
    freezing = subprocess.run(["fsfreeze", "-f", path], check=False, capture_output=True)
    if freezing.returncode == 0:
        subprocess.run(["fsfreeze", "-u", path], check=True)
    return freezing.returncode != 0


def order(lab: Lab, node: Driver, token: str, made: Volume, *, thaw: bool = False) -> FreezeAnswer:
    """Order a freeze as a controller does, and return the answer."""
    question = presence.Question(freeze=FreezeOrder(made.id, token, thaw))
    (answer,) = presence.ask(lab.ioctx, node_id(node), question).answers
    assert answer.freeze
    return answer.freeze


def freeze(lab: Lab, node: Driver, made: Volume) -> str:
    """Freeze the volume as a controller does that dies then; return the token."""

    def answers() -> bool:  # the watch of a plugin that was killed hides the answers of the next
        return bool(presence.ask(lab.ioctx, node_id(node), presence.Question()).answers)

    commands.wait_until(answers, "the plugin answers")
    token = secrets.token_hex(8)
    commands.wait_until(
        lambda: order(lab, node, token, made).state is FreezeState.FROZEN, "it is frozen"
    )
    return token


def wait_until_lost(lab: Lab, node: Driver, token: str, made: Volume) -> None:
    """Return when the answer is that the filesystem was thawed before the order came."""
    commands.wait_until(
        lambda: order(lab, node, token, made, thaw=True).state is FreezeState.LOST, "it is lost"
    )
