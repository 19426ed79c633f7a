"""Checks of uploaded files before they are decoded."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from satseg.data.rasters.opening import open_raster
from satseg.errors import RasterReadError, UploadError, UploadTooLargeError, UploadTypeError
from satseg.serve.uploads import Limits, Upload, check_upload

LIMITS = Limits(num_bytes=2_000_000, num_pixels=1_000_000)
SECRET = "metadata on the server"


def check_content(folder: Path, content: bytes, name: str = "image.tif") -> Upload:
    path = folder / "upload"
    path.write_bytes(content)
    return check_upload(path, name, LIMITS)


def image_bytes(folder: Path, driver: str, **profile: object) -> bytes:
    path = folder / "made"
    shape = {"width": 32, "height": 24, "count": 3, "dtype": "uint8"} | profile
    with rasterio.open(path, "w", driver=driver, **shape) as file:
        file.write(np.full((shape["count"], shape["height"], shape["width"]), 7, shape["dtype"]))
    return path.read_bytes()


@pytest.mark.parametrize("driver", ["PNG", "JPEG", "GTiff"])
@pytest.mark.parametrize("name", ["photo.tif", "no ending", "../../etc/passwd", "a\\b\n.exe"])
def test_the_format_is_determined_by_content_not_by_name(tmp_path: Path, driver: str, name: str) -> None:
    upload = check_content(tmp_path, image_bytes(tmp_path, driver), name)
    assert upload.info.driver == driver and upload.path.parent == tmp_path
    assert (upload.info.width, upload.info.height, upload.info.count) == (32, 24, 3)
    assert not set("/\\\n") & set(upload.name) and not set("/\\") & set(upload.stem)


def vrt(target: Path) -> str:
    return (
        '<VRTDataset rasterXSize="32" rasterYSize="24"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
        f"<SourceFilename>{target}</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"
    )


def test_a_vrt_with_another_file_extension_is_refused(tmp_path: Path) -> None:
    image_bytes(tmp_path, "GTiff")
    with pytest.raises(UploadTypeError, match=r"map\.tif is not a PNG, JPEG, TIFF or GeoTIFF image"):
        check_content(tmp_path, vrt(tmp_path / "made").encode(), "map.tif")


def test_a_jpeg_that_is_also_a_vrt_is_read_as_jpeg(tmp_path: Path) -> None:
    """GDAL recognises a file as a VRT if `<VRTDataset` occurs near its start, regardless of its first bytes."""
    secret = tmp_path / "secret.tif"
    with rasterio.open(secret, "w", driver="GTiff", width=32, height=24, count=1, dtype="uint8") as file:
        file.write(np.full((1, 24, 32), 99, np.uint8))
    comment = vrt(secret).encode()
    jpeg = image_bytes(tmp_path, "JPEG")
    polyglot = jpeg[:2] + b"\xff\xfe" + struct.pack(">H", len(comment) + 2) + comment + jpeg[2:]
    upload = check_content(tmp_path, polyglot, "photo.jpg")
    with open_raster(upload.path, upload.info.driver) as source:
        assert source.driver == "JPEG" and source.count == 3 and (source.read() == 7).all()


def test_sidecar_files_of_an_upload_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "upload.tif.aux.xml").write_text(
        f"<PAMDataset><Metadata><MDI key='x'>{SECRET}</MDI></Metadata></PAMDataset>"
    )
    upload = check_content(tmp_path, image_bytes(tmp_path, "GTiff"))
    with open_raster(upload.path, upload.info.driver) as source:
        assert SECRET not in str(source.tags())


def test_too_large_images_are_refused_by_their_header(tmp_path: Path) -> None:
    with pytest.raises(UploadTooLargeError, match=r"has 3.0 MB, but at most 2.0 MB are accepted"):
        check_content(tmp_path, b"II*\0" + bytes(3_000_000))
    path = tmp_path / "huge"
    profile = {"driver": "GTiff", "width": 60_000, "height": 60_000, "count": 1, "dtype": "uint8", "tiled": True}
    with rasterio.open(path, "w", **profile, sparse_ok=True):
        pass
    with pytest.raises(UploadTooLargeError, match=r"60,000 x 60,000 pixels, but at most 1 million"):
        check_content(tmp_path, path.read_bytes())
    chunk = b"IHDR" + struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    with pytest.raises(UploadError):
        check_content(tmp_path, bomb + bytes(100), "bomb.png")


@pytest.mark.parametrize("content", [b"", b"text", b"PK\3\4zip", b"GIF89a", b"%PDF-1.4", b"/vsicurl/http://127.0.0.1/"])
def test_other_content_is_refused_with_one_sentence(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(UploadTypeError, match=r"^scene\.tif (is empty|is not a PNG, JPEG, TIFF or GeoTIFF image)\.$"):
        check_content(tmp_path, content, "scene.tif")


@pytest.mark.parametrize("dtype", ["complex_int16", "complex64", "complex128"])
def test_complex_images_are_refused_with_one_sentence(tmp_path: Path, dtype: str) -> None:
    with rasterio.open(tmp_path / "radar", "w", driver="GTiff", width=8, height=8, count=1, dtype=dtype):
        pass
    with pytest.raises(UploadTypeError, match=r"^radar\.tif holds complex numbers, which no model takes"):
        check_content(tmp_path, (tmp_path / "radar").read_bytes(), "radar.tif")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(data=st.data(), driver=st.sampled_from(["PNG", "JPEG", "GTiff"]))
def test_randomly_damaged_files_are_read_or_refused(tmp_path: Path, data: st.DataObject, driver: str) -> None:
    content = bytearray(image_bytes(tmp_path, driver))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(4, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(4, len(content)))]
    try:
        upload = check_content(tmp_path, bytes(content))
        with open_raster(upload.path, upload.info.driver) as source:
            source.read()
    except (UploadError, RasterReadError) as error:
        assert str(tmp_path) not in str(error) or isinstance(error, RasterReadError)
