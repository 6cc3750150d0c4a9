"""etcd, API server, controllers (also that of snapshots) and scheduler, for one run.

They are child processes.

`api_server` starts the first two alone: they check and keep objects, and nothing acts on them.

The API server listens on the service address alone, which the host has, too: so clients inside
and outside use one address, and no kube-proxy is needed.
"""

import base64
import contextlib
import secrets
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import yaml

from e2e import errors, processes
from e2e.clusters import commands, ports
from e2e.kubernetes import build, login, pki, snapshots
from e2e.kubernetes.addresses import Addresses
from e2e.kubernetes.client import Kubernetes


@dataclass(frozen=True)
class ControlPlane:
    """What runs, and what nodes need to join: the directory has the logs, too.

    The owner of the key may log in to nodes.
    """

    directory: Path
    addresses: Addresses
    authority: pki.Authority
    client: Kubernetes
    login_key: Path

    def node_kubeconfig(self, node: str) -> str:
        """Return the text of the kubeconfig of a node's kubelet; its certificate is made now."""
        pair = self.authority.issue(node, f"/O=system:nodes/CN=system:node:{node}")
        user = {
            "client-certificate-data": _base64(pair.certificate),
            "client-key-data": _base64(pair.key),
        }
        return _kubeconfig(self.addresses, self.authority, user)


class ApiAddresses(Protocol):
    """The addresses of an API server."""

    @property
    def api_server(self) -> str:
        """Where it listens: an address of this host."""

    @property
    def advertised(self) -> str:
        """Where clients inside find it; never a loopback address."""

    @property
    def services(self) -> str:
        """The services' subnet."""


@dataclass(frozen=True)
class ApiServer:
    """An API server with its etcd."""

    directory: Path
    keys: Path
    authority: pki.Authority
    client: Kubernetes
    parts: "_Parts"


@contextlib.contextmanager
def running(directory: Path, addresses: Addresses) -> Iterator[ControlPlane]:
    """Start the control plane; it ends with the body, or with this process.

    Args:
        directory: new; for keys, etcd's data and logs.
        addresses: the API server's must be one of this host.

    Raises:
        Failed: a part ended by itself; the message has the end of its log.
        DeadlineExceeded: the API server does not answer.
    """
    with api_server(directory, addresses) as server:
        kubeconfig, keys = server.client.kubeconfig, server.keys
        for name, flags in _controllers(kubeconfig, server.authority, keys).items():
            server.parts.start(name, [build.build(name), *flags])
        snapshots.add_api(server.client)
        server.parts.start(snapshots.CONTROLLER, snapshots.controller(kubeconfig))
        yield ControlPlane(
            directory, addresses, server.authority, server.client, login.make_key(keys)
        )


@contextlib.contextmanager
def api_server(directory: Path, addresses: ApiAddresses) -> Iterator[ApiServer]:
    """Start an API server and its etcd; see `running`."""
    keys = directory / "pki"
    keys.mkdir(parents=True)
    authority = pki.Authority(keys)
    token = secrets.token_hex(16)
    kubeconfig = directory / "kubeconfig"
    kubeconfig.touch(mode=0o600)
    kubeconfig.write_text(_kubeconfig(addresses, authority, {"token": token}))
    client = Kubernetes(kubeconfig, build.build("kubectl"))
    with ports.claimed_pair("127.0.0.1") as port, _Parts(directory) as parts:
        parts.start("etcd", ["etcd", *_etcd(directory / "etcd", port)])
        server = _api_server(authority, keys, token, addresses)
        server.append(f"--etcd-servers=http://127.0.0.1:{port}")
        parts.start("kube-apiserver", [build.build("kube-apiserver"), *server])
        _wait(parts, client)
        yield ApiServer(directory, keys, authority, client, parts)


class _Parts(contextlib.AbstractContextManager["_Parts"]):
    """The control plane's processes; the last one started is the first to end."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._spawner = processes.Spawner("control-plane")

    def __exit__(self, *_error: object) -> None:
        for child in reversed(self._children.values()):
            child.kill()  # nothing of this cluster is kept
            child.wait()
        self._spawner.close()

    def start(self, name: str, argv: Sequence[str | Path]) -> None:
        """Start one part; it answers some time later."""
        self._children[name] = self._spawner.spawn(argv, self._log(name))

    def check(self) -> None:
        """Raise Failed if one has ended."""
        for name, child in self._children.items():
            if child.poll() is not None:
                said = self._log(name).read_text(errors="replace")
                raise errors.Failed(f"{name} ended with {child.returncode}: {said[-2000:]}")

    def _log(self, name: str) -> Path:
        return self._directory / f"{name}.log"


def _wait(parts: _Parts, client: Kubernetes) -> None:
    def ready() -> bool:
        parts.check()
        try:
            return client.kubectl("get", "--raw", "/readyz", timeout=10) == "ok"
        except (errors.Failed, errors.DeadlineExceeded):
            return False

    commands.wait_until(ready, "the API server is ready", 120)


def _etcd(data: Path, port: int) -> list[str]:
    clients, peers = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{port + 1}"
    return [
        "--name=tests",
        f"--data-dir={data}",
        f"--listen-client-urls={clients}",
        f"--advertise-client-urls={clients}",
        f"--listen-peer-urls={peers}",
        f"--initial-advertise-peer-urls={peers}",
        f"--initial-cluster=tests={peers}",
    ]


def _api_server(
    authority: pki.Authority, keys: Path, token: str, addresses: ApiAddresses
) -> list[str]:
    address = addresses.api_server
    serving = authority.issue("api-server", "/CN=kube-apiserver", f"IP:{address}")
    to_kubelets = authority.issue("to-kubelets", "/O=system:masters/CN=kube-apiserver")
    tokens = authority.signing_pair("service-accounts")
    static = keys / "tokens.csv"
    static.touch(mode=0o600)
    static.write_text(f"{token},admin,admin,system:masters\n")
    return [
        f"--bind-address={address}",
        "--secure-port=443",
        f"--advertise-address={addresses.advertised}",
        f"--service-cluster-ip-range={addresses.services}",
        f"--tls-cert-file={serving.certificate}",
        f"--tls-private-key-file={serving.key}",
        f"--client-ca-file={authority.root.certificate}",
        f"--kubelet-client-certificate={to_kubelets.certificate}",
        f"--kubelet-client-key={to_kubelets.key}",
        "--kubelet-preferred-address-types=InternalIP",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={tokens.certificate}",
        f"--service-account-signing-key-file={tokens.key}",
        "--authorization-mode=Node,RBAC",
        f"--token-auth-file={static}",
        "--allow-privileged=true",
        "--profiling=false",
    ]


def _controllers(
    kubeconfig: Path, authority: pki.Authority, keys: Path
) -> Mapping[str, Sequence[str]]:
    """Return the flags of the parts that only talk to the API server."""
    shared = [f"--kubeconfig={kubeconfig}", "--leader-elect=false", "--secure-port=0"]
    tokens = [
        f"--service-account-private-key-file={keys / 'service-accounts.key'}",
        f"--root-ca-file={authority.root.certificate}",
        "--use-service-account-credentials=true",
    ]
    return {"kube-controller-manager": [*shared, *tokens], "kube-scheduler": shared}


def _kubeconfig(addresses: ApiAddresses, authority: pki.Authority, user: Mapping[str, str]) -> str:
    cluster = {
        "server": f"https://{addresses.api_server}:443",
        "certificate-authority-data": _base64(authority.root.certificate),
    }
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "tests", "cluster": cluster}],
            "users": [{"name": "tests", "user": dict(user)}],
            "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "tests"}}],
            "current-context": "tests",
        }
    )


def _base64(file: Path) -> str:
    return base64.b64encode(file.read_bytes()).decode()
