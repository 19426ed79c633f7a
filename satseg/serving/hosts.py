"""Names and addresses of this machine that no other machine reaches."""

from __future__ import annotations

import ipaddress

LOCAL_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})


def is_local(host: str) -> bool:
    """Tell whether a server of that name or address answers this machine only."""
    try:
        return host in LOCAL_NAMES or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
