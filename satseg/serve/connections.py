"""HTTP connections that drop slow clients, and clean up after forms that break off."""

from __future__ import annotations

import asyncio
import ipaddress
import resource
import socket
import time
from collections.abc import Collection
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import h11
from starlette.datastructures import Headers
from starlette.formparsers import MultiPartException
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from satseg.serve.api.problems import problem
from satseg.serve.headers import PLAIN_HEADERS

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

HEADER_SECONDS = 10.0  # from connecting, or from the last response, to the end of a request's header
WINDOW_SECONDS, WINDOW_BYTES = 30.0, 30_000  # minimum rate while a body or a response is transferred: 1 kB/s
UNSENT_BYTES = 1 << 17  # limit of the system's send buffer, so that a client that does not read is noticed
MAX_PER_ADDRESS = 100
MAX_CONNECTIONS = 1000
MAX_FILES = 4096
OTHER_FILES = 512  # files that a server has open besides its connections
BACKLOG = 256  # connections waiting to be accepted
SLOW = f"The request was too slow: send at least {WINDOW_BYTES // WINDOW_SECONDS:.0f} bytes a second."


def max_connections() -> int:
    """Return the maximum number of open connections: each may also need an open file, which the system limits."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < MAX_FILES:
        soft = MAX_FILES if hard == resource.RLIM_INFINITY else min(MAX_FILES, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    files = MAX_FILES if soft == resource.RLIM_INFINITY else soft
    return max(1, min(MAX_CONNECTIONS, (files - OTHER_FILES) // 2))


@dataclass
class ProgressWatch:
    """Checks that bytes keep flowing while they are expected."""

    start: float | None = None
    count: int = 0

    def is_too_slow(self, count: int, now: float) -> bool:
        """Return whether too few bytes have been transferred for too long.

        Args:
            count: Bytes transferred so far.
            now: Time in seconds.
        """
        if self.start is None or count - self.count >= WINDOW_BYTES:
            self.start, self.count = now, count
        return now - self.start > WINDOW_SECONDS

    def reset(self) -> None:
        """Start over: no bytes are expected now."""
        self.start = None


class Connection(H11Protocol):
    """An HTTP connection that is closed when its client keeps the server waiting.

    Time does not count while the server computes, or has nothing to send in an event stream.

    Args:
        proxies: Networks of proxies, which carry connections of many clients and are not limited by address.
        most: Maximum number of open connections.
    """

    def __init__(self, *args: Any, proxies: Collection[Network], most: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._client_network: Network | None = None  # None if it is not limited by address
        self._proxies, self._most = proxies, most
        self._since = time.monotonic()  # idle since then
        self._received = 0
        self._sending, self._reading = ProgressWatch(), ProgressWatch()

    @property
    def is_waiting(self) -> bool:
        """True if no request is being processed or received."""
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept the connection; if there are too many, drop the one that has been idle longest."""
        super().connection_made(transport)
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
        every = [one for one in self.connections if isinstance(one, Connection)]
        address = _address(self.client[0]) if self.client else None
        if address is not None and not any(address in proxy for proxy in self._proxies):
            self._client_network = _client_network(address)
            _drop_idle([one for one in every if one._client_network == self._client_network], MAX_PER_ADDRESS)
        _drop_idle(every, self._most)

    def data_received(self, data: bytes) -> None:
        """Count received bytes."""
        self._received += len(data)
        super().data_received(data)

    def resume_writing(self) -> None:
        """Note that the client has read nearly everything that was sent."""
        self._reading.reset()
        super().resume_writing()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        self._since = time.monotonic()
        super().on_response_complete()

    def check_speed(self, now: float) -> None:
        """Close the connection if its client is too slow."""
        if unsent := self.transport.get_write_buffer_size():
            self._since = now
            if self._reading.is_too_slow(-unsent, now):
                self.transport.abort()  # closing would wait until everything is sent
            return
        self._reading.reset()
        if self.transport.is_closing():
            return
        if self.is_waiting:
            if now - self._since > HEADER_SECONDS:
                self.transport.abort()
        elif not self.cycle.more_body or self.flow.read_paused or self.cycle.disconnected:
            self._sending.reset()
        elif self._sending.is_too_slow(self._received, now):
            self._refuse()

    def drop(self) -> None:
        """Abort the connection."""
        self.connections.discard(self)
        self.transport.abort()

    def _refuse(self) -> None:
        """Stop the application as if the client had disconnected, and send the client the reason."""
        self.cycle.disconnected = True
        self.cycle.message_event.set()
        if not self.cycle.response_started:
            answer = problem(HTTPStatus.REQUEST_TIMEOUT, SLOW)
            plain = [(name.encode(), value.encode()) for name, value in PLAIN_HEADERS.items()]
            headers = [*answer.raw_headers, *plain, (b"connection", b"close")]
            events = h11.Response(status_code=answer.status_code, headers=headers), h11.Data(data=bytes(answer.body))
            for event in (*events, h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


def drop_slow(connections: Collection[asyncio.Protocol], now: float) -> None:
    """Close the connections whose clients are too slow; to be called about every second.

    Args:
        connections: Connections of a server.
        now: Seconds of the monotonic clock.
    """
    for connection in list(connections):
        if isinstance(connection, Connection):
            connection.check_speed(now)


def _drop_idle(connections: Collection[Connection], most: int) -> None:
    if len(connections) > most:
        min((one for one in connections if one.is_waiting), key=lambda one: one._since).drop()


def _address(host: str) -> Address:
    address = ipaddress.ip_address(host)
    return getattr(address, "ipv4_mapped", None) or address


def _client_network(address: Address) -> Network:
    """Return the network of a single client: an IPv6 client gets a /64, an IPv4 client one address."""
    return ipaddress.ip_network((int(address), 64) if address.version == 6 else address, strict=False)


class CompleteForms:
    """Reports a form that broke off as malformed, since only then does Gradio remove its files.

    Args:
        app: The application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http" or "multipart/" not in Headers(scope=scope).get("content-type", "").lower():
            await self._app(scope, receive, send)
            return
        whole = False

        async def receiving() -> Message:
            nonlocal whole
            message = await receive()
            if message["type"] == "http.disconnect" and not whole:
                raise MultiPartException("The form broke off.")
            whole = whole or not message.get("more_body", False)
            return message

        await self._app(scope, receiving, send)
