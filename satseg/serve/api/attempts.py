"""Wrong passwords, counted for each address, so that nobody guesses for long."""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict, deque

from starlette.requests import HTTPConnection
from starlette.responses import Response

from satseg.serve.api.problems import problem

MOST, SECONDS = 20, 60  # wrong passwords of an address, in so many seconds
MOST_ADDRESSES = 10_000  # that are remembered


class Attempts:
    """Remembers when an address last named a wrong password; where several users share one, they share the limit."""

    def __init__(self) -> None:
        self._wrong: OrderedDict[str, deque[float]] = OrderedDict()

    def add(self, connection: HTTPConnection) -> None:
        """Note a wrong password."""
        key = _key(connection)
        self._wrong.setdefault(key, deque(maxlen=MOST)).append(time.monotonic())
        self._wrong.move_to_end(key)
        if len(self._wrong) > MOST_ADDRESSES:
            self._wrong.popitem(last=False)

    def refusal(self, connection: HTTPConnection) -> Response | None:
        """Return the answer to an address that has named too many; None for any other."""
        times = self._wrong.get(_key(connection), deque())
        left = SECONDS - (time.monotonic() - times[0]) if len(times) == MOST else 0.0
        if left <= 0:
            return None
        headers = {"Retry-After": str(round(left) + 1)}
        return problem(429, "Too many wrong passwords came from your address; try again in a minute.", headers)


def _key(connection: HTTPConnection) -> str:
    """Return an address, of IPv6 the network that one client is given."""
    host = connection.client.host if connection.client else ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:  # what a proxy says
        return host
    return str(ipaddress.ip_network((int(address), 64), strict=False)) if address.version == 6 else host
