"""Slow clients are disconnected and do not affect other clients."""

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
from browser_visitor import CRS, PLACE, Assets, Server, start, wait_until

from satseg.data.rasters.writing import write_raster

pytestmark = pytest.mark.slow
OPEN_HEADER = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n"
LARGE_FILE = "/api/v1/static/swagger-ui-bundle.js"


@pytest.fixture(scope="module")
def server(assets: Assets, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Start the app and the API with a short queue and short timeouts."""
    pytest.importorskip("gradio")
    options = [f"checkpoint={assets.rgb_model}", "queue_size=1"]
    found = start(*options, temporary=tmp_path_factory.mktemp("short_timeouts"), short_timeouts=True)
    wait_until(lambda: httpx.get(f"{found.address}/readyz").status_code == 200)
    yield found
    assert found.stop() == 0
    log = (found.temporary / "log").read_text()
    assert "Traceback" not in log, log


def address_of(server: Server) -> tuple[str, int]:
    parts = urlsplit(server.address)
    assert parts.hostname and parts.port
    return parts.hostname, parts.port


def connect(server: Server, begin: bytes = b"", source: str = "127.0.0.1") -> socket.socket:
    found = socket.create_connection(address_of(server), timeout=30, source_address=(source, 0))
    found.sendall(begin)
    return found


def num_connections(server: Server) -> int:
    _, port = address_of(server)
    found = psutil.Process(server.process.pid).net_connections("tcp")
    return sum(one.laddr.port == port and one.status == "ESTABLISHED" for one in found)


def read_all(connection: socket.socket) -> bytes:
    """Return all data until the server closes the connection."""
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
def send_bytes_slowly(connections: list[socket.socket]) -> Iterator[None]:
    """Send one byte every 0.2 s on each connection for the length of a block."""
    end = threading.Event()

    def send() -> None:
        while not end.wait(0.2):
            for connection in connections:
                with suppress(OSError):  # closed by the server, as expected
                    connection.send(b"x")

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


def request_header(path: str, content_type: str = "image/tiff") -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {content_type}\r\nContent-Length: 1000000\r\n\r\n"
    ).encode()


def image(path: Path, side: int) -> bytes:
    """Return an image file that cannot be compressed."""
    noise = np.random.default_rng(1).integers(1, 255, (3, side, side)).astype("uint8")
    write_raster(path, noise, crs=CRS, transform=tuple(PLACE)[:6])
    return path.read_bytes()


@pytest.mark.parametrize("path", ["/api/v1/predict", "/api/v1/jobs", "/api/v1/explain?target=water"])
def test_unfinished_images_do_not_occupy_the_queue_and_time_out(server: Server, assets: Assets, path: str) -> None:
    with ExitStack() as stack:
        slow = [
            stack.enter_context(connect(server, request_header(path))) for _ in range(12)
        ]  # the queue has room for two
        with send_bytes_slowly(slow):
            body = assets.rgb_image.read_bytes()
            answer = httpx.post(f"{server.address}/api/v1/predict?preflight=warn", content=body, timeout=60)
            assert answer.status_code == 200, answer.text
            assert sum(map(is_open, slow)) == len(slow)
            for connection in slow:
                connection.settimeout(30)
                response = read_all(connection)
                assert response.startswith(b"HTTP/1.1 408 ") and b'"title":"Request Timeout"' in response
                assert b"frame-ancestors 'none'" in response.partition(b"\r\n\r\n")[0]
    wait_until(lambda: not list(server.temporary.glob("satseg-*/requests/*")))
    assert not list(server.temporary.glob("satseg-*/jobs/*/upload"))


def stored_uploads(server: Server) -> list[Path]:
    return [path for path in server.temporary.glob("satseg-*/gradio/**/*") if path.is_file()]


def test_an_unfinished_upload_to_the_page_times_out_and_leaves_no_file(server: Server) -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.tif"\r\n\r\n' + bytes(5000)
    cookies = httpx.get(server.address).cookies  # uploading requires the cookie of the page
    cookie = "; ".join(f"{name}={value}" for name, value in cookies.items())
    begin = request_header("/gradio_api/upload", f"multipart/form-data; boundary=x\r\nCookie: {cookie}")
    with connect(server, begin + part) as slow:
        wait_until(lambda: stored_uploads(server), seconds=20)  # before it times out
        with send_bytes_slowly([slow]):
            assert read_all(slow).startswith(b"HTTP/1.1 408 ")
    wait_until(lambda: not stored_uploads(server))


@pytest.mark.parametrize(("begin", "status"), [(b"GET /healthz HTTP/1.0", 200), (b"GET /healthz HTTP/1.1", 400)])
def test_http_1_0_requests_need_no_host_header(server: Server, begin: bytes, status: int) -> None:
    with connect(server, begin + b"\r\n\r\n") as old:
        assert f" {status} ".encode() in read_all(old).partition(b"\r\n")[0]
    with connect(server, b"GET /healthz HTTP/1.0\r\nOrigin: http://evil.example\r\n\r\n") as old:
        assert b" 403 " in read_all(old).partition(b"\r\n")[0]


@pytest.mark.parametrize("begin", [b"", b"G", OPEN_HEADER, OPEN_HEADER + b"\r\n" + OPEN_HEADER])
def test_unfinished_headers_time_out(server: Server, begin: bytes) -> None:
    with connect(server, begin) as slow, send_bytes_slowly([slow] if begin else []):
        assert read_all(slow).count(b"HTTP/1.1 200 OK") == begin.count(b"\r\n\r\n")


def test_the_server_does_not_wait_for_the_body_of_a_refused_request(server: Server) -> None:
    with connect(server, request_header("/healthz")) as slow, send_bytes_slowly([slow]):
        assert read_all(slow).startswith(b"HTTP/1.1 404 ")


def test_the_oldest_idle_connections_are_closed_when_there_are_too_many(server: Server, assets: Assets) -> None:
    with ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(connect(server, OPEN_HEADER))
        assert httpx.get(f"{server.address}/healthz").status_code == 200
        assert num_connections(server) <= 40


def test_connections_per_address_are_limited_except_for_proxies(server: Server) -> None:
    with ExitStack() as stack:
        opened = [stack.enter_context(connect(server, OPEN_HEADER, "127.0.0.2")) for _ in range(12)]
        other = stack.enter_context(connect(server, OPEN_HEADER, "127.0.0.3"))
        wait_until(lambda: [is_open(one) for one in opened] == [False] * 4 + [True] * 8)
        assert is_open(other)


@pytest.mark.parametrize("path", [LARGE_FILE, "/gradio_api/heartbeat/nobody"])
def test_clients_that_do_not_read_are_disconnected_only_if_data_is_waiting(server: Server, path: str) -> None:
    before = num_connections(server)
    with socket.socket() as unread:
        unread.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        unread.connect(address_of(server))
        unread.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode() * (20 if path == LARGE_FILE else 1))
        if path == LARGE_FILE:
            wait_until(lambda: num_connections(server) > before)
            wait_until(lambda: num_connections(server) == before)
        else:  # no data is waiting
            time.sleep(5)
            assert is_open(unread)


def at_constant_rate(bytes_a_second: int, step: Callable[[int], object], num_bytes: int) -> None:
    """Call `step` with a number of bytes ten times a second, until `num_bytes` are reached."""
    for _ in range(0, num_bytes, bytes_a_second // 10):
        step(bytes_a_second // 10)
        time.sleep(0.1)


def test_slow_clients_that_make_progress_are_served(server: Server, tmp_path: Path) -> None:
    body = image(tmp_path / "image.tif", 192)
    header = f"POST /api/v1/predict?preflight=warn HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n"
    with connect(server, header.encode()) as slow:
        left = bytearray(body)

        def send(count: int) -> None:
            slow.sendall(left[:count])
            del left[:count]

        at_constant_rate(20_000, send, len(body))
        assert slow.recv(65536).startswith(b"HTTP/1.1 200 OK")
    expected = httpx.get(f"{server.address}{LARGE_FILE}").content
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(address_of(server))
        slow.sendall(f"GET {LARGE_FILE} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
        found = bytearray()
        at_constant_rate(100_000, lambda count: found.extend(slow.recv(count)), 600_000)
        found += read_all(slow)
    assert found.startswith(b"HTTP/1.1 200 OK") and found.endswith(b"\r\n\r\n" + expected)


def uniform_image(path: Path, side: int) -> bytes:
    write_raster(path, np.full((3, side, side), 7, np.uint8))
    return path.read_bytes()


def test_clients_that_wait_for_a_response_do_not_time_out(server: Server, tmp_path: Path) -> None:
    body = uniform_image(tmp_path / "asked.tif", 2100)  # large enough not to overtake the job
    with httpx.Client(base_url=server.address, timeout=120) as client:
        before = uniform_image(tmp_path / "before.tif", 4000)
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
