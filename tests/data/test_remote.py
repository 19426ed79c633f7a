"""Rasters behind URLs, on a local server: range requests, retries, and errors without credentials."""

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from range_server import Server, serve

from satseg.data.rasters.header import Window, read_info
from satseg.data.rasters.inputs import find_inputs, source_name
from satseg.data.rasters.opening import redacted
from satseg.data.rasters.raster import read_image, read_window
from satseg.errors import RasterReadError

SIZE = 1536
WINDOW = Window(300, 400, 256, 256)
SECRET = "se=2030&sig=SECRET"


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """Put a scene of several megabytes on the server; return its pixel values."""
    Server.folder = tmp_path_factory.mktemp("server")
    array = np.random.default_rng(2).integers(1, 60_000, (1, SIZE, SIZE)).astype(np.uint16)
    profile = {"driver": "GTiff", "count": 1, "width": SIZE, "height": SIZE, "dtype": "uint16", "crs": "EPSG:32633"}
    profile["transform"] = rasterio.Affine(10, 0, 500_000, 0, -10, 4_600_000)
    with rasterio.MemoryFile() as memory:
        with memory.open(**profile) as target:
            target.write(array)
        with memory.open() as source:
            rasterio.shutil.copy(source, Server.folder / "scene.tif", driver="COG", blocksize=256)
    return array


@pytest.fixture
def host(scene: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Start a server for one test; yield its host and port."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with serve(Server.folder) as host:
        yield host


def test_reading_a_window_transfers_a_small_part_of_the_file(host: str, scene: np.ndarray) -> None:
    url = f"http://{host}/scene.tif?{SECRET}"
    (found,) = find_inputs(url)
    info = read_info(found)
    assert (info.path, info.width, info.dtype, info.gsd_m, source_name(found)) == (url, SIZE, "uint16", 10, "scene")
    expected = scene[:, 400:656, 300:556]
    np.testing.assert_array_equal(read_window(found, WINDOW), expected)
    image, valid = read_image(found, WINDOW)
    np.testing.assert_array_equal(image, expected)
    size = (Server.folder / "scene.tif").stat().st_size
    assert size > 4_000_000 and valid.all()
    assert expected.nbytes < Server.sent < 0.2 * size
    assert {path.partition("?")[0] for path in Server.requested} == {"/scene.tif"}  # no sidecar files are requested


def test_s3_and_gs_buckets_are_read(host: str, scene: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {
        "AWS_S3_ENDPOINT": host,
        "AWS_HTTPS": "NO",
        "AWS_VIRTUAL_HOSTING": "FALSE",
        "AWS_NO_SIGN_REQUEST": "YES",
    }
    settings |= {"CPL_GS_ENDPOINT": f"http://{host}/", "GS_NO_SIGN_REQUEST": "YES"}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    for url in ("s3://bucket/scene.tif", "gs://bucket/scene.tif"):
        np.testing.assert_array_equal(read_window(url, WINDOW), scene[:, 400:656, 300:556])
    with pytest.raises(RasterReadError, match=r"s3://bucket/none\.tif cannot be read .*404.*AWS_NO_SIGN_REQUEST"):
        read_info("s3://bucket/none.tif")


def test_requests_are_retried_while_the_server_is_busy(
    host: str, scene: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GDAL_HTTP_RETRY_DELAY", "0.01")  # the user's setting is respected
    Server.busy = 2
    np.testing.assert_array_equal(read_window(f"http://{host}/scene.tif", WINDOW), scene[:, 400:656, 300:556])
    assert len(Server.requested) > 3


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (f"http://HOST/none.tif?{SECRET}", r"/none\.tif cannot be read \(.*404"),
        (f"http://user:SECRET@HOST/none.tif?{SECRET}", r"http://127\.0\.0\.1:\d+/none\.tif cannot be read \(.*404"),
        (f"http://HOST/text.tif?{SECRET}", r"/text\.tif cannot be read \(.*not recognized"),
        (f"http://user:SECRET@127.0.0.1:1/a.tif?{SECRET}", r"http://127\.0\.0\.1:1/a\.tif cannot be read .*connect"),
    ],
)
def test_unreadable_urls_raise_an_error_of_one_line_without_credentials(
    host: str, url: str, expected: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    (Server.folder / "text.tif").write_text("not a raster")
    caplog.set_level(logging.INFO)
    with pytest.raises(RasterReadError, match=expected) as error:
        read_info(url.replace("HOST", host))
    assert "\n" not in str(error.value) and "check the address" in str(error.value)
    assert error.value.__suppress_context__
    for text in (str(error.value), caplog.text, *capfd.readouterr()):
        assert "SECRET" not in text


def test_redacted_removes_credentials_and_query_from_urls() -> None:
    assert redacted(f"https://me:pw@example.org/a.tif?{SECRET}#x") == "https://example.org/a.tif"
    assert redacted("s3://bucket/a@b.tif") == "s3://bucket/a@b.tif"
    assert redacted(Path("a?b#c.tif")) == "a?b#c.tif"


def test_bands_behind_several_urls_are_stacked_into_one_raster(
    host: str, scene: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SATSEG_CACHE", str(tmp_path))
    with rasterio.open(Server.folder / "scene.tif") as source:
        half = source.profile | {"width": SIZE // 2, "height": SIZE // 2, "driver": "GTiff"}
        half["transform"] = source.transform @ rasterio.Affine.scale(2)
    with rasterio.open(Server.folder / "half.tif", "w", **half) as target:
        target.write(np.full((1, SIZE // 2, SIZE // 2), 7, np.uint16))
    named = {"B02": f"http://{host}/scene.tif?{SECRET}", "B8A": f"http://{host}/half.tif"}
    (path,) = find_inputs(named)
    written = path.stat().st_mtime_ns
    assert find_inputs(named) == [path] and path.stat().st_mtime_ns == written
    image = read_window(path, WINDOW)
    np.testing.assert_array_equal(image[0], scene[0, 400:656, 300:556])
    assert (image[1] == 7).all() and read_info(path).band_names == ("B02", "B8A")
