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

HEADER_SECONDS = 10.0  # from the connection, or the last answer, to the end of a request's header
WINDOW_SECONDS, WINDOW_BYTES = 30.0, 30_000  # what must pass while a body or an answer is on its way: 1 kB/s
UNSENT_BYTES = 1 << 17  # that the system keeps to send, so that a client that does not read is seen
MAX_PER_ADDRESS = 100
MAX_CONNECTIONS = 1000
MAX_FILES = 4096
OTHER_FILES = 512  # that a server has open beside its connections
BACKLOG = 256  # connections that are taken at a time
SLOW = f"The request did not come to its end in time: at least {WINDOW_BYTES // WINDOW_SECONDS:.0f} bytes a second."


def max_connections() -> int:
    """Return how many connections may be open: each may have a file beside it, and files are limited by the system."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < MAX_FILES:
        soft = MAX_FILES if hard == resource.RLIM_INFINITY else min(MAX_FILES, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    files = MAX_FILES if soft == resource.RLIM_INFINITY else soft
    return max(1, min(MAX_CONNECTIONS, (files - OTHER_FILES) // 2))


@dataclass
class ProgressWatch:
    """Watches that enough bytes pass while they are waited for."""

    start: float | None = None
    count: int = 0

    def is_too_slow(self, count: int, now: float) -> bool:
        """Say whether too little has passed for too long.

        Args:
            count: Bytes that have passed.
            now: Time in seconds.
        """
        if self.start is None or count - self.count >= WINDOW_BYTES:
            self.start, self.count = now, count
        return now - self.start > WINDOW_SECONDS

    def rest(self) -> None:
        """Begin anew: nothing is waited for."""
        self.start = None


class Connection(H11Protocol):
    """An HTTP connection that ends when its client keeps the server waiting.

    While the server computes, and while it has nothing to tell in an event stream, no time is taken.

    Args:
        proxies: Networks of proxies, whose connections are those of their clients and are not limited by address.
        most: Connections that may be open in all.
    """

    def __init__(self, *args: Any, proxies: Collection[Network], most: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._line: Network | None = None  # where it comes from, if that is limited
        self._proxies, self._most = proxies, most
        self._since = time.monotonic()  # it waits for a request
        self._received = 0
        self._sending, self._reading = ProgressWatch(), ProgressWatch()

    @property
    def is_waiting(self) -> bool:
        """Whether no request is being worked on, nor its body on the way."""
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection; where there are too many, that without a request goes which has waited longest."""
        super().connection_made(transport)
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
        every = [one for one in self.connections if isinstance(one, Connection)]
        address = _address(self.client[0]) if self.client else None
        if address is not None and not any(address in proxy for proxy in self._proxies):
            self._line = _line(address)
            _thin([one for one in every if one._line == self._line], MAX_PER_ADDRESS)
        _thin(every, self._most)

    def data_received(self, data: bytes) -> None:
        """Note that something came."""
        self._received += len(data)
        super().data_received(data)

    def resume_writing(self) -> None:
        """Note that the client has read nearly all that was sent."""
        self._reading.rest()
        super().resume_writing()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        self._since = time.monotonic()
        super().on_response_complete()

    def look(self, now: float) -> None:
        """End the connection if its client is too slow."""
        if unsent := self.transport.get_write_buffer_size():
            self._since = now
            if self._reading.is_too_slow(-unsent, now):
                self.transport.abort()  # to close would be to wait until all is sent
            return
        self._reading.rest()
        if self.transport.is_closing():
            return
        if self.is_waiting:
            if now - self._since > HEADER_SECONDS:
                self.transport.abort()
        elif not self.cycle.more_body or self.flow.read_paused or self.cycle.disconnected:
            self._sending.rest()
        elif self._sending.is_too_slow(self._received, now):
            self._refuse()

    def drop(self) -> None:
        """End the connection at once."""
        self.connections.discard(self)
        self.transport.abort()

    def _refuse(self) -> None:
        """Have the application end as if the client had gone, and tell the client why."""
        self.cycle.disconnected = True
        self.cycle.message_event.set()
        if not self.cycle.response_started:
            answer = problem(HTTPStatus.REQUEST_TIMEOUT, SLOW)
            told = [(name.encode(), value.encode()) for name, value in PLAIN_HEADERS.items()]
            headers = [*answer.raw_headers, *told, (b"connection", b"close")]
            events = h11.Response(status_code=answer.status_code, headers=headers), h11.Data(data=bytes(answer.body))
            for event in (*events, h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


def look(connections: Collection[asyncio.Protocol], now: float) -> None:
    """End the connections whose clients are too slow; to be called every second or so.

    Args:
        connections: Those of a server.
        now: Time by the monotonic clock, in seconds.
    """
    for connection in list(connections):
        if isinstance(connection, Connection):
            connection.look(now)


def _thin(connections: Collection[Connection], most: int) -> None:
    if len(connections) > most:
        min((one for one in connections if one.is_waiting), key=lambda one: one._since).drop()


def _address(host: str) -> Address:
    address = ipaddress.ip_address(host)
    return getattr(address, "ipv4_mapped", None) or address


def _line(address: Address) -> Network:
    """Return the addresses that one client has: of IPv6 it is given a network."""
    return ipaddress.ip_network((int(address), 64) if address.version == 6 else address, strict=False)


class CompleteForms:
    """Tells an application of a form that broke off as of one that is wrong, after which alone Gradio removes files.

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
