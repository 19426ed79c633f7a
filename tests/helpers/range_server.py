"""A local HTTP server that supports range requests."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar


class Server(BaseHTTPRequestHandler):
    """Serves files with range requests, and counts requests and bytes."""

    folder: ClassVar[Path]
    requested: ClassVar[list[str]] = []
    sent: ClassVar[int] = 0
    busy: ClassVar[int] = 0  # number of further requests answered with 503

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        Server.requested.append(self.path)
        file = self.folder / self.path.partition("?")[0].rpartition("/")[2]
        if Server.busy > 0 or not file.is_file():
            status = 503 if Server.busy > 0 else 404
            Server.busy -= 1
            self.reply(status, b"", {})
            return
        data = file.read_bytes()
        span = self.headers.get("Range")
        if span is None:
            self.reply(200, data, {"Accept-Ranges": "bytes"})
            return
        first, _, last = span.removeprefix("bytes=").partition("-")
        part = data[int(first) : int(last) + 1 if last else None]
        self.reply(206, part, {"Content-Range": f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}"})

    def reply(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        if self.command == "GET":
            Server.sent += len(body)
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Do not log requests."""


@contextmanager
def serve(folder: Path) -> Iterator[str]:
    """Serve a folder on a new port, since GDAL caches what it has read from an address; yield host and port."""
    Server.folder, Server.requested, Server.sent, Server.busy = folder, [], 0, 0
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
