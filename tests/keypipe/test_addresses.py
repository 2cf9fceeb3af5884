from __future__ import annotations

import pytest

from keypipe.addresses import hide_password, without_login


def test_passwords_are_not_shown() -> None:
    assert hide_password("http://me:sec/ret@host:5000/x") == "http://host:5000/x"
    assert hide_password("http://me:sec/r@et@host:5000/x") == "http://host:5000/x"
    assert hide_password("https://me:12/34@host") == "https://host"  # no port and path, as far as anybody can tell
    assert hide_password("http://me@firm:12/34@host:5000") == "http://host:5000"
    assert hide_password("me:secret@host:5000/x") == "host:5000/x"
    assert hide_password("http://me:secret@/") == "http:///"
    assert hide_password("http://host/x@y") == "http://host/x@y"
    assert hide_password("http://host:5000/x?by=a@b") == "http://host:5000/x?by=a@b"
    assert hide_password("http://host/x?api_key=abc&a=b&X-Auth=d&sig=e#f") == (
        "http://host/x?api_key=...&a=b&X-Auth=...&sig=...#f"
    )
    assert hide_password("./a@b") == "./a@b"
    assert hide_password("postgresql://host/db?user=me&password=s3/cr@t&sslmode=x") == (
        "postgresql://host/db?user=me&password=...&sslmode=x"
    )
    assert hide_password("https://me:secret@host:5000/x") == "https://host:5000/x"
    assert hide_password("sqlite:////a/b@c.db") == "sqlite:////a/b@c.db"


@pytest.mark.parametrize(
    "address",
    ["http://127.0.0.1:5000/x@y", "http://localhost:5000/a@b/c", "http://[::1]:5000/x@y", "https://LOCALHOST:1/@"],
)
def test_an_address_with_a_sign_of_passwords_in_its_path_is_shown_as_it_is(address: str) -> None:
    assert hide_password(address) == address


def test_what_may_be_a_password_is_left_out_all_the_same() -> None:
    assert hide_password("http://host:5000/x@y") == "http://y"  # or a user `host` with the password `5000/x`
    assert hide_password("http://localhost:50a0/x@y") == "http://y"
    assert hide_password("http://127.0.0.1:me/x@host:5000") == "http://host:5000"
    assert hide_password("http://ann:p@127.0.0.1:5000/x@y") == "http://127.0.0.1:5000/x@y"


def test_a_program_goes_where_the_address_leads() -> None:
    assert without_login("http://host:5000/x@y?a=b@c#d") == "http://host:5000/x@y?a=b@c#d"
    assert without_login("http://ann:s%40t@host:5000/x@y") == "http://host:5000/x@y"
    assert without_login("http://ann:s@t@host/") == "http://host/"
    assert without_login("http://ann@[::1]:5000") == "http://[::1]:5000"
    assert without_login("http://host?a@b") == "http://host?a@b"
    assert without_login("http://ann@[::1") == "http://[::1"
