"""Names and addresses of servers: how a request says them, and which of them no other machine reaches."""

from __future__ import annotations

import ipaddress
import re

LOCAL_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_AUTHORITY = re.compile(
    rf"(?:\[(?P<address>[0-9a-f:.]{{2,45}})\]|(?P<name>{_LABEL}(?:\.{_LABEL})*\.?))(?::(?P<port>[0-9]{{0,5}}))?",
    re.ASCII | re.IGNORECASE,
)
_MAX_NAME_LENGTH = 254  # characters, with the dot at the end
_MAX_PORT = 65_535


def is_local(host: str) -> bool:
    """Tell whether a server of that name or address answers this machine only."""
    try:
        return host in LOCAL_NAMES or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def bracketed(host: str) -> str:
    """Return a name or address as a URL has it: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def parse_host(authority: str) -> str | None:
    """Return the name or address, in small letters, of a host with an optional port, as a Host header has them.

    Whatever else a URL may hold there, such as a user or a fragment, makes it no host: None. Programs that read it
    otherwise than this one does would see another name.
    """
    found = _AUTHORITY.fullmatch(authority)
    if found is None or int(found["port"] or 0) > _MAX_PORT:
        return None
    if found["address"] is None:
        name = found["name"].lower()
        return name if len(name) <= _MAX_NAME_LENGTH else None
    try:
        return ipaddress.IPv6Address(found["address"]).compressed
    except ValueError:
        return None
