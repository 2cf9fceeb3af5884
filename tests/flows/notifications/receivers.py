"""A real HTTP server and a real mail server on the loopback address, which keep what arrives."""

from __future__ import annotations

import http.server
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default
from pathlib import Path
from typing import Any, NamedTuple

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword


class Post(NamedTuple):
    path: str
    headers: dict[str, str]
    body: bytes


class Receiver:
    """An HTTP server.

    Attributes:
        posts: what has arrived.
        answers: the codes of the next answers; after them 200.
    """

    def __init__(self, server: http.server.ThreadingHTTPServer) -> None:
        self.posts: list[Post] = []
        self.answers: list[int] = []
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        self.port = int(server.server_address[1])


@contextmanager
def receiving() -> Iterator[Receiver]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.posts.append(Post(self.path, {key.lower(): value for key, value in self.headers.items()}, body))
            code = receiver.answers.pop(0) if receiver.answers else 200
            self.send_response(code)
            if code == 302:
                self.send_header("Location", f"{receiver.url}/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver = Receiver(server)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Mailbox:
    """A mail server's handler.

    Attributes:
        mails: what has arrived, with the addresses that it was for.
        refused: addresses that it refuses, with what it says.
        answers: what it says to the next mails instead of taking them.
        logins: whom it knows; with anybody in it, nobody else may send.
        port: where it listens.
    """

    def __init__(self) -> None:
        self.mails: list[tuple[list[str], EmailMessage]] = []
        self.refused: dict[str, str] = {}
        self.answers: list[str] = []
        self.logins: dict[bytes, bytes] = {}
        self.port = 0

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any
    ) -> str:
        if address in self.refused:
            return self.refused[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
        if self.answers:
            return self.answers.pop(0)
        message = BytesParser(policy=default).parsebytes(envelope.content)
        assert isinstance(message, EmailMessage)
        self.mails.append((list(envelope.rcpt_tos), message))
        return "250 taken"

    def authenticate(self, _server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        return AuthResult(success=self.logins.get(data.login) == data.password, handled=False)


@contextmanager
def mailbox(
    certificate: Path | None = None, *, encrypted_first: bool = False, login: bool = False
) -> Iterator[Mailbox]:
    """Serve a mailbox.

    Args:
        certificate: key and certificate; with one STARTTLS is offered, and wanted before anything else.
        encrypted_first: TLS from the first byte on instead.
        login: nobody may send without one.
    """
    box = Mailbox()
    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
    starttls = context if not encrypted_first else None
    controller = Controller(
        box,
        hostname="127.0.0.1",
        port=0,
        ssl_context=context if encrypted_first else None,
        tls_context=starttls,
        require_starttls=starttls is not None,
        auth_required=login,
        auth_require_tls=starttls is not None,
        authenticator=box.authenticate,
    )
    # The controller looks whether it is up by connecting to the port that it was given.
    controller.port = _free_port()
    controller.start()
    box.port = controller.port
    try:
        yield box
    finally:
        controller.stop()


def _free_port() -> int:
    from flows.services.server import free_port

    return free_port()


def make_certificate(folder: Path) -> Path:
    """Write a key and a certificate for 127.0.0.1 into one file."""
    path = folder / "server.pem"
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *subject]
    subprocess.run([*command, "-keyout", folder / "key", "-out", folder / "cert"], check=True, capture_output=True)
    path.write_text((folder / "key").read_text() + (folder / "cert").read_text())
    return path
