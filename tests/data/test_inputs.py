"""Resolution of `input=`: files, folders, patterns, list files and URLs."""

import os
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from satseg.data.rasters.bands import bands_by_name
from satseg.data.rasters.header import read_info
from satseg.data.rasters.inputs import find_inputs, source_name
from satseg.data.rasters.raster import read_window
from satseg.data.rasters.writing import write_raster
from satseg.errors import ConfigError, DataError

URL = "https://example.org/a%20b/scene.tif?X-Amz-Signature=abc"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "dätä [1], (x)=1"
    for name in ("a10.tif", "a9.TIF", "b.png", "sub/deep/c.jp2", "sub/d.jpg", "sub/.cache/e.tif", "._a9.tif"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    for name in ("a9.tif.aux.xml", "notes.md", "Thumbs.db"):
        (root / name).touch()
    (root / "folder.tif").mkdir()
    return root


def names(*named: object) -> list[str]:
    return [path.name for path in map(Path, find_inputs(list(named) if len(named) > 1 else named[0]))]


def test_a_folder_or_a_pattern_gives_only_rasters_in_natural_order(folder: Path) -> None:
    assert names(str(folder)) == names(folder) == names(str(folder / "*")) == ["a9.TIF", "a10.tif", "b.png"]
    assert names(str(folder / "**/*")) == ["a9.TIF", "a10.tif", "b.png", "d.jpg", "c.jp2"]
    assert names(str(folder / "**/*.j*")) == ["d.jpg", "c.jp2"]
    assert names(str(folder.parent / "d*/a?.T*")) == ["a9.TIF"]


def test_rasters_of_any_format_are_found_and_errors_count_skipped_files(folder: Path) -> None:
    for name in ("s/a.img", "s/b.bil", "s/b.hdr", "s/c.dat", "s/c.hdr", "s/d.dat", "s/e.nc"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    assert names(folder / "s") == names(folder / "s/*") == names(folder / "[s]") == ["a.img", "b.bil", "c.dat", "e.nc"]
    with pytest.raises(
        DataError, match=r"there is no image; it finds only files that end in \.dat \(1\), and images end"
    ):
        find_inputs(folder / "s/d*")
    with pytest.raises(DataError, match=r"input\.B1=.*there is no such raster: it finds only files that end in \.dat"):
        find_inputs({"B1": str(folder / "s/d*")})


def test_patterns_are_relative_to_the_working_directory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert find_inputs("*.tif") == [Path("a10.tif")] and find_inputs("./sub/*") == [Path("sub/d.jpg")]
    monkeypatch.setenv("HOME", str(folder))
    assert find_inputs("~/b.png") == [folder / "b.png"]


def test_inputs_are_deduplicated_and_keep_the_given_order(folder: Path) -> None:
    listed = OmegaConf.create([str(folder / "b.png"), str(folder), f"{folder}/sub/../b.png", URL, URL])
    assert names(*listed) == ["b.png", "a9.TIF", "a10.tif", os.path.basename(URL)]  # noqa: PTH119
    assert find_inputs(folder / "notes.md") == [folder / "notes.md"]  # a file named explicitly may have any suffix


def test_paths_in_a_list_file_are_relative_to_it_and_urls_are_allowed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lists = folder / "sub/scenes.txt"
    content = f"\ufeff# of June\r\n\r\n  ../a9.TIF \n{URL}\nd.jpg\n{folder / 'b.png'}\n../a9.TIF\n"
    lists.write_text(content, encoding="utf-8")
    monkeypatch.chdir(folder.parent)
    expected = [folder / "sub/../a9.TIF", URL, folder / "sub/d.jpg", folder / "b.png"]
    assert find_inputs(str(lists)) == expected and isinstance(find_inputs(lists)[1], str)


def test_urls_are_unchanged() -> None:
    for url in (URL, "s3://bucket/key [1].tif", "gs://bucket/x.tif", "http://host:8080/a?list=*"):
        assert find_inputs(url) == [url]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (URL, "scene"),
        ("s3://bucket/a/T32.B02.tif", "T32.B02"),
        ("https://example.org/?id=3", "example.org"),
        ("https://example.org/a%2Fb%20c.tif#x", "b c"),
        (Path("/data/a b.tif"), "a b"),
        ("relative/ü=1.jp2", "ü=1"),
    ],
)
def test_source_names_of_paths_and_urls(source: str | Path, expected: str) -> None:
    assert source_name(source) == expected


@pytest.mark.parametrize(
    ("named", "error", "expected"),
    [
        (None, ConfigError, "Give input="),
        ([], ConfigError, "Give input="),
        ("", ConfigError, "Give input="),
        ({}, ConfigError, "name a file or a pattern for each band"),
        ("none.tif", DataError, r"none\.tif is not there; check the path"),
        (["b.png", "none (1).tif"], DataError, r"none \(1\)\.tif is not there"),
        ("*.gif", DataError, r"input=\*\.gif: there is no image; its name must end in"),
        ("empty", DataError, "input=empty: there is no image"),
        ("a**b/*.tif", ConfigError, r"input=a\*\*b.*cannot be used"),
        ("s3://bucket/*.tif", ConfigError, r"input=s3://bucket/\*\.tif: a server cannot be searched"),
        ({"B02": "s3://bucket/*.tif"}, ConfigError, r"input\.B02=s3://bucket/\*\.tif: a server cannot be searched"),
        ("gone.txt", DataError, r"gone\.txt is not there"),
        ("wrong.txt", DataError, r"wrong\.txt, line 3: .*none\.tif is not there"),
        ("blank.txt", DataError, r"blank\.txt names no image"),
        ("binary.txt", DataError, r"binary\.txt cannot be read \(it is not UTF-8 text\)"),
    ],
)
def test_missing_inputs_raise_an_error_of_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, named: object, error: type[Exception], expected: str
) -> None:
    monkeypatch.chdir(folder)
    (folder / "empty").mkdir()
    (folder / "wrong.txt").write_text("# scenes\nb.png\nnone.tif\n")
    (folder / "blank.txt").write_text("\n# nothing\n")
    (folder / "binary.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(error, match=expected) as raised:
        find_inputs(named)
    assert "\n" not in str(raised.value)


def test_a_vrt_can_be_an_input(tmp_path: Path) -> None:
    array = np.arange(12, dtype=np.uint16).reshape(1, 3, 4)
    write_raster(tmp_path / "a.tif", array)
    (tmp_path / "own.vrt").write_text(
        '<VRTDataset rasterXSize="2" rasterYSize="2"><VRTRasterBand dataType="UInt16" band="1"><SimpleSource>'
        '<SourceFilename relativeToVRT="1">a.tif</SourceFilename><SrcRect xOff="1" yOff="1" xSize="2" ySize="2"/>'
        '<DstRect xOff="0" yOff="0" xSize="2" ySize="2"/></SimpleSource></VRTRasterBand></VRTDataset>'
    )
    (path,) = find_inputs(str(tmp_path / "*.vrt"))
    np.testing.assert_array_equal(read_window(path), array[:, 1:3, 1:3])


def test_bands_are_found_by_the_names_in_the_file(tmp_path: Path) -> None:
    write_raster(tmp_path / "a.tif", np.zeros((3, 2, 2), np.uint8), band_names=["B04", "B03", "B04"])
    info = read_info(tmp_path / "a.tif")
    assert bands_by_name(info, ["B03"]) == (2,)
    assert bands_by_name(info, ["B04"]) is bands_by_name(info, ["B03", "B08"]) is None
    write_raster(tmp_path / "b.tif", np.zeros((3, 2, 2), np.uint8))
    assert bands_by_name(read_info(tmp_path / "b.tif"), ["band_3", "band_1"]) == (3, 1)
