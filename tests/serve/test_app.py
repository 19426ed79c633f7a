"""The app in a real browser: displayed and downloaded results equal those of the commands."""

from __future__ import annotations

import base64
import csv
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest
import rasterio
from browser_visitor import CRS, NAMES, PALETTE, PLACE, Assets, Server, Visit, predict_with_command, start
from commands import error_line
from connection_counter import Listener
from PIL import Image

from satseg.data.rasters.writing import write_raster

pytestmark = [pytest.mark.slow, pytest.mark.browser]
TILES = "https://tile.openstreetmap.org/"


def bytes_without_work(path: Path) -> bytes:
    """Return the bytes of a map without the SATSEG_WORK hash, which differs between app and command."""
    with rasterio.open(path) as source:
        work = source.tags()["SATSEG_WORK"]
    content = path.read_bytes()
    assert content.count(work.encode()) == 1
    return content.replace(work.encode(), b"")


def num_green(element: Any) -> int:
    """Return the number of pixels of a page element in the colour of the second class."""
    red, green, blue = np.asarray(Image.open(io.BytesIO(element.screenshot())).convert("RGB")).astype(int).T
    return int(((green > red + 40) & (green > blue + 30)).sum())


def test_a_photograph_is_segmented_displayed_and_downloaded(
    visit: Visit, assets: Assets, internet: Listener, tmp_path: Path
) -> None:
    visit.segment(assets.rgb_image)
    expected = predict_with_command(assets.rgb_model, assets.rgb_image, tmp_path)
    with rasterio.open(expected) as source:
        classes = source.read(1)
    pixels = np.bincount(classes.ravel(), minlength=3)[:3]
    assert (pixels > 0).all()
    for name, count in zip(NAMES, pixels, strict=True):
        share, shown = visit.areas()[name]
        assert shown == count and abs(share - 100 * count / classes.size) < 0.006  # two digits are shown
    assert [label.strip() for label in visit.page.locator("#classes label").all_inner_texts()] == list(NAMES)
    script = "chips => chips.map(chip => getComputedStyle(chip, '::before').backgroundColor)"
    chips = visit.page.locator("#classes label span").evaluate_all(script)
    assert chips == [f"rgb({red}, {green}, {blue})" for red, green, blue in PALETTE]
    visit.tab("Files")
    visit.page.wait_for_selector("#download-GeoTIFF", timeout=60_000)
    found = visit.download("#download-GeoTIFF", tmp_path)
    assert bytes_without_work(found) == bytes_without_work(expected)
    with rasterio.open(found) as source:
        assert source.colormap(1)[1][:3] == (20, 120, 40)
    with rasterio.open(visit.download("#download-PNG", tmp_path)) as source:
        assert source.driver == "PNG" and np.array_equal(source.read(1), classes)
    visit.tab("Map")
    visit.page.locator("#map", has_text="not georeferenced").wait_for()
    assert not visit.outside and not visit.errors and internet.connections == 0


def test_a_georeferenced_multispectral_image_is_segmented_explained_and_shown_on_a_map(
    visit: Visit, server: Server, assets: Assets, internet: Listener, tmp_path: Path
) -> None:
    visit.use("multi")
    visit.segment(assets.multi_image)
    expected = predict_with_command(assets.multi_model, assets.multi_image, tmp_path)
    with rasterio.open(expected) as source:
        classes = source.read(1)
    pixels = np.bincount(classes[classes != 255], minlength=3)
    shown = visit.page.locator("#areas td.area").all_inner_texts()
    for name, count, area in zip(NAMES, pixels, shown, strict=True):
        hectares = count / 100  # of pixels of 10 m
        assert visit.areas()[name][2] == count and 1 < hectares < 1000 and area.endswith("\N{NO-BREAK SPACE}ha")
        assert abs(visit.areas()[name][1] - hectares) <= 0.005 * hectares
    visit.page.locator("#picture img").click(position={"x": 300, "y": 300})
    visit.page.wait_for_selector(".pixel td")
    assert "Pixel" in visit.page.locator(".pixel h4").inner_text()

    visit.tab("Explain")
    assert visit.page.locator("#target input").input_value() == NAMES[pixels.argmax()]
    assert f"{pixels.max():,} pixels" in visit.page.locator("#basis").inner_text()
    visit.choose("target", "forest")
    visit.page.locator("#basis", has_text=f"{pixels[1]:,} pixels").wait_for()
    visit.page.locator("#ask").click()
    visit.page.wait_for_selector("#evidence img", timeout=120_000)
    text = visit.page.locator("#evidence-text").inner_text()
    assert (
        f"Based on {pixels[1]:,} pixels predicted as forest; method gradcam at layer" in text and "Not tested" in text
    )
    assert visit.page.locator("#evidence-text .scale").inner_text().split() == ["0", "1"]
    with rasterio.open(visit.download("button:has-text('Evidence as GeoTIFF')", tmp_path)) as source:
        assert source.crs == CRS and source.transform == PLACE and source.shape == classes.shape

    visit.tab("Files")
    visit.page.wait_for_selector("#download-CSV", timeout=60_000)
    found = visit.download("#download-GeoTIFF", tmp_path)
    assert bytes_without_work(found) == bytes_without_work(expected)
    with rasterio.open(found) as source:
        assert source.crs == CRS and source.transform == PLACE and source.nodata == 255
    layer = pyogrio.read_info(visit.download("#download-GeoPackage", tmp_path))
    assert layer["crs"] == CRS and layer["features"] > 0
    with visit.download("#download-CSV", tmp_path).open() as file:
        assert [int(row["pixels"]) for row in csv.DictReader(file)] == pixels.tolist()
    assert not visit.outside and not visit.errors

    with visit.page.expect_request(f"{TILES}**", timeout=60_000) as asked:
        visit.tab("Map")
    assert asked.value.all_headers()["referer"] == f"{server.address}/"  # required by the tile server
    frame = visit.page.frame_locator("iframe.map")
    frame.locator("canvas").first.wait_for(timeout=60_000)
    visit.wait_until(lambda: num_green(frame.locator("#map")) > 1000)
    frame.locator("#no-tiles", has_text="tile.openstreetmap.org does not respond").wait_for()
    assert [name.strip() for name in frame.locator("[data-class]").all_inner_texts()] == list(NAMES)
    assert visit.colours("[data-class] .swatch", frame) == list(PALETTE)
    forest = visit.page.locator("#classes label", has_text="forest")
    for click, is_there in ((True, False), (True, True), (False, False)):
        forest.click() if click else set_opacity(visit, 0)
        visit.wait_until(lambda is_there=is_there: (num_green(frame.locator("#map")) > 1000) == is_there)
        assert frame.locator("[data-class].off").all_inner_texts() == (["forest"] if click and not is_there else [])
    tile = assets.rgb_image.read_bytes()
    visit.page.context.route(f"{TILES}**", lambda route: route.fulfill(body=tile, content_type="image/png"))
    visit.tab("Result")
    with visit.page.expect_response(f"{TILES}0/0/0.png", timeout=60_000):
        visit.tab("Map")
    frame.locator("canvas").first.wait_for(timeout=60_000)
    assert frame.locator("#no-tiles").is_hidden()
    assert all(request.url.startswith(TILES) for request in visit.outside)
    assert internet.connections == 0


def set_opacity(visit: Visit, percent: int) -> None:
    number = visit.page.locator("#opacity input[type=number]")
    number.fill(str(percent))
    number.press("Enter")


def test_an_image_that_fails_the_preflight_check_is_segmented_only_after_confirmation(
    visit: Visit, assets: Assets, tmp_path: Path
) -> None:
    with rasterio.open(assets.multi_image) as source:
        unit = source.read().astype(np.float32) / 10_000
    write_raster(tmp_path / "unit.tif", unit, crs=CRS, transform=tuple(PLACE)[:6], nodata=0)
    page = visit.page
    visit.use("multi")
    visit.upload(tmp_path / "unit.tif")
    page.get_by_text("Not segmented: this image is unlike").wait_for(timeout=60_000)
    assert "so they are in another unit" in page.locator(".unlike").inner_text()
    assert page.locator("#picture img, #areas td").count() == 0
    for tab in ("Map", "Files"):
        visit.tab(tab)
        page.get_by_text("See the tab Result for the reason.").locator("visible=true").wait_for()
    visit.tab("Result")
    page.locator("#anyway").click()
    page.wait_for_selector("#areas td", timeout=60_000)
    assert sum(pixels for *_, pixels in visit.areas().values()) == np.count_nonzero(unit.any(0))
    visit.tab("Files")
    page.get_by_text("Do not trust this result").wait_for()
    assert visit.download("#download-CSV", tmp_path).name == "unit_classes_of_unlike_image.csv"
    visit.tab("Result")
    visit.segment(assets.multi_image)
    assert page.locator(".unlike, #anyway").count() == 0 and not visit.errors


def test_the_result_comes_first_on_a_phone(server: Server, browser: Any, assets: Assets) -> None:
    visit = Visit.open(server.address, browser, viewport={"width": 390, "height": 844})
    visit.segment(assets.rgb_image)
    picture, switches = (visit.page.locator(part).bounding_box() for part in ("#picture img", "#classes"))
    assert picture["y"] + picture["height"] < 844 and picture["y"] + picture["height"] <= switches["y"]
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= 390
    middle = "picture => document.elementFromPoint(picture.x + 5, picture.y + 5).tagName"
    assert visit.page.evaluate(middle, picture) == "IMG"  # no label covers its corner
    visit.close()


def shown_picture(visit: Visit, selector: str) -> np.ndarray:
    """Return an image of the page as the server sends it, (h, w, 3)."""
    script = """async address => {
        const bytes = new Uint8Array(await (await fetch(address)).arrayBuffer());
        return btoa(Array.from(bytes, byte => String.fromCharCode(byte)).join(''));
    }"""
    address = visit.page.locator(selector).first.get_attribute("src")
    content = base64.b64decode(visit.page.evaluate(script, address))
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)


def wait_for_other(visit: Visit, selector: str, before: str | None) -> None:
    visit.page.wait_for_function(
        "([selector, before]) => document.querySelector(selector)?.getAttribute('src') !== before",
        arg=[selector, before],
    )


def test_opacity_and_class_switches_change_the_picture(visit: Visit, assets: Assets, tmp_path: Path) -> None:
    visit.segment(assets.rgb_image)
    with rasterio.open(predict_with_command(assets.rgb_model, assets.rgb_image, tmp_path)) as source:
        classes = source.read(1).repeat(2, 0).repeat(2, 1)  # small images are enlarged
    photo = np.asarray(Image.open(assets.rgb_image)).astype(int).repeat(2, 0).repeat(2, 1)
    colours = np.array(PALETTE)[classes]

    def at_opacity(percent: int) -> np.ndarray:
        before = visit.page.locator("#picture img").get_attribute("src")
        set_opacity(visit, percent)
        wait_for_other(visit, "#picture img", before)
        return shown_picture(visit, "#picture img")

    assert np.array_equal(at_opacity(100), colours)
    before = visit.page.locator("#picture img").get_attribute("src")
    visit.page.locator("#classes label", has_text="forest").click()
    wait_for_other(visit, "#picture img", before)
    expected = np.where((classes == NAMES.index("forest"))[..., None], photo, colours)
    assert np.array_equal(shown_picture(visit, "#picture img"), expected)
    assert np.array_equal(at_opacity(0), photo)
    assert not visit.errors


@pytest.mark.parametrize("tab", ["Files", "Map"])
def test_results_are_shown_on_every_tab(visit: Visit, assets: Assets, tab: str) -> None:
    visit.tab(tab)
    visit.segment(assets.rgb_image)
    visit.tab(tab)
    visit.page.wait_for_selector(
        "#download-CSV" if tab == "Files" else "#map :text('not georeferenced')", timeout=60_000
    )
    visit.upload(assets.rgb_image)
    visit.page.wait_for_selector("#areas td", timeout=60_000)


def test_the_model_tab_describes_the_model(visit: Visit) -> None:
    visit.tab("Model")
    text = visit.page.locator(".model").inner_text()
    assert "Unet on resnet18" in text and "uint8: b1, b2, b3" in text and "mean over classes" in text


def test_cancelling_a_large_scene_leaves_no_files(visit: Visit, server: Server, large: Path) -> None:
    before = server.uploads()
    visit.upload(large)
    visit.wait_until(lambda: server.uploads() - before)  # uploads of closed pages may be deleted meanwhile
    visit.page.wait_for_selector(".progress", timeout=60_000)
    visit.page.locator("#cancel").click()
    visit.page.get_by_text("Cancelled.").wait_for(timeout=120_000)
    visit.wait_until(lambda: server.uploads() <= before)


def invalid_uploads(folder: Path) -> dict[str, tuple[Path, str]]:
    """Return files that must be refused, and the expected messages."""
    (folder / "secret.tif").write_bytes(b"no image")
    text, vrt, huge, grey = (folder / f"{name}.tif" for name in ("text", "vrt", "huge", "grey"))
    text.write_text("I am a text")
    vrt.write_text(f'<VRTDataset rasterXSize="1" rasterYSize="1">{folder / "secret.tif"}</VRTDataset>')
    profile = {"driver": "GTiff", "tiled": True, "dtype": "uint8", "sparse_ok": True}
    with rasterio.open(huge, "w", **profile, width=60_000, height=60_000, count=3):
        pass
    with rasterio.open(grey, "w", driver="GTiff", width=64, height=64, count=1, dtype="uint8") as file:
        file.write(np.ones((1, 64, 64), np.uint8))
    return {
        "text": (text, "text.tif is not a PNG, JPEG, TIFF or GeoTIFF image."),
        "vrt": (vrt, "vrt.tif is not a PNG, JPEG, TIFF or GeoTIFF image."),
        "huge": (huge, "huge.tif has 60,000 x 60,000 pixels, but at most 400 million are accepted; crop it."),
        "grey": (grey, "grey.tif has the bands 1 (band_1), but the model takes 3, b1, b2, b3."),
    }


def test_invalid_uploads_are_refused_with_one_sentence(visit: Visit, server: Server, tmp_path: Path) -> None:
    before = server.uploads()
    for path, message in invalid_uploads(tmp_path).values():
        visit.upload(path)
        visit.page.get_by_text(message, exact=True).wait_for(timeout=60_000)
        assert visit.page.locator(".status").count() == 1
        assert server.uploads() <= before
    assert not visit.errors and "Traceback" not in (server.temporary / "log").read_text()


def test_a_public_address_gives_a_warning_and_stopping_removes_temporary_files(assets: Assets, tmp_path: Path) -> None:
    server = start(f"checkpoint={assets.rgb_model}", "host=0.0.0.0", temporary=tmp_path / "open")
    try:
        assert "WARNING: host=0.0.0.0" in (server.temporary / "log").read_text()
    finally:
        assert server.stop() == 0
    assert not list(server.temporary.glob("satseg-*"))


def test_a_password_is_required_before_anything_else_loads(browser: Any, assets: Assets, tmp_path: Path) -> None:
    server = start(f"checkpoint={assets.rgb_model}", "auth=me:secret, word", temporary=tmp_path)
    context = browser.new_context()
    try:
        page = context.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url.removeprefix(server.address)))
        page.goto(server.address)
        for password in ("wrong", "secret, word"):
            page.locator("[name=username]").fill("me")
            page.locator("[name=password]").fill(password)
            assert set(asked) <= {"/", "/login", "data:,"}  # no other requests
            page.get_by_role("button", name="Log in").click()
            if password == "wrong":
                page.get_by_role("alert").wait_for()
        visit = Visit(page)
        page.on("console", lambda m: visit.errors.append(m.text) if m.type == "error" else None)
        page.wait_for_selector("#upload input[type=file]", state="attached", timeout=60_000)
        visit.segment(assets.rgb_image)
        assert not visit.errors
    finally:
        context.close()
        server.stop()


def test_injected_scripts_do_not_run(visit: Visit) -> None:
    visit.page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=/favicon.ico onload=\"ran = 1\">')")
    visit.page.evaluate("""const script = document.createElement('script');
        script.textContent = 'ran = 1'; document.body.append(script)""")
    visit.page.evaluate("fetch('https://evil.example/').catch(error => { refused = error })")
    visit.page.wait_for_function("window.refused")
    assert visit.page.evaluate("window.ran") is None and not visit.outside
    assert len([error for error in visit.errors if "Content Security Policy" in error]) >= 3
    visit.errors.clear()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "train one with python -m satseg.train experiment=demo"),
        (["auth=secret"], "auth= takes user:password"),
        (["port=99999"], "port=99999: expected a whole number"),
        (["host=203.0.113.7"], "cannot be used"),
        (["trusted_hosts=maps.example.org"], "expected a list; write trusted_hosts=[maps.example.org]"),
        (["proxies=[maps.example.org]"], "proxies= takes addresses and networks"),
        (["checkpoint=nowhere"], "checkpoint=nowhere does not exist"),
    ],
)
def test_invalid_options_give_an_error_of_one_line(options: list[str], message: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()  # opened only after the options are checked
    model = ["checkpoint=model.safetensors"] if options and not options[0].startswith("checkpoint=") else []
    assert message in error_line("app", *options, *model, cwd=tmp_path)


def test_libraries_that_contact_a_hub_are_not_imported_before_offline_mode_is_set() -> None:
    code = "import sys, satseg.serve.web; sys.exit(bool({'huggingface_hub', 'gradio'} & sys.modules.keys()))"
    subprocess.run([sys.executable, "-c", code], check=True)
