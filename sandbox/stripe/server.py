"""The socket side: reads a request, asks the exchange, writes the answer or cuts the connection."""

from __future__ import annotations

import itertools
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import stripe

from sandbox.stripe.account import API_KEY, WEBHOOK_SECRET, Account
from sandbox.stripe.answers import Answer
from sandbox.stripe.exchange import Exchange, Request
from sandbox.stripe.later import Later
from sandbox.stripe.webhooks import Webhooks


class StripeServer:
    """Start it, give `url` to the SDK as its API address, stop it.

    Its memory lasts from the construction on: stopped and started again it answers at the same address and
    knows everything, like a neighbour after an outage. `close` ends it for good.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        api_key: str = API_KEY,
        webhook_url: str | None = None,
        webhook_secret: str = WEBHOOK_SECRET,
        settle_after: float = 0.3,
    ) -> None:
        self.api_key = api_key
        self.webhook_secret = webhook_secret
        self._address = (host, port)
        self._bank = Later("stripe-bank")
        self._post = Later("stripe-webhooks")
        webhooks = Webhooks(webhook_url, webhook_secret, self._post)
        self._exchange = Exchange(Account(webhooks, self._bank, settle_after), api_key)
        self._listener: _Listener | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://{self._address[0]}:{self._address[1]}"

    def start(self) -> None:
        """Listen. The port is chosen at the first start and kept."""
        self._listener = _Listener(self._address, self._exchange)
        self._address = (self._address[0], self._listener.server_port)
        self._thread = threading.Thread(
            target=self._listener.serve_forever, kwargs={"poll_interval": 0.05}, name="stripe", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Stop listening and cut every connection, hanging requests included."""
        if self._listener is None or self._thread is None:
            return
        self._exchange.faults.clear()
        self._listener.shutdown()
        self._thread.join()
        self._listener.cut_all()
        self._listener.server_close()
        self._listener = self._thread = None

    def close(self) -> None:
        self.stop()
        self._bank.stop()
        self._post.stop()


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], exchange: Exchange) -> None:
        self.exchange = exchange
        self.numbers = itertools.count(1)
        self._open: set[socket.socket] = set()
        self._guard = threading.Lock()
        super().__init__(address, _Handler)

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        connection, peer = super().get_request()
        with self._guard:
            self._open.add(connection)
        return connection, peer

    def close_request(self, request: socket.socket | tuple[bytes, socket.socket]) -> None:
        with self._guard:
            self._open.discard(request)
        super().close_request(request)

    def cut_all(self) -> None:
        with self._guard:
            for connection in self._open:
                _cut(connection)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # headers and body leave together
    server: _Listener

    def _serve(self) -> None:
        path, _, query = self.path.partition("?")
        length = int(self.headers.get("Content-Length") or 0)
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, path, query, headers, self.rfile.read(length))
        answer = self.server.exchange.answer(request)
        if answer.lost:
            self.close_connection = True
            _cut(self.connection)
        else:
            self._write(answer, headers.get("idempotency-key"))

    def _write(self, answer: Answer, key: str | None) -> None:
        content = json.dumps(answer.body).encode()
        self.send_response(answer.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Request-Id", f"req_{next(self.server.numbers):014d}")
        self.send_header("Stripe-Version", stripe.api_version or "")
        if key is not None:
            self.send_header("Idempotency-Key", key)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_DELETE = _serve

    def handle(self) -> None:
        try:
            super().handle()
        except ConnectionError:
            self.close_connection = True  # the client gave up, or we cut it

    def finish(self) -> None:
        try:
            super().finish()
        except ConnectionError:
            self.rfile.close()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the control surface shows what happened."""


def _cut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # the other side was first
