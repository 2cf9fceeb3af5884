"""Addresses of servers and databases, without the names and passwords that they may hold."""

from __future__ import annotations

import re
from ipaddress import ip_address

_NO_SCHEME = re.compile(r"(?i)(?!file:)[^/]*:")  # a name and password, or a port, without http:// before it
_SECRET = re.compile(r"(?i)((?<![^&;#])[\w.%-]*(?:pass|pwd|token|secret|key|auth|credential|sig)[\w.%-]*=)[^&#]*")


def hide_password(address: str) -> str:
    """Return an address for people, without a name and password before its host, and secrets behind a question mark.

    Where an ``@`` stands behind ``name:text/``, all before it is left out: it may be a password with a slash in it,
    unless the name is ``localhost`` or a number of a host.
    """
    before, separator, rest = address.partition("://")
    if not separator and _NO_SCHEME.match(address):
        before, rest = "", address
    host, slash, path = rest.partition("/")
    host = host.rpartition("@")[2]
    plain = re.split(r"\?[\w.%-]+=", path)[0] if re.search(r":\d+$", host) else path
    if ":" in host and "@" in plain and not _is_host(host):
        host, slash, path = rest.rpartition("@")[2].partition("/")
    shown, question, query = f"{before}{separator}{host}{slash}{path}".partition("?")
    return shown + question + _SECRET.sub(r"\1...", query)


def _is_host(text: str) -> bool:
    """Tell whether a text is certainly a host and its port, and no name and password."""
    name, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdecimal()):
        return False
    try:
        ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return name.lower() == "localhost"
    return True


def without_login(address: str) -> str:
    """Return the address of a server for a program: without a name and password before its host, else as it is."""
    before, separator, rest = address.partition("://")
    place = re.match(r"[^/?#]*", rest)
    assert place is not None
    return f"{before}{separator}{place[0].rpartition('@')[2]}{rest[place.end() :]}"
