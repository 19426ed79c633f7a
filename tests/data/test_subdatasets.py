"""Container files with several rasters, and rasters without a georeference or row direction."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from georeferenced_rasters import at, write
from scipy.io import netcdf_file

from satseg.data.rasters.header import read_info
from satseg.data.rasters.inputs import find_inputs, source_name
from satseg.data.rasters.raster import read_image
from satseg.errors import RasterReadError
from satseg.inference.preflight import inspect
from satseg.inference.reading import SceneSource
from satseg.spec import InputSpec

PICTURE = np.arange(1, 73, dtype=np.int16).reshape(8, 9)
SPEC = InputSpec(("red",), "int16", 100.0, gsd_m=10.0, mean=(0.5,), std=(0.2,))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SATSEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("GDAL_NETCDF_BOTTOMUP", raising=False)


def netcdf(path: Path, rows: np.ndarray | None) -> Path:
    """Write a netCDF file whose row coordinates lack the attributes that identify them as such."""
    with netcdf_file(path, "w") as file:
        for name, size in zip(("y", "x"), PICTURE.shape, strict=True):
            file.createDimension(name, size)
        if rows is not None:
            file.createVariable("y", "d", ("y",))[:] = rows
        file.createVariable("red", "i2", ("y", "x"))[:] = PICTURE
    return path


def warnings_of(path: Path | str, spec: InputSpec = SPEC) -> str:
    return " ".join(inspect(SceneSource(read_info(path), (1,)), spec).warnings)


def test_a_container_raises_an_error_with_the_names_of_its_rasters_which_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bands = np.stack([PICTURE, PICTURE + 100]).astype(np.uint16)
    write(tmp_path / "two.tif", bands, **at(0, 0))
    rasterio.shutil.copy(tmp_path / "two.tif", tmp_path / "two (1).nc", driver="netCDF")
    for read in (read_info, read_image):
        with pytest.raises(RasterReadError) as error:
            read(tmp_path / "two (1).nc")
        message = str(error.value)
        assert "\n" not in message and "holds several rasters" in message
    monkeypatch.chdir(tmp_path)
    names = [f'NETCDF:"{tmp_path}/two (1).nc":Band1', 'NETCDF:"two (1).nc":Band2']
    assert names[0] in message and names[0].replace("Band1", "Band2") in message
    for number, name in enumerate(names):
        (path,) = find_inputs(name)
        assert source_name(path) == f"two (1)_Band{number + 1}"
        np.testing.assert_array_equal(read_image(path)[0], bands[number : number + 1])
        assert read_info(path).transform == tuple(at(0, 0)["transform"])[:6]
    (stack,) = find_inputs({"b": names[1], "a": names[0]})
    np.testing.assert_array_equal(read_image(stack)[0], bands[::-1])
    assert read_info(stack).band_names == ("b", "a")
    with pytest.raises(RasterReadError, match=r"Band7.* cannot be read"):
        find_inputs(names[0].replace("Band1", "Band7"))


def test_a_zarr_array_is_read_and_a_zarr_group_raises_an_error_that_lists_its_arrays(tmp_path: Path) -> None:
    store = tmp_path / "one.zarr"
    profile = {"driver": "Zarr", "count": 1, "height": 8, "width": 9, "dtype": "int16", **at(0, 0)}
    with rasterio.open(store, "w", **profile) as file:
        file.write(PICTURE[None])
    (path,) = find_inputs(store)
    np.testing.assert_array_equal(read_image(path)[0][0], PICTURE)
    group, array = {"zarr_format": 3, "node_type": "group", "attributes": {}}, {"zarr_format": 3, "node_type": "array"}
    array |= {"shape": [8, 9], "data_type": "uint8", "fill_value": 0, "attributes": {}}
    array |= {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [8, 9]}}}
    array |= {"chunk_key_encoding": {"name": "default"}, "codecs": [{"name": "bytes"}]}
    for name, node in (("", group), ("red", array), ("nir", array)):
        folder = tmp_path / "several.zarr" / name
        folder.mkdir()
        (folder / "zarr.json").write_text(json.dumps(node))
    with pytest.raises(
        RasterReadError, match=r'holds several rasters: ZARR:".*several\.zarr":/(nir|red), ZARR:'
    ) as error:
        find_inputs(tmp_path / "several.zarr")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("rows", [np.arange(8)[::-1] * 10.0, np.arange(8) * 10.0, None], ids=["down", "up", "unknown"])
def test_a_netcdf_file_without_georeference_is_read_north_up_with_a_warning(
    tmp_path: Path, rows: np.ndarray | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    north_first = rows is not None and rows[0] > rows[-1]
    path = netcdf(tmp_path / "a.nc", rows)
    image, _ = read_image(path)
    np.testing.assert_array_equal(image[0], PICTURE if north_first else PICTURE[::-1])
    message = warnings_of(path)
    assert "a.nc has no georeference" in message
    assert ("does not say which of its rows is north" in message) == (rows is None)
    assert ("read upright according to its header" in message) == north_first
    name = f'NETCDF:"{path}":red'
    if rows is not None and not north_first:
        np.testing.assert_array_equal(read_image(find_inputs(name)[0])[0][0], PICTURE[::-1])
    else:
        with pytest.raises(RasterReadError, match="set GDAL_NETCDF_BOTTOMUP=NO"):
            find_inputs(name)
    monkeypatch.setenv("GDAL_NETCDF_BOTTOMUP", "NO")  # the user asks for the stored order
    np.testing.assert_array_equal(read_image(path)[0][0], PICTURE)
    np.testing.assert_array_equal(read_image(find_inputs(name)[0])[0][0], PICTURE)


def test_a_missing_georeference_is_warned_of_only_if_the_training_images_had_one(tmp_path: Path) -> None:
    write(tmp_path / "placed.tif", PICTURE, **at(0, 0))
    write(tmp_path / "photograph.tif", PICTURE)
    assert "no georeference" not in warnings_of(tmp_path / "placed.tif")
    assert "photograph.tif has no georeference" in warnings_of(tmp_path / "photograph.tif")
    unplaced = InputSpec(("red",), "int16", 100.0, mean=(0.5,), std=(0.2,))
    assert "no georeference" not in warnings_of(tmp_path / "photograph.tif", unplaced)


def test_a_subdataset_is_converted_once_and_may_be_named_in_a_list_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GDAL_NETCDF_BOTTOMUP", "NO")
    name = f'NETCDF:"{netcdf(tmp_path / "a.nc", None)}":red'
    (subdataset,) = find_inputs(name)
    written = Path(subdataset).stat().st_mtime_ns
    (tmp_path / "scenes.txt").write_text(f"{name}\n")
    assert find_inputs(tmp_path / "scenes.txt") == [subdataset] and Path(subdataset).stat().st_mtime_ns == written


def test_rasters_of_a_geopackage_are_read_by_the_names_in_the_error(tmp_path: Path) -> None:
    for number, table in enumerate(("FIRST", "SECOND")):
        write(tmp_path / "a.tif", PICTURE.astype(np.uint8) + number, **at(0, 0))
        options = {"RASTER_TABLE": table, "APPEND_SUBDATASET": "YES" if number else "NO"}
        rasterio.shutil.copy(tmp_path / "a.tif", tmp_path / "a.gpkg", driver="GPKG", TILE_FORMAT="PNG", **options)
    with pytest.raises(RasterReadError, match=r"GPKG:.*:SECOND"):
        read_info(tmp_path / "a.gpkg")
    (subdataset,) = find_inputs(f"GPKG:{tmp_path / 'a.gpkg'}:SECOND")
    np.testing.assert_array_equal(read_image(subdataset)[0][0], PICTURE + 1)
