"""Parsing and classification of host names and addresses."""

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
    """Return whether a host name or address is a loopback one."""
    try:
        return host in LOCAL_NAMES or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def bracketed(host: str) -> str:
    """Return a name or address as written in a URL, with an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def parse_host(authority: str) -> str | None:
    """Return the lower-case name or address of a Host header, which may include a port; None if it is malformed.

    Anything else that a URL may hold there, such as a user or a fragment, is refused, as other programs could parse it
    differently.
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
