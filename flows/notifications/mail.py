"""E-mail by SMTP: the table as text and as HTML, a link, the report by choice."""

from __future__ import annotations

import smtplib
import ssl
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from pathlib import Path
from urllib.parse import urlsplit

from flows.notifications.errors import DeliveryError
from flows.notifications.notice import Notice, to_html, to_text
from keypipe.errors import ConfigError
from tasks.retraining.notification import Mail, look_up
from tasks.retraining.settings import PICTURES

PORTS = {"smtp": 25, "smtp+starttls": 587, "smtps": 465}
ATTACHED_MB = 10.0
"""A larger report stays where it is: many servers refuse a mail above 20 to 25 MB, and base64 adds a third."""

_TEMPORARY = range(400, 500)  # RFC 5321, 4.2.1: the same command may succeed later


def send(notice: Notice, mail: Mail, timeout_s: float) -> str:
    """Send a notice once, to all of them.

    Returns:
        Whom the server refused though it took the mail for others, as a sentence; or nothing.

    Raises:
        ConfigError: a variable is not set, or names no server.
        DeliveryError: the server did not take it for anybody.
    """
    scheme, host, port = _parse_server(look_up(mail.server))
    login = _login(mail)
    message = to_message(notice, mail)
    try:
        with _connect(scheme, host, port, timeout_s) as server:
            if login:
                server.login(*login)
            refused = server.send_message(message)
    except smtplib.SMTPRecipientsRefused as error:
        codes = {code for code, _ in error.recipients.values()}
        raise DeliveryError(_refused(error.recipients), again=any(code in _TEMPORARY for code in codes)) from error
    except smtplib.SMTPResponseException as error:
        text = error.smtp_error.decode(errors="replace") if isinstance(error.smtp_error, bytes) else error.smtp_error
        # the server was reached, and closes or refuses for now
        raise DeliveryError(f"{error.smtp_code} {text}", again=error.smtp_code in _TEMPORARY) from error
    except (smtplib.SMTPNotSupportedError, ssl.SSLCertVerificationError, UnicodeError) as error:
        raise DeliveryError(str(error), again=False) from error
    except (smtplib.SMTPException, OSError) as error:
        raise DeliveryError(str(error) or type(error).__name__, again=True) from error
    return _refused(refused) if refused else ""


def to_message(notice: Notice, mail: Mail) -> EmailMessage:
    """Return the whole mail."""
    message = EmailMessage(policy=SMTP)
    message["Subject"] = notice.subject
    message["From"] = mail.sender
    message["To"] = ", ".join(mail.to)
    message["Date"] = format_datetime(datetime.fromisoformat(notice.at))
    message["Message-ID"] = f"<{notice.id}@{mail.sender.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office replies
    message["X-Keypipe-Event"] = notice.event
    report = _attachable(Path(notice.report)) if mail.attach_report and notice.report else None
    pictures = (
        _attachable(Path(notice.report).with_name(PICTURES.name)) if mail.attach_pictures and notice.report else None
    )
    message.set_content(to_text(notice))
    message.add_alternative(to_html(notice, attached=report is not None), subtype="html")
    for page in filter(None, (report, pictures)):
        message.add_attachment(page.read_bytes(), maintype="text", subtype="html", filename=page.name)
    return message


def _attachable(path: Path) -> Path | None:
    return path if path.is_file() and path.stat().st_size <= ATTACHED_MB * 1e6 else None


def _parse_server(address: str) -> tuple[str, str, int]:
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in PORTS or not parts.hostname or parts.username is not None:
        # not repeated: it came from the environment and may hold a password
        raise ConfigError(
            "the address of the mail server: expected smtp://HOST:25, smtp+starttls://HOST:587 or smtps://HOST:465"
            " (the login stands in variables of its own)"
        )
    return parts.scheme, parts.hostname, port or PORTS[parts.scheme]


def _login(mail: Mail) -> tuple[str, str] | None:
    try:
        user = look_up(mail.user)
    except ConfigError:
        return None
    return user, look_up(mail.password)


def _connect(scheme: str, host: str, port: int, timeout_s: float) -> smtplib.SMTP:
    if scheme == "smtps":
        return smtplib.SMTP_SSL(host, port, timeout=timeout_s, context=ssl.create_default_context())
    server = smtplib.SMTP(host, port, timeout=timeout_s)
    if scheme == "smtp+starttls":
        try:
            server.starttls(context=ssl.create_default_context())
        except BaseException:
            server.close()
            raise
    return server


def _refused(recipients: dict[str, tuple[int, bytes]]) -> str:
    texts = [f"{who}: {code} {text.decode(errors='replace')}" for who, (code, text) in recipients.items()]
    return f"the server refused {'; '.join(texts)}"
