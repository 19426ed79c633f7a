"""Visitors come, lose their connection, do two things at once, and go: nobody gets another's map, and no file stays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from broken_connections import Cable
from browser_visitor import Material, Server, Visit, start, until

pytestmark = [pytest.mark.slow, pytest.mark.browser]
LOST = "The connection was lost; upload the image again."


@pytest.fixture(scope="module")
def forgetful(material: Material, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An app that forgets closed pages after seconds."""
    models = f"checkpoint=[{material.rgb_model},{material.multi_model}]"
    found = start(models, "keep_pages_min=0.1", temporary=tmp_path_factory.mktemp("forgetful"))
    yield found
    found.stop()


def with_map(cable: Cable, browser: Any, material: Material) -> Visit:
    """Let the second model segment its image."""
    visit = Visit.to(cable.address, browser)
    visit.use("multi")
    visit.segment(material.multi_image)
    return visit


def test_a_page_whose_connection_broke_goes_on(server: Server, browser: Any, material: Material) -> None:
    cable = Cable(server.address)
    visit = with_map(cable, browser, material)
    shown = visit.areas()
    cable.cut()
    visit.tab("Files")
    visit.page.wait_for_selector("#download-CSV", timeout=60_000)
    visit.tab("Result")
    visit.segment(material.multi_image)
    assert visit.areas() == shown
    visit.close()


def test_a_page_that_was_forgotten_says_so_and_uses_the_model_that_it_shows(
    forgetful: Server, browser: Any, material: Material
) -> None:
    cable = Cable(forgetful.address)
    visit = with_map(cable, browser, material)
    cable.cut()
    until(lambda: not list(forgetful.temporary.glob("satseg-*/visitors/*")))
    visit.tab("Files")
    visit.page.get_by_text(LOST).wait_for()
    visit.tab("Result")
    shown = visit.areas()
    visit.segment(material.multi_image)
    assert visit.areas() == shown
    visit.close()
    until(lambda: not list(forgetful.temporary.glob("satseg-*/visitors/*")))  # though no unloading is told of again


def test_the_last_upload_counts(visit: Visit, material: Material, large: Path) -> None:
    visit.upload(large)
    visit.page.wait_for_selector(".progress", timeout=60_000)
    visit.segment(material.rgb_image)
    assert sum(pixels for _, pixels in visit.areas().values()) == 256 * 256
    visit.upload(large)
    visit.page.wait_for_selector(".progress", timeout=60_000)
    visit.upload(large)
    visit.page.wait_for_timeout(2000)  # what the first still says comes by then
    visit.page.locator("#cancel").click()
    visit.page.get_by_text("Cancelled.").wait_for()


def test_an_example_takes_the_place_of_an_upload(visit: Visit, material: Material, large: Path) -> None:
    page = visit.page
    uploads = (large, ".progress", "visible"), (material.rgb_image, "#areas table:not(:has(td.area)) td", "hidden")
    for path, sign, cancel in uploads:
        visit.upload(path)
        page.wait_for_selector(sign, timeout=60_000)
        page.wait_for_selector("#cancel", state=cancel)  # it moves what is below, and a click would miss that
        page.wait_for_selector("#upload [aria-label='Clear']")
        page.locator("#examples .thumbnail-item").first.click()
        page.locator("#upload [aria-label='Clear']").wait_for(state="detached")
        page.wait_for_selector("#areas td.area", timeout=120_000)  # the example has coordinates
        page.wait_for_selector("#cancel", state="hidden")


def test_two_visitors_give_the_same_file(server: Server, browser: Any, material: Material) -> None:
    visits = [Visit.to(server.address, browser) for _ in range(2)]
    for visit in visits:
        visit.upload(material.rgb_image)
    for visit in visits:
        visit.page.wait_for_selector("#areas td", timeout=60_000)
    assert visits[0].areas() == visits[1].areas()
    for visit in visits:
        visit.close()


def test_a_closed_page_leaves_no_file(forgetful: Server, browser: Any, material: Material) -> None:
    visit = Visit.to(forgetful.address, browser)
    visit.page.wait_for_selector("#examples .thumbnail-item img", timeout=60_000)
    before = forgetful.files()
    visit.segment(material.rgb_image)
    visit.page.locator("#classes label").first.click()
    visit.tab("Explain")
    visit.page.locator("#ask").click()
    visit.page.wait_for_selector("#evidence img", timeout=60_000)
    visit.tab("Files")
    visit.page.wait_for_selector("#download-CSV", timeout=60_000)
    assert len(forgetful.files() - before) > 10
    visit.close()
    until(lambda: forgetful.files() <= before)
