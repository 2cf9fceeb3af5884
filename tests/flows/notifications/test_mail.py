"""E-mail to a real mail server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flows.notifications.delivery import notify
from flows.notifications.record import Delivery
from flows.services.server import free_port
from tasks.retraining.notification import NotifyParams
from tests.flows.notifications.receivers import mailbox, make_certificate
from tests.flows.notifications.samples import sample

TO = ["anna@example.org", "ben@example.org"]


def send(root: Path, notice: Any = None, tries: int = 3, **settings: Any) -> Delivery:
    values = {"to": TO, "sender": "keypipe@example.org", **settings}
    params = NotifyParams.model_validate({"mail": [values], "tries": tries})
    (delivery,) = notify(root, params, notice or sample(), wait_seconds=0.01)
    return delivery


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


def test_table_link_and_report_arrive(tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    report.write_text("<h1>Übersicht</h1>")
    notice = sample(title="v7 ist im Einsatz — Kühe", report=str(report))
    with mailbox() as box:
        delivery = send(tmp_path, notice, server=f"smtp://127.0.0.1:{box.port}", attach_report=True)
    assert (delivery.arrived, delivery.detail) == (True, "")
    ((recipients, message),) = box.mails
    assert recipients == TO
    assert message["Subject"] == "[cows] v7 ist im Einsatz — Kühe"
    assert message["From"] == "keypipe@example.org"
    assert message["Message-ID"] == f"<{notice.id}@example.org>"
    assert message["Auto-Submitted"] == "auto-generated"
    plain, html = message.get_body(("plain",)), message.get_body(("html",))
    assert plain is not None
    assert html is not None
    assert "-0.006 to +0.031" in plain.get_content()
    assert "-0.006 to +0.031" in html.get_content()
    assert f'<a href="{notice.run_url}"' in html.get_content()
    assert "The report is attached" in html.get_content()
    (attached,) = message.iter_attachments()
    assert (attached.get_filename(), attached.get_content_type()) == ("report.html", "text/html")
    assert attached.get_payload(decode=True) == report.read_bytes()


def test_pictures_are_sent_to_nobody_who_has_not_asked_for_them(tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    report.write_text("figures")
    (tmp_path / "pictures.html").write_text("pictures")
    notice = sample(report=str(report))
    with mailbox() as box:
        server = f"smtp://127.0.0.1:{box.port}"
        send(tmp_path, notice, server=server, attach_report=True)
        send(tmp_path, notice, server=server, attach_report=True, attach_pictures=True)
    names = [[part.get_filename() for part in message.iter_attachments()] for _, message in box.mails]
    assert names == [["report.html"], ["report.html", "pictures.html"]]


def test_the_report_stays_where_it_is_by_default(tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    report.write_text("x")
    with mailbox() as box:
        send(tmp_path, sample(report=str(report)), server=f"smtp://127.0.0.1:{box.port}")
        send(tmp_path, sample(report="/gone"), server=f"smtp://127.0.0.1:{box.port}", attach_report=True)
    for _, message in box.mails:
        assert list(message.iter_attachments()) == []


@pytest.mark.filterwarnings("ignore:Requiring AUTH")  # what the server has to say of TLS that it did not set up
@pytest.mark.parametrize("scheme", ["smtp+starttls", "smtps"])
def test_encrypted_with_a_login_from_the_environment(
    scheme: str, tmp_path: Path, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    monkeypatch.setenv("KEYPIPE_SMTP_USER", "herd")
    monkeypatch.setenv("KEYPIPE_SMTP_PASSWORD", "gr@ss")
    with mailbox(certificate, encrypted_first=scheme == "smtps", login=True) as box:
        box.logins = {b"herd": b"gr@ss"}
        monkeypatch.setenv("KEYPIPE_SMTP_SERVER", f"{scheme}://127.0.0.1:{box.port}")
        assert send(tmp_path).describe() == f"mail to {', '.join(TO)}: sent"
        monkeypatch.setenv("KEYPIPE_SMTP_PASSWORD", "wr0ng")
        refused = send(tmp_path)
    assert len(box.mails) == 1
    assert (refused.arrived, refused.tries) == (False, 1)
    assert "535" in refused.detail
    assert "wr0ng" not in refused.describe()


def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path, certificate: Path) -> None:
    with mailbox(certificate) as box:
        delivery = send(tmp_path, server=f"smtp+starttls://127.0.0.1:{box.port}")
    assert (delivery.arrived, delivery.tries) == (False, 1)
    assert "certificate" in delivery.detail
    assert box.mails == []


def test_a_mail_server_that_is_busy_is_tried_again(tmp_path: Path) -> None:
    with mailbox() as box:
        box.answers = ["451 later", "452 later"]
        delivery = send(tmp_path, server=f"smtp://127.0.0.1:{box.port}")
    assert (delivery.arrived, delivery.tries, len(box.mails)) == (True, 3, 1)


def test_one_address_that_is_refused_keeps_no_mail_from_the_others(tmp_path: Path) -> None:
    with mailbox() as box:
        box.refused = {"ben@example.org": "550 no such person"}
        some = send(tmp_path, server=f"smtp://127.0.0.1:{box.port}")
        box.refused |= {"anna@example.org": "550 no such person"}
        none = send(tmp_path, server=f"smtp://127.0.0.1:{box.port}")
    assert some.arrived
    assert "but the server refused ben@example.org: 550 no such person" in some.describe()
    assert (none.arrived, none.tries) == (False, 1)
    ((recipients, _),) = box.mails
    assert recipients == ["anna@example.org"]


def test_no_server_is_said_after_the_tries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = send(tmp_path, server=f"smtp://127.0.0.1:{free_port()}", tries=2)
    assert (gone.arrived, gone.tries) == (False, 2)
    assert send(tmp_path).detail == "KEYPIPE_SMTP_SERVER: not set in the environment of this process"
    monkeypatch.setenv("KEYPIPE_SMTP_SERVER", "smtp://me:s3cret@127.0.0.1")
    wrong = send(tmp_path)
    assert "expected smtp://HOST:25" in wrong.detail
    assert "s3cret" not in wrong.describe()
