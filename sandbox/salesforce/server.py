"""The local Salesforce on a socket: TLS with a certificate for Salesforce's host names, one thread a connection."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import TracebackType
from urllib.parse import parse_qsl, urlsplit

import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from sandbox.salesforce import INSTANCE_HOST, LOGIN_HOST
from sandbox.salesforce.rest import Organisation, Request


class SalesforceServer:
    """A fresh organisation behind `https://127.0.0.1:port`.

    `ca_pem` is the authority to trust and `private_key_pem` the key of the connected app; both are new each time.
    """

    def __init__(self, port: int = 0, *, daily_requests: int = 100_000) -> None:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.private_key_pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()
        authority = trustme.CA()
        self.ca_pem = authority.cert_pem.bytes().decode()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(LOGIN_HOST, INSTANCE_HOST, "localhost", "127.0.0.1").configure_cert(context)
        self.organisation = Organisation(key.public_key(), daily_requests=daily_requests)
        self._listener = _Listener(port, context, self.organisation)
        self._thread = Thread(target=self._listener.serve_forever, args=(0.05,), name="salesforce", daemon=True)

    @property
    def address(self) -> str:
        """host:port to connect to."""
        return f"127.0.0.1:{self._listener.server_address[1]}"

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Close everything, open connections included. A server does not start again."""
        if self._thread.is_alive():
            self._listener.shutdown()
            self._thread.join()
        self._listener.hang_up()
        self._listener.server_close()
        self.organisation.close()

    def control(self, method: str, verb: str, body: object = None) -> object:
        """What a request to `/_sandbox/{verb}` does and answers, from inside the process."""
        request = Request(method, f"/_sandbox/{verb}", {}, {}, json.dumps(body).encode())
        answer = self.organisation.answer(request)
        if answer is None or answer.status >= 400:
            raise ValueError(f"{method} {verb}: {answer}")
        return answer.body

    def write_files(self, folder: Path) -> tuple[Path, Path]:
        """`ca.pem` and `connected_app.pem` in `folder`, readable by their owner only."""
        folder.mkdir(parents=True, exist_ok=True)
        ca_file, key_file = folder / "ca.pem", folder / "connected_app.pem"
        for path, text in ((ca_file, self.ca_pem), (key_file, self.private_key_pem)):
            path.unlink(missing_ok=True)
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(text)
        return ca_file, key_file

    def __enter__(self) -> SalesforceServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class _Listener(ThreadingHTTPServer):
    """Shakes hands in the connection's own thread, so that a client that stalls there holds up nobody."""

    def __init__(self, port: int, context: ssl.SSLContext, organisation: Organisation) -> None:
        self.context = context
        self.organisation = organisation
        self._open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), _Connection)

    def finish_request(self, request: object, client_address: object) -> None:
        assert isinstance(request, socket.socket)
        request.settimeout(60)
        try:
            secured = self.context.wrap_socket(request, server_side=True)
        except OSError:
            return  # No handshake: somebody who does not trust us, or does not speak TLS.
        self._open.add(secured)
        try:
            _Connection(secured, client_address, self)
        except OSError:
            pass  # The other side hung up.
        finally:
            self._open.discard(secured)
            secured.close()

    def hang_up(self) -> None:
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Listener

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        query = dict(parse_qsl(url.query))
        answer = self.server.organisation.answer(
            Request(self.command, url.path, query, dict(self.headers.items()), body)
        )
        if answer is None:
            self.close_connection = True
            return
        content = b"" if answer.body is None else json.dumps(answer.body).encode()
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if content:
            self.send_header("Content-Type", "application/json;charset=UTF-8")
        if answer.status != 204:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_PATCH = do_DELETE = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Silent: what happened is in `/_sandbox/writes`."""
