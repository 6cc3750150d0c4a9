"""The HTTP side door: `/metrics` for Prometheus, `/livez` and `/readyz` for the kubelet.

Alive is who answers a Probe at all, or is busy; ready is who says so in its answer.
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
    """What the driver's own Probe had to say; `words` are for people."""

    alive: bool
    ready: bool
    words: str


@contextlib.contextmanager
def serving(address: Address, probe: Callable[[], Health]) -> Iterator[Address]:
    """Serve while the body runs; yields where (port 0 becomes the one that was free).

    Raises:
        Refused: nothing can listen at that address.
    """
    try:
        server = _Server(address)
    except OSError as error:
        raise errors.Refused(
            f"--metrics-address {address.host}:{address.port} cannot be used: {error.strerror}"
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
            return _text(start, "404 Not Found", "here are /metrics, /livez and /readyz")
        health = probe()
        good = health.alive if path == "/livez" else health.ready
        return _text(start, "200 OK" if good else "503 Service Unavailable", health.words)

    return answer


def _text(start: StartResponse, status: str, words: str) -> Iterable[bytes]:
    start(status, [("Content-Type", "text/plain; charset=utf-8")])
    return [f"{words}\n".encode()]


class _Handler(simple_server.WSGIRequestHandler):
    timeout = 10  # seconds that a silent connection may keep its thread

    def log_message(self, format: str, *args: object) -> None:
        _log.debug("http", request=format % args)


class _Server(socketserver.ThreadingMixIn, simple_server.WSGIServer):
    daemon_threads = True

    def __init__(self, address: Address) -> None:
        # No host is every address of the machine: by both protocols, where there are two.
        self._both = not address.host and socket.has_dualstack_ipv6()
        by_v6 = self._both or ":" in address.host
        self.address_family = socket.AF_INET6 if by_v6 else socket.AF_INET
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        if self._both:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        # Not HTTPServer's: it asks the DNS for the host's name and can hang there.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.socket.getsockname()[:2]
        self.setup_environ()

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002
        _log.debug("http request failed", exc_info=True)
