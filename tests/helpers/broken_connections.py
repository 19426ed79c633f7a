"""Connections that break."""

from __future__ import annotations

import contextlib
import socket
import threading


class Cable:
    """Leads to a server, and can be cut."""

    def __init__(self, address: str) -> None:
        self.port = int(address.rpartition(":")[2])
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.ends: list[socket.socket] = []
        threading.Thread(target=self._connect, daemon=True).start()

    def cut(self) -> None:
        """Break all connections; new ones can be made."""
        while self.ends:
            with contextlib.suppress(OSError):
                self.ends.pop().shutdown(socket.SHUT_RDWR)

    def _connect(self) -> None:
        while True:
            near, _ = self.socket.accept()
            far = socket.create_connection(("127.0.0.1", self.port))
            self.ends += (near, far)
            for pair in ((near, far), (far, near)):
                threading.Thread(target=self._carry, args=pair, daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
