"""A local listener that counts connections."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Listener:
    """The address of a listener, and the number of connections to it."""

    def __init__(self, server: socket.socket) -> None:
        self.url = f"http://127.0.0.1:{server.getsockname()[1]}"
        self.connections = 0


@contextmanager
def listener() -> Iterator[Listener]:
    """Listen for the length of a block; connections are closed at once."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        found = Listener(server)
        server.settimeout(0.1)
        ended = threading.Event()

        def count() -> None:
            while not ended.is_set():
                try:
                    server.accept()[0].close()
                except TimeoutError:
                    continue
                found.connections += 1

        thread = threading.Thread(target=count, daemon=True)
        thread.start()
        yield found
        ended.set()
        thread.join()
