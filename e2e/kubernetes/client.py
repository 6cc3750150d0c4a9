"""A Kubernetes as its users meet it: through kubectl and a kubeconfig, ours or anybody's."""

import contextlib
import json
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e import errors
from e2e.clusters import commands

Object = Mapping[str, Any]

_PAUSE = 0.5  # seconds: a look at a fact takes a tenth of one in kubectl alone


@dataclass(frozen=True)
class Kubernetes:
    """How to reach one Kubernetes.

    Attributes:
        kubeconfig: with the rights of an administrator.
        program: kubectl.
    """

    kubeconfig: Path
    program: Path

    def kubectl(self, *words: str, stdin: str = "", timeout: float = 60) -> str:
        """Run `kubectl WORDS` and return its output.

        Args:
            words: verb and arguments.
            stdin: what it reads, such as manifests.
            timeout: seconds, then it is killed.

        Raises:
            Failed: it ended with another exit code than 0; the message is what it said.
            DeadlineExceeded: it did not end in time.
        """
        argv = [str(self.program), f"--kubeconfig={self.kubeconfig}", *words]
        try:
            done = subprocess.run(
                argv, input=stdin, capture_output=True, text=True, timeout=timeout, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise errors.DeadlineExceeded(
                f"`kubectl {' '.join(words)}` did not end within {timeout:g} s"
            ) from error
        if done.returncode:
            raise errors.Failed(f"`kubectl {' '.join(words)}`: {done.stderr.strip()}")
        return done.stdout

    def apply(self, *objects: Object) -> None:
        """Create the objects, or change them to be so."""
        documents = "\n---\n".join(json.dumps(each) for each in objects)
        self.kubectl("apply", "-f", "-", stdin=documents)

    def get(self, kind: str, name: str, namespace: str = "") -> Object | None:
        """Return the object, or None if there is none of that name."""
        where = ["-n", namespace] if namespace else []
        flags = ["--ignore-not-found", "-o", "json"]
        text = self.kubectl("get", kind, name, *where, *flags)
        return json.loads(text) if text else None

    def list(self, kind: str, namespace: str = "", selector: str = "") -> Iterable[Object]:
        """Return the objects of a kind: of a namespace, or of all."""
        where = ["-n", namespace] if namespace else ["-A"]
        chosen = ["-l", selector] if selector else []
        found: Object = json.loads(self.kubectl("get", kind, *where, *chosen, "-o", "json"))
        items: Iterable[Object] = found["items"]
        return items

    def delete(self, kind: str, name: str, namespace: str = "", timeout: float = 300) -> None:
        """Delete the object and return when it is gone; gone already is fine."""
        where = ["-n", namespace] if namespace else []
        flags = ["--ignore-not-found", f"--timeout={timeout:g}s"]
        self.kubectl("delete", kind, name, *where, *flags, timeout=timeout + 10)

    def wait(self, fact: Callable[[], bool], what: str, timeout: float = 300) -> None:
        """Return when the fact is true; on a timeout the error has the latest events."""
        with self._events_in_errors():
            commands.wait_until(fact, what, timeout, _PAUSE)

    def wait_for(
        self, kind: str, name: str, condition: str, namespace: str = "", timeout: float = 300
    ) -> None:
        """Return as soon as the object is there and meets the condition.

        Args:
            kind: such as "pod".
            name: the object's.
            condition: as `kubectl wait --for` has it; "delete" is not one.
            namespace: the object's.
            timeout: seconds for each of both.

        Raises:
            Failed: it does not; the message is that of kubectl, with the latest events.
        """
        where = ["-n", namespace] if namespace else []
        flags = [f"{kind}/{name}", *where, f"--timeout={timeout:g}s"]
        with self._events_in_errors():
            for each in ("create", condition):
                self.kubectl("wait", f"--for={each}", *flags, timeout=timeout + 10)

    @contextlib.contextmanager
    def _events_in_errors(self) -> Iterator[None]:
        try:
            yield
        except (errors.DeadlineExceeded, errors.Failed) as error:
            error.add_note(self.kubectl("get", "events", "-A", "--sort-by=.lastTimestamp")[-4000:])
            raise
