"""Which node plugins live: each watches an object of its node, and answers what is asked there.

A plugin that answers lives. The absence of an answer proves nothing: the machine may be frozen, or
cut off from Ceph for a while.
"""

import json
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass

from rbdcsi.ceph import omap, watch
from rbdcsi.ceph.connection import Ioctx
from rbdcsi.nodes import freeze_messages
from rbdcsi.nodes.freeze_messages import FreezeAnswer, FreezeOrder

_RELEASE_SECONDS = 0.5  # a living plugin answers within milliseconds, and a fail-over waits for it


@dataclass(frozen=True)
class Question:
    """Who are you; and by `release`, a volume handle: release that volume if no workload uses it.

    `freeze` is to freeze the filesystem of a volume, or to thaw it.
    """

    release: str | None = None
    freeze: FreezeOrder | None = None


@dataclass(frozen=True)
class Answer:
    """A living plugin's answer; `will_release` is whether it begins to release the volume.

    `freeze` answers an order to freeze; None if there was none, or if the plugin's driver is of
    before there were such orders.
    """

    machine_id: str
    boot_id: str
    will_release: bool = False
    freeze: FreezeAnswer | None = None


@dataclass(frozen=True)
class Answers:
    """The answers to a question, and the number of plugins that watch but did not answer."""

    answers: tuple[Answer, ...]
    silent: int


def object_name(node_id: str) -> str:
    """Return the name of the object that the node's plugin watches."""
    return f"rbdcsi.node.{urllib.parse.quote(node_id, safe='')}"


def watch_for(
    node_id: str, answer: Callable[[Question], Answer], broke: Callable[[], None]
) -> watch.Watch:
    """Return the watch of a node's plugin.

    Args:
        node_id: the node.
        answer: answers a question at once, without calling Ceph.
        broke: called when Ceph has ended the watch; see `Watch`.
    """

    def reply(message: bytes) -> str:
        # A newer driver's question is answered as far as this one knows it.
        asked = json.loads(message)
        question = Question(asked.get("release"), freeze_messages.order(asked.get("freeze")))
        return _encoded(answer(question))

    return watch.Watch(object_name(node_id), reply, broke)


def ask(home: Ioctx, node_id: str, question: Question) -> Answers:
    """Ask the plugins that watch this node's object; there are several only by mistake.

    Args:
        home: the home location of the cluster.
        node_id: the node.
        question: what to ask.

    Raises:
        Unavailable: Ceph does not answer.
    """
    freeze = question.freeze and question.freeze.encode()
    message = json.dumps({"release": question.release, "freeze": freeze})
    patience = _RELEASE_SECONDS if question.release else None
    replies = watch.notify(home, object_name(node_id), message, patience=patience)
    answers = tuple(answer for each in replies.answers if (answer := _decoded(each)))
    return Answers(answers, replies.silent + len(replies.answers) - len(answers))


def lives(home: Ioctx, node_id: str) -> bool:
    """Return whether a plugin of this node watches; one that does not answer may be frozen.

    Raises:
        Unavailable: Ceph does not answer.
    """
    answers = ask(home, node_id, Question())
    return bool(answers.answers or answers.silent)


def retire(home: Ioctx, node_id: str) -> None:
    """Remove the object that the node's plugin watched; a plugin that still runs makes it again."""
    omap.remove(home, object_name(node_id))


def _encoded(answer: Answer) -> str:
    facts = {
        "machine_id": answer.machine_id,
        "boot_id": answer.boot_id,
        "will_release": answer.will_release,
        "freeze": answer.freeze and answer.freeze.encode(),
    }
    return json.dumps(facts)


def _decoded(reply: bytes) -> Answer | None:
    try:
        facts = json.loads(reply)
        return Answer(
            facts["machine_id"],
            facts["boot_id"],
            facts["will_release"],
            freeze_messages.answer(facts.get("freeze")),
        )
    except (ValueError, KeyError, TypeError):
        return None
