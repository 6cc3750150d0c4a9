"""Commands that the documents show exist, and those that can run without a Kubernetes do run."""

import base64
import itertools
import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import click
import pytest
import yaml

from e2e import clusters
from e2e.clusters.caps import node_data_caps
from e2e.release import manifests
from rbdcsi.cli.main import main
from tests.docs.documents import PAGES, ROOT, Command, blocks, commands
from tools.reference import sources

pytestmark = pytest.mark.timeout(900)  # builds helm when the cache is cold

ALL = commands()
IN_POD = "kubectl -n rbdcsi exec statefulset/rbdcsi-controller -c driver -- "
# These need a Kubernetes, another distribution or a registry: only their form is checked.
ELSEWHERE = {"kubectl", "k3s", "docker", "curl", "sh", "snap", "microceph", "mkfs.ext4", "pveceph"}
ELSEWHERE_FLAGS = {
    *("--version", "--help", "--wait", "--v2-only", "--node"),
    *("--extra-create-metadata", "--capacity-for-immediate-binding"),  # of external-provisioner
    "--api-versions",  # of helm
    *("--quick", "--only", "--store", "--publish"),  # of the benchmarks
    "--application",
}


def words(command: Command) -> Iterator[list[str]]:
    """Yield each program of the line with its arguments, without what wraps it."""
    text = re.sub(r"\$\([^)]*\)", "value", command.text)
    for part in re.split(r" (?:&&|\|) ", text):
        yield shlex.split(
            re.sub(rf"^(?:sudo |cephadm shell -- |microceph\.|{IN_POD})+", "", part.strip())
        )


def invocations(program: str) -> list[list[str]]:
    return [each for command in ALL for each in words(command) if each[0] == program]


def rows(program: str) -> list[object]:
    lines = sorted({tuple(each) for each in invocations(program)})
    return [pytest.param(list(line), id=" ".join(line[1:])[:60]) for line in lines]


def test_every_program_is_checked_here() -> None:
    named = {each[0] for command in ALL for each in words(command)}
    assert named - ELSEWHERE == {
        "make",
        "rbdcsi",
        "helm",
        "rbd",
        "ceph",
        "base64",
        "grep",
        "openssl",
    }


@pytest.mark.parametrize("command", ALL, ids=str)
def test_shell_can_read_the_line(command: Command) -> None:
    subprocess.run(["bash", "-n", "-c", command.text], check=True)


def test_every_make_target_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z0-9-]+):", makefile, re.MULTILINE))
    named = {name for page in PAGES for name in re.findall(r"`make ([a-z0-9-]+)", page.read_text())}
    named |= {each[1] for each in invocations("make")}
    assert {"demo", "test", "docs-site"} <= named <= targets


@pytest.mark.parametrize("line", rows("rbdcsi"))
def test_driver_takes_the_flags(line: list[str]) -> None:
    command: click.Command = main
    context, words = click.Context(main), line[1:]
    while isinstance(command, click.Group):
        name, subcommand, words = command.resolve_command(context, words)
        assert subcommand
        command = subcommand
        context = click.Context(command, context, name)
    command.make_context(context.info_name, words)


def _commands(group: click.Group) -> Iterator[click.Command]:
    """Yield the commands of a group and of its groups."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from _commands(command)
        elif command:
            yield command


def test_flags_named_in_the_text_exist() -> None:
    flags = {
        name
        for command in _commands(main)
        for option in command.params
        if isinstance(option, click.Option)
        for name in option.opts
    }
    named = {
        flag
        for page in PAGES
        for flag in re.findall(r"`(?:rbdcsi serve )?(--[a-z0-9-]+)", page.read_text())
    }
    of_mkfs = {flag for each in sources.FILESYSTEMS.values() for flag in each.mkfs_allowed}
    assert named - of_mkfs - ELSEWHERE_FLAGS <= flags


@pytest.mark.parametrize("line", rows("helm"))
def test_helm_knows_the_command_and_its_flags(line: list[str]) -> None:
    help_text = manifests.helm(line[1], "--help")
    for flag in (word.partition("=")[0] for word in line if word.startswith("--")):
        assert re.search(rf"{flag}\b", help_text), f"helm {line[1]} has no {flag}"
    if "deploy/helm/rbdcsi" in line:
        assert (ROOT / "deploy/helm/rbdcsi/Chart.yaml").exists()


def test_helm_shows_the_readme_of_the_chart() -> None:
    shown = manifests.helm("show", "readme", str(manifests.CHART))
    assert "| `node.mapper` |" in shown


def test_files_given_to_kubectl_exist() -> None:
    files = [
        following
        for each in invocations("kubectl")
        for word, following in itertools.pairwise(each)
        if word in {"-f", "-k"}
    ]
    assert files
    assert [name for name in files if not (ROOT / name).exists()] == []


def test_workloads_given_to_kubectl_are_those_of_the_chart() -> None:
    text = manifests.template("--set", "existingSecret=rbdcsi-config")
    made = {
        f"{each['kind'].lower()}/{each['metadata']['name']}"
        for each in filter(None, yaml.safe_load_all(text))
    }
    pages = " ".join(page.read_text() for page in PAGES)
    named = set(re.findall(r"\b(?:statefulset|daemonset|deployment|ds|sts)/[\w-]+", pages))
    assert {name.replace("ds/", "daemonset/") for name in named} <= made


def test_openssl_makes_a_certificate_for_the_address_of_changed_blocks(tmp_path: Path) -> None:
    for line in invocations("openssl"):
        subprocess.run(line, cwd=tmp_path, check=True, capture_output=True)
    flags = ("existingSecret=x", "sidecars.snapshotter.enabled=true")
    enabled = ("sidecars.snapshotMetadata.enabled=true", "sidecars.snapshotMetadata.tlsSecret=x")
    text = manifests.template(
        *(f"--set={each}" for each in (*flags, *enabled)),
        f"--set-file=sidecars.snapshotMetadata.caCert={tmp_path}/ca.crt",
    )
    (service,) = (
        each
        for each in filter(None, yaml.safe_load_all(text))
        if each["kind"] == "SnapshotMetadataService"
    )
    (tmp_path / "trusted.crt").write_bytes(base64.b64decode(service["spec"]["caCert"]))
    host = service["spec"]["address"].partition(":")[0]
    trust = ("-CAfile", "trusted.crt", "-purpose", "sslserver", "-verify_hostname", host)
    subprocess.run(["openssl", "verify", *trust, "tls.crt"], cwd=tmp_path, check=True)


@pytest.mark.parametrize("line", rows("rbd"))
def test_rbd_knows_the_command(line: list[str]) -> None:
    verbs = [word for word in line[1:3] if re.fullmatch(r"[a-z-]+", word)]
    for verb in (verbs, verbs[:1]):
        done = subprocess.run(["rbd", "help", *verb], capture_output=True, text=True, check=False)
        if done.stdout.startswith("usage: rbd " + " ".join(verb)):
            return
    pytest.fail(f"rbd has no command {' '.join(verbs)}")


@pytest.mark.parametrize("line", rows("ceph"))
def test_users_have_the_permissions_that_the_tests_run_with(line: list[str]) -> None:
    if line[1:3] not in (["auth", "get-or-create"], ["auth", "caps"]):
        return
    caps = {
        service: " ".join(cap.split()) for service, cap in zip(line[4::2], line[5::2], strict=True)
    }
    expected = of_role(line[3], "kubernetes")
    if line[2] == "caps":  # of two pools
        of_both = {
            "client.rbdcsi-controller": clusters.controller_caps("kubernetes", "kubernetes-ec"),
            "client.rbdcsi-node": {
                **expected,
                "osd": f"{expected['osd']}, {node_data_caps('kubernetes-ec')}",
            },
        }
        expected = of_both[line[3]]
    assert caps == expected


def of_role(user: str, pool: str) -> Mapping[str, str]:
    """Return the capabilities of the user with that name in the documents."""
    role = re.fullmatch(r"client\.rbdcsi-(controller|node)(-2)?", user)
    assert role, user
    return {"controller": clusters.controller_caps, "node": clusters.node_caps}[role[1]](pool)


def test_rook_makes_the_users_with_the_same_permissions() -> None:
    objects = [
        each
        for block in blocks("yaml")
        for each in yaml.safe_load_all(block.text)
        if each.get("kind") == "CephClient"
    ]
    assert len(objects) == 2
    for each in objects:
        assert each["spec"]["caps"] == of_role(f"client.{each['metadata']['name']}", "kubernetes")


def test_ceph_takes_the_commands_that_make_pool_and_user(cluster: clusters.Cluster) -> None:
    install = [
        each
        for command in ALL
        if command.block.page.name == "install.md"
        for each in words(command)
        if each[0] in {"ceph", "rbd"}
    ]
    assert len(install) == 4
    access = ("--conf", str(cluster.conf), "--keyring", str(cluster.keyring), "--id", cluster.user)
    try:
        for line in install:
            subprocess.run([line[0], *access, *line[1:]], check=True, capture_output=True)
    finally:
        for user in ("client.rbdcsi-controller", "client.rbdcsi-node"):
            subprocess.run(["ceph", *access, "auth", "rm", user], check=True)
        cluster.delete_pool("kubernetes")


def test_ceph_knows_every_command(cluster: clusters.Cluster) -> None:
    access = ("--conf", str(cluster.conf), "--keyring", str(cluster.keyring), "--id", cluster.user)
    help_text = subprocess.run(
        ["ceph", *access, "--help"], check=True, capture_output=True, text=True
    ).stdout
    known = {verbs_of_help(line) for line in help_text.splitlines()} - {()}
    assert ("osd", "pool", "application", "enable") in known
    unknown = [
        line
        for line in invocations("ceph")
        if not any(tuple(line[1 : 1 + len(verbs)]) == verbs for verbs in known)
    ]
    assert unknown == []


def verbs_of_help(line: str) -> tuple[str, ...]:
    """Return the words of a command that stand before its arguments, from a line of the help."""
    command = line[:40]  # an explanation begins there
    return tuple(itertools.takewhile(re.compile(r"[a-z][a-z0-9_-]*").fullmatch, command.split()))
