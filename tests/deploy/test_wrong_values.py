"""Wrong values of the chart: helm refuses each with its place, before a cluster sees it."""

import json
from typing import Any

import pytest

from e2e import errors
from e2e.release import manifests

pytestmark = pytest.mark.timeout(900)  # builds helm when the cache is cold

MINIMAL = ("--set", "existingSecret=rbdcsi-config")


def refusal(*flags: str) -> str:
    """Return helm's message."""
    with pytest.raises(errors.Failed) as caught:
        manifests.template(*flags)
    return str(caught.value)


def as_flag(path: str, value: Any) -> tuple[str, str]:
    return "--set-json", f"{path}={json.dumps(value)}"


@pytest.mark.parametrize(
    ("path", "name", "mistake"),
    [
        ("node.podLabels", "a b", ": additional properties 'a b' not allowed"),
        ("node.podLabels", "a" * 254 + "/b", f"/{'a' * 254}~1b': false schema"),
        ("node.podLabels", "grafana_dashboard", "value must be '(the chart sets this itself)'"),
        ("node.podAnnotations", "/a", ": additional properties '/a' not allowed"),
        ("node.podAnnotations", "checksum/config", "value must be '(the chart sets this itself)'"),
        ("controller.nodeSelector", "a/b/c", ": additional properties 'a/b/c' not allowed"),
        ("sidecars.resources.limits", "a b", ": additional properties 'a b' not allowed"),
    ],
)
def test_wrong_name_in_a_map_is_refused_with_its_place(path: str, name: str, mistake: str) -> None:
    message = refusal(*MINIMAL, *as_flag(path, {name: "1"}))
    assert f"at '/{path.replace('.', '/')}" in message
    assert mistake in message


def test_parameter_without_a_name_is_refused_with_its_place() -> None:
    message = refusal(
        *MINIMAL, *as_flag("storageClasses", [{"name": "a", "parameters": {"": "b"}}])
    )
    assert "at '/storageClasses/0/parameters/': false schema" in message
