"""A proxy whose connections can be interrupted."""

from __future__ import annotations

import contextlib
import socket
import threading


class Proxy:
    """Forwards connections to a server until they are cut."""

    def __init__(self, address: str) -> None:
        self.port = int(address.rpartition(":")[2])
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.ends: list[socket.socket] = []
        threading.Thread(target=self._connect, daemon=True).start()

    def cut(self) -> None:
        """Close all connections; new ones can be made."""
        while self.ends:
            with contextlib.suppress(OSError):
                self.ends.pop().shutdown(socket.SHUT_RDWR)

    def _connect(self) -> None:
        while True:
            client, _ = self.socket.accept()
            server = socket.create_connection(("127.0.0.1", self.port))
            self.ends += (client, server)
            for pair in ((client, server), (server, client)):
                threading.Thread(target=self._forward, args=pair, daemon=True).start()

    def _forward(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
