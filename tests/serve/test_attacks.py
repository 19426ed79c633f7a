"""Hostile uploads: no other file is read, no connection is made, and the server keeps running."""

from __future__ import annotations

import io
import json
import random
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
import rasterio
from browser_visitor import Assets, Server, random_squares, start
from connection_counter import Listener

SECRET = 97  # pixel value of a file that must not be read
EXPECTED_STATUS = {200, 413, 415, 422}


@pytest.fixture(scope="module")
def secret(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("secret") / "secret.tif"
    with rasterio.open(path, "w", driver="GTiff", width=64, height=64, count=3, dtype="uint8") as file:
        file.write(np.full((3, 64, 64), SECRET, np.uint8))
    return path


@pytest.fixture(scope="module")
def target(assets: Assets, internet: Listener, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("target")
    server = start(f"checkpoint={assets.rgb_model}", temporary=folder, proxy=internet.url, name="serve")
    yield server
    if server.process.poll() is None:
        server.stop()


def image_bytes(driver: str, side: int = 64, **profile: object) -> bytes:
    with rasterio.MemoryFile() as memory:
        with memory.open(driver=driver, width=side, height=side, count=3, dtype="uint8", **profile) as file:
            file.write(random_squares(3, side, 256, "uint8"))
        return memory.read()


def vrt(source: str) -> bytes:
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{i}"><SimpleSource><SourceFilename>{source}</SourceFilename>'
        f"<SourceBand>{i}</SourceBand></SimpleSource></VRTRasterBand>"
        for i in (1, 2, 3)
    )
    return f'<VRTDataset rasterXSize="64" rasterYSize="64">{bands}</VRTDataset>'.encode()


def polyglot(comment: bytes) -> bytes:
    """Return a JPEG with a comment near its start, where GDAL looks for signatures of other formats."""
    jpeg = image_bytes("JPEG")
    return jpeg[:2] + b"\xff\xfe" + struct.pack(">H", len(comment) + 2) + comment + jpeg[2:]


def zip_bomb() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("image.tif", bytes(50_000_000))
    return file.getvalue()


def huge_png() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(10**6)))
        + chunk(b"IEND", b"")
    )


def huge_tiff(folder: Path, **profile: object) -> bytes:
    path = folder / "huge.tif"
    shape = {"width": 60_000, "height": 60_000, "count": 3, "dtype": "uint8", "tiled": True} | profile
    with rasterio.open(path, "w", driver="GTiff", sparse_ok=True, **shape):
        pass
    return path.read_bytes()


def tiff_directory(entries: dict[int, tuple[int, ...]], at: int, *, last: bool) -> bytes:
    """Return an image file directory (IFD) of a TIFF for a given file offset."""
    size, extra, body = 2 + 12 * len(entries) + 4, b"", struct.pack("<H", len(entries))
    for tag, values in sorted(entries.items()):
        data = struct.pack(f"<{len(values)}I", *values)
        body += struct.pack("<HHI", tag, 4, len(values))
        body += data if len(values) == 1 else struct.pack("<I", at + size + len(extra))
        extra += data if len(values) > 1 else b""
    return body + struct.pack("<I", 0 if last else at + size + len(extra)) + extra


def huge_second_directory(kind: int, *, broken_between: bool = False) -> bytes:
    """Return a small sparse TIFF whose mask (kind 4) or overview (1) is one tile of 49,152 x 49,152 pixels."""
    side, tile = 256 if kind == 4 else 128, 49_152
    image = {254: (0,), 256: (256,), 257: (256,), 258: (8, 8, 8), 259: (8,), 262: (2,), 277: (3,), 284: (1,)}
    image |= {322: (256,), 323: (256,), 324: (0,), 325: (0,)}
    second = {254: (kind,), 256: (side,), 257: (side,), 322: (tile,), 323: (tile,), 324: (0,), 325: (0,)}
    second |= {258: (1,), 259: (8,), 262: (4,), 277: (1,)} if kind == 4 else {k: image[k] for k in (258, 259, 262, 277)}
    content = struct.pack("<2sHI", b"II", 42, 8)
    content += tiff_directory(image, len(content), last=False)
    if broken_between:
        content += tiff_directory(image | {258: (77, 77, 77)}, len(content), last=False)
    return content + tiff_directory(second, len(content), last=True)


def many_pages() -> bytes:
    page = {256: (16,), 257: (16,), 258: (8,), 259: (1,), 262: (1,), 273: (8,), 277: (1,), 278: (16,), 279: (256,)}
    content = struct.pack("<2sHI", b"II", 42, 8)
    for number in range(300):
        content += tiff_directory(page, len(content), last=number == 299)
    return content + bytes(256)


def attacks(secret: Path, address: str, folder: Path) -> dict[str, tuple[bytes, int]]:
    """Return request bodies and their expected status."""
    remote = f"/vsicurl/{address}/image.tif"
    wms = f'<GDAL_WMS><Service name="TMS"><ServerUrl>{address}/x</ServerUrl></Service></GDAL_WMS>'
    return {
        "vrt of a file": (vrt(str(secret)), 415),
        "vrt of an address": (vrt(remote), 415),
        "polyglot of a file": (polyglot(vrt(str(secret))), 200),
        "polyglot of an address": (polyglot(vrt(remote)), 200),
        "name of an address": (remote.encode(), 415),
        "inline xml": (wms.encode(), 415),
        "zip bomb": (zip_bomb(), 415),
        "huge png": (huge_png(), 413),
        "huge tiff": (huge_tiff(folder), 413),
        "huge tile": (huge_tiff(folder, width=5000, height=4000, blockxsize=49_152, blockysize=49_152), 413),
        "huge mask": (huge_second_directory(4), 413),
        "huge mask behind what is broken": (huge_second_directory(4, broken_between=True), 413),
        "huge overview": (huge_second_directory(1), 413),
        "many pages": (many_pages(), 413),
        "many bands": (huge_tiff(folder, width=64, height=64, count=20_000), 413),
    }


def test_hostile_files_leak_nothing_and_cause_no_connections(
    target: Server, internet: Listener, secret: Path, tmp_path: Path
) -> None:
    process = psutil.Process(target.process.pid)
    with httpx.Client(base_url=target.address, timeout=120) as client:
        plain = client.post("/api/v1/predict?preflight=warn", content=image_bytes("JPEG"))
        before = process.memory_info().rss
        for name, (body, status) in attacks(secret, internet.url, tmp_path).items():
            for path in ("predict?preflight=warn", "jobs", "explain?target=water"):
                if path != "predict?preflight=warn" and status == 200:
                    continue
                found = client.post(f"/api/v1/{path}", content=body)
                assert found.status_code == status, (name, found.text)
                if status == 200:  # read as the JPEG that it also is
                    assert found.content == plain.content
                    continue
                text = found.text
                assert str(secret.parent) not in text and str(target.temporary) not in text and "Traceback" not in text
        assert process.memory_info().rss - before < 150e6
    assert internet.connections == 0
    assert not list(target.temporary.glob("satseg-*/requests/*")) and not list(
        target.temporary.glob("satseg-*/jobs/[!.]*")
    )


@pytest.mark.parametrize(
    "name", ["../../../etc/passwd", "/vsicurl/http://x/y.tif", "a\r\nSet-Cookie: x=y", "..", "ä 中.tif"]
)
def test_file_names_of_uploads_are_sanitised(target: Server, name: str) -> None:
    with httpx.Client(base_url=target.address, timeout=60) as client:
        found = client.post("/api/v1/predict", params={"name": name, "preflight": "warn"}, content=image_bytes("PNG"))
        assert found.status_code == 200 and "set-cookie" not in found.headers
        disposition = found.headers["content-disposition"]
        assert disposition.isascii() and not set("/\\\r\n") & set(disposition)
        wrong = client.post("/api/v1/predict", params={"name": name}, content=b"nothing")
        assert wrong.status_code == 415 and "/" not in wrong.json()["detail"]


def test_path_traversal_is_refused(target: Server) -> None:
    with httpx.Client(base_url=target.address) as client:
        for path in ("..%2f..%2fetc%2fpasswd", "%2e%2e", "/etc/passwd", "x" * 32):
            for rest in ("", "/result"):
                assert client.get(f"/api/v1/jobs/{path}{rest}").status_code in (404, 422)
        assert client.get("/api/v1/static/..%2f..%2fpyproject.toml").status_code == 404


def mutated(seed: int) -> bytes:
    """Return an image with bytes changed, removed or duplicated at random."""
    rng = random.Random(seed)
    options: list[tuple[str, dict[str, object]]] = [
        ("PNG", {}),
        ("JPEG", {}),
        ("GTiff", {"compress": "deflate", "tiled": True, "blockxsize": 32, "blockysize": 32}),
        ("GTiff", {"compress": "lzw", "predictor": 2}),
        ("GTiff", {"compress": "jpeg", "photometric": "ycbcr"}),
        ("GTiff", {"compress": "zstd"}),
        ("GTiff", {}),
    ]
    driver, profile = options[seed % len(options)]
    content = bytearray(image_bytes(driver, **profile))
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(4, len(content))
        kind = rng.randrange(5)
        if kind == 0:
            content[at] = rng.randrange(256)
        elif kind == 1:
            content[at : at + 4] = struct.pack("<I", rng.choice((0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 60_000, at)))
        elif kind == 2:
            content[at : at + rng.randint(1, 40)] = b""
        elif kind == 3:
            content[at:at] = content[at : at + rng.randint(1, 40)]
        elif len(content) > 200:
            content = content[: max(100, at)]
    return bytes(content)


@pytest.mark.slow
def test_500_randomly_damaged_files_are_read_or_refused(target: Server, internet: Listener) -> None:
    counts: dict[int, int] = {}
    with httpx.Client(base_url=target.address, timeout=60) as client:
        for seed in range(500):
            found = client.post("/api/v1/predict?preflight=warn", content=mutated(seed))
            assert found.status_code in EXPECTED_STATUS, (seed, found.text)
            counts[found.status_code] = counts.get(found.status_code, 0) + 1
            if found.status_code != 200:
                detail = json.loads(found.text)["detail"]
                assert str(target.temporary) not in detail and "satseg-" not in detail, detail
        assert client.get("/healthz").status_code == 200
    assert counts[200] > 20 and counts[422] > 50  # both outcomes occur
    log = (target.temporary / "log").read_text()
    assert "Traceback" not in log and internet.connections == 0 and target.process.poll() is None
