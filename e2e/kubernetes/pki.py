"""Keys and certificates of one Kubernetes, made for a run by the tool of OpenSSL."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from e2e.clusters import commands

_DAYS = "7"
_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc")
_CONF = "[req]\ndistinguished_name = name\n[name]\n"  # Debian's own would add extensions


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, in files."""

    certificate: Path
    key: Path


class Authority:
    """A certificate authority in a directory, which must exist."""

    def __init__(self, directory: Path) -> None:
        """Make the authority's own key and certificate."""
        self._directory = directory
        (directory / "openssl.cnf").write_text(_CONF)
        self.root = self._request("ca", "/CN=rbdcsi-tests", ["basicConstraints=critical,CA:TRUE"])

    def issue(self, file: str, subject: str, *addresses: str) -> Pair:
        """Make a key and a certificate for server and client.

        Args:
            file: the name of the files, without an ending.
            subject: such as "/O=system:nodes/CN=system:node:worker-1"; Kubernetes reads group and
                user from it.
            addresses: of a server, such as "IP:10.96.0.1" or "DNS:kubernetes.default.svc".
        """
        extensions = ["basicConstraints=critical,CA:FALSE"]
        if addresses:
            extensions.append(f"subjectAltName={','.join(addresses)}")
        signer = ["-CA", str(self.root.certificate), "-CAkey", str(self.root.key)]
        return self._request(file, subject, extensions, signer)

    def signing_pair(self, file: str) -> Pair:
        """Make a bare key pair, as service accounts' tokens are signed with."""
        pair = self._pair(file)
        commands.run(
            ["openssl", "genpkey", "-algorithm", "EC", *_NEW_KEY[2:4], "-out", pair.key],
        )
        commands.run(["openssl", "pkey", "-in", pair.key, "-pubout", "-out", pair.certificate])
        return pair

    def _request(
        self, file: str, subject: str, extensions: Sequence[str], signer: Sequence[str] = ()
    ) -> Pair:
        pair = self._pair(file)
        added = [word for extension in extensions for word in ("-addext", extension)]
        conf = ["-config", str(self._directory / "openssl.cnf"), "-days", _DAYS, "-subj", subject]
        files = ["-keyout", str(pair.key), "-out", str(pair.certificate)]
        commands.run(["openssl", "req", "-x509", *_NEW_KEY, *conf, *signer, *added, *files])
        return pair

    def _pair(self, file: str) -> Pair:
        return Pair(self._directory / f"{file}.crt", self._directory / f"{file}.key")
