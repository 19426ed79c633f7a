"""Clients that take their time: they lose their connections, and the others notice nothing."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import psutil
import pytest
from browser_visitor import CRS, PLACE, Material, Server, start, until

from satseg.data.rasters.writing import write_raster

pytestmark = pytest.mark.slow
OPEN_HEADER = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n"
LARGE_FILE = "/api/v1/static/swagger-ui-bundle.js"


@pytest.fixture(scope="module")
def server(material: Material, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The page and the API, with a queue of few places and little patience."""
    pytest.importorskip("gradio")
    options = [f"checkpoint={material.rgb_model}", "queue_size=1"]
    found = start(*options, temporary=tmp_path_factory.mktemp("impatient"), impatient=True)
    until(lambda: httpx.get(f"{found.address}/readyz").status_code == 200)
    yield found
    assert found.stop() == 0
    log = (found.temporary / "log").read_text()
    assert "Traceback" not in log, log


def address_of(server: Server) -> tuple[str, int]:
    parts = urlsplit(server.address)
    assert parts.hostname and parts.port
    return parts.hostname, parts.port


def connected(server: Server, begin: bytes = b"", source: str = "127.0.0.1") -> socket.socket:
    found = socket.create_connection(address_of(server), timeout=30, source_address=(source, 0))
    found.sendall(begin)
    return found


def num_connections(server: Server) -> int:
    _, port = address_of(server)
    found = psutil.Process(server.process.pid).net_connections("tcp")
    return sum(one.laddr.port == port and one.status == "ESTABLISHED" for one in found)


def everything(connection: socket.socket) -> bytes:
    """Return what comes until the server ends the connection."""
    found = bytearray()
    try:
        while piece := connection.recv(65536):
            found += piece
    except ConnectionResetError:
        pass
    return bytes(found)


def is_open(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return bool(connection.recv(1))
    except BlockingIOError:
        return True
    except ConnectionResetError:
        return False


@contextmanager
def trickling(connections: list[socket.socket]) -> Iterator[None]:
    """Send a byte on each connection, again and again."""
    end = threading.Event()

    def send() -> None:
        while not end.wait(0.2):
            for connection in connections:
                with suppress(OSError):  # it is closed, as it should be
                    connection.send(b"x")

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


def begun(path: str, content_type: str = "image/tiff") -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {content_type}\r\nContent-Length: 1000000\r\n\r\n"
    ).encode()


def image(path: Path, side: int) -> bytes:
    """Return a photograph that cannot be compressed."""
    noise = np.random.default_rng(1).integers(1, 255, (3, side, side)).astype("uint8")
    write_raster(path, noise, crs=CRS, transform=tuple(PLACE)[:6])
    return path.read_bytes()


@pytest.mark.parametrize("path", ["/api/v1/predict", "/api/v1/jobs", "/api/v1/explain?target=water"])
def test_unfinished_images_take_no_place_and_end(server: Server, material: Material, path: str) -> None:
    with ExitStack() as stack:
        slow = [stack.enter_context(connected(server, begun(path))) for _ in range(12)]  # the queue has two places
        with trickling(slow):
            body = material.rgb_image.read_bytes()
            answer = httpx.post(f"{server.address}/api/v1/predict?preflight=warn", content=body, timeout=60)
            assert answer.status_code == 200, answer.text
            assert sum(map(is_open, slow)) == len(slow)
            for connection in slow:
                connection.settimeout(30)
                said = everything(connection)
                assert said.startswith(b"HTTP/1.1 408 ") and b'"title":"Request Timeout"' in said
                assert b"frame-ancestors 'none'" in said.partition(b"\r\n\r\n")[0]
    until(lambda: not list(server.temporary.glob("satseg-*/requests/*")))
    assert not list(server.temporary.glob("satseg-*/jobs/*/upload"))


def uploaded(server: Server) -> list[Path]:
    return [path for path in server.temporary.glob("satseg-*/gradio/**/*") if path.is_file()]


def test_an_unfinished_upload_of_the_page_ends_and_leaves_nothing(server: Server) -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.tif"\r\n\r\n' + bytes(5000)
    cookies = httpx.get(server.address).cookies  # the page's upload is for those who have opened it
    cookie = "; ".join(f"{name}={value}" for name, value in cookies.items())
    begin = begun("/gradio_api/upload", f"multipart/form-data; boundary=x\r\nCookie: {cookie}")
    with connected(server, begin + part) as slow:
        until(lambda: uploaded(server), seconds=20)  # less than its time to end
        with trickling([slow]):
            assert everything(slow).startswith(b"HTTP/1.1 408 ")
    until(lambda: not uploaded(server))


@pytest.mark.parametrize(("begin", "status"), [(b"GET /healthz HTTP/1.0", 200), (b"GET /healthz HTTP/1.1", 400)])
def test_old_clients_need_not_name_the_server(server: Server, begin: bytes, status: int) -> None:
    with connected(server, begin + b"\r\n\r\n") as old:
        assert f" {status} ".encode() in everything(old).partition(b"\r\n")[0]
    with connected(server, b"GET /healthz HTTP/1.0\r\nOrigin: http://evil.example\r\n\r\n") as old:
        assert b" 403 " in everything(old).partition(b"\r\n")[0]


@pytest.mark.parametrize("begin", [b"", b"G", OPEN_HEADER, OPEN_HEADER + b"\r\n" + OPEN_HEADER])
def test_a_header_must_come_to_its_end(server: Server, begin: bytes) -> None:
    with connected(server, begin) as slow, trickling([slow] if begin else []):
        assert everything(slow).count(b"HTTP/1.1 200 OK") == begin.count(b"\r\n\r\n")


def test_the_body_of_a_refused_request_is_not_waited_for(server: Server) -> None:
    with connected(server, begun("/healthz")) as slow, trickling([slow]):
        assert everything(slow).startswith(b"HTTP/1.1 404 ")


def test_of_too_many_connections_the_oldest_without_a_request_go(server: Server, material: Material) -> None:
    with ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(connected(server, OPEN_HEADER))
        assert httpx.get(f"{server.address}/healthz").status_code == 200
        assert num_connections(server) <= 40


def test_an_address_that_is_no_proxys_has_few_connections(server: Server) -> None:
    with ExitStack() as stack:
        opened = [stack.enter_context(connected(server, OPEN_HEADER, "127.0.0.2")) for _ in range(12)]
        other = stack.enter_context(connected(server, OPEN_HEADER, "127.0.0.3"))
        until(lambda: [is_open(one) for one in opened] == [False] * 4 + [True] * 8)
        assert is_open(other)


@pytest.mark.parametrize("path", [LARGE_FILE, "/gradio_api/heartbeat/nobody"])
def test_who_does_not_read_is_not_written_to(server: Server, path: str) -> None:
    before = num_connections(server)
    with socket.socket() as lazy:
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lazy.connect(address_of(server))
        lazy.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode() * (20 if path == LARGE_FILE else 1))
        if path == LARGE_FILE:
            until(lambda: num_connections(server) > before)
            until(lambda: num_connections(server) == before)
        else:  # nothing waits to be read
            time.sleep(5)
            assert is_open(lazy)


def steadily(bytes_a_second: int, step: Callable[[int], object], num_bytes: int) -> None:
    """Do something with so many bytes at such a rate."""
    for _ in range(0, num_bytes, bytes_a_second // 10):
        step(bytes_a_second // 10)
        time.sleep(0.1)


def test_slow_lines_are_served_if_something_passes(server: Server, tmp_path: Path) -> None:
    body = image(tmp_path / "image.tif", 192)
    header = f"POST /api/v1/predict?preflight=warn HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n"
    with connected(server, header.encode()) as slow:
        left = bytearray(body)

        def send(count: int) -> None:
            slow.sendall(left[:count])
            del left[:count]

        steadily(20_000, send, len(body))
        assert slow.recv(65536).startswith(b"HTTP/1.1 200 OK")
    expected = httpx.get(f"{server.address}{LARGE_FILE}").content
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(address_of(server))
        slow.sendall(f"GET {LARGE_FILE} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
        found = bytearray()
        steadily(100_000, lambda count: found.extend(slow.recv(count)), 600_000)
        found += everything(slow)
    assert found.startswith(b"HTTP/1.1 200 OK") and found.endswith(b"\r\n\r\n" + expected)


def plain(path: Path, side: int) -> bytes:
    write_raster(path, np.full((3, side, side), 7, np.uint8))
    return path.read_bytes()


def test_who_waits_for_an_answer_is_not_hurried(server: Server, tmp_path: Path) -> None:
    body = plain(tmp_path / "asked.tif", 2100)  # not so much smaller than the job that this would let it pass
    with httpx.Client(base_url=server.address, timeout=120) as client:
        before = plain(tmp_path / "before.tif", 4000)
        job = client.post("/api/v1/jobs?preflight=warn", content=before).json()["id"]
        answers: list[httpx.Response] = []

        def ask() -> None:
            answers.append(httpx.post(f"{server.address}/api/v1/predict?preflight=warn", content=body, timeout=120))

        thread = threading.Thread(target=ask)
        thread.start()
        time.sleep(5)
        assert not answers and client.get(f"/api/v1/jobs/{job}").json()["state"] == "running"
        assert client.delete(f"/api/v1/jobs/{job}").status_code == 204
        thread.join()
    assert answers[0].status_code == 200
