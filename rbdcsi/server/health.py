"""The HTTP server: `/metrics` for Prometheus, `/livez` and `/readyz` for the kubelet.

`/livez` succeeds if the driver answers its own Probe, or if all threads are busy but calls still
complete. `/readyz` succeeds only if Probe reports `ready`.
"""

import contextlib
import socket
import socketserver
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from wsgiref import simple_server
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import prometheus_client
import structlog

from rbdcsi import errors
from rbdcsi.config.options import Address
from rbdcsi.telemetry import metrics

_log = structlog.get_logger()


@dataclass(frozen=True)
class Health:
    """The result of the driver's own Probe; the HTTP response shows `message`."""

    alive: bool
    ready: bool
    message: str


@contextlib.contextmanager
def serving(address: Address, probe: Callable[[], Health]) -> Iterator[Address]:
    """Serve while the body runs; yield the address, where a free port replaces port 0.

    Raises:
        Refused: the address cannot be used.
    """
    try:
        server = _Server(address)
    except OSError as error:
        raise errors.Refused(
            f"--metrics-address {address.host}:{address.port} cannot be used: {error.strerror}; "
            "choose another address or port"
        ) from error
    server.set_app(_application(probe))
    thread = threading.Thread(target=server.serve_forever, name="http")
    thread.start()
    try:
        yield Address(address.host, server.server_port)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _application(probe: Callable[[], Health]) -> WSGIApplication:
    metrics_page: WSGIApplication = prometheus_client.make_wsgi_app(metrics.REGISTRY)

    def answer(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/metrics":
            return metrics_page(environ, start)
        if path not in ("/livez", "/readyz"):
            return _text(start, "404 Not Found", "this server has /metrics, /livez and /readyz")
        health = probe()
        good = health.alive if path == "/livez" else health.ready
        return _text(start, "200 OK" if good else "503 Service Unavailable", health.message)

    return answer


def _text(start: StartResponse, status: str, message: str) -> Iterable[bytes]:
    start(status, [("Content-Type", "text/plain; charset=utf-8")])
    return [f"{message}\n".encode()]


class _Handler(simple_server.WSGIRequestHandler):
    timeout = 10  # seconds: an idle connection occupies its thread no longer

    def log_message(self, format: str, *args: object) -> None:
        _log.debug("http", request=format % args)


class _Server(socketserver.ThreadingMixIn, simple_server.WSGIServer):
    daemon_threads = True

    def __init__(self, address: Address) -> None:
        # An empty host is every address of the machine, by IPv4 and IPv6 if it has both.
        self._both = not address.host and socket.has_dualstack_ipv6()
        by_v6 = self._both or ":" in address.host
        self.address_family = socket.AF_INET6 if by_v6 else socket.AF_INET
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        if self._both:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        # Not HTTPServer.server_bind: it asks the DNS for the host's name and can hang.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.socket.getsockname()[:2]
        self.setup_environ()

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002
        _log.debug("http request failed", exc_info=True)
