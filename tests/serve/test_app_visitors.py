"""Visitors of the app: lost connections, concurrent uploads and visitors, and clean-up after closed pages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from broken_connections import Proxy
from browser_visitor import Assets, Server, Visit, start, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.browser]
LOST = "The connection was lost; upload the image again."


@pytest.fixture(scope="module")
def short_lived(assets: Assets, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Start an app that discards closed pages after seconds."""
    models = f"checkpoint=[{assets.rgb_model},{assets.multi_model}]"
    found = start(models, "keep_pages_min=0.1", temporary=tmp_path_factory.mktemp("short_lived"))
    yield found
    found.stop()


def visit_with_map(proxy: Proxy, browser: Any, assets: Assets) -> Visit:
    """Open a page through the proxy, and have the second model segment its image."""
    visit = Visit.open(proxy.address, browser)
    visit.use("multi")
    visit.segment(assets.multi_image)
    return visit


def test_a_page_works_after_its_connection_was_lost(server: Server, browser: Any, assets: Assets) -> None:
    proxy = Proxy(server.address)
    visit = visit_with_map(proxy, browser, assets)
    shown = visit.areas()
    proxy.cut()
    visit.tab("Files")
    visit.page.wait_for_selector("#download-CSV", timeout=60_000)
    visit.tab("Result")
    visit.segment(assets.multi_image)
    assert visit.areas() == shown
    visit.close()


def test_a_discarded_page_says_so_and_uses_the_selected_model(
    short_lived: Server, browser: Any, assets: Assets
) -> None:
    proxy = Proxy(short_lived.address)
    visit = visit_with_map(proxy, browser, assets)
    proxy.cut()
    wait_until(lambda: not list(short_lived.temporary.glob("satseg-*/visitors/*")))
    visit.tab("Files")
    visit.page.get_by_text(LOST).wait_for()
    visit.tab("Result")
    shown = visit.areas()
    visit.segment(assets.multi_image)
    assert visit.areas() == shown
    visit.close()
    wait_until(
        lambda: not list(short_lived.temporary.glob("satseg-*/visitors/*"))
    )  # although the page sends no second unload event


def test_a_new_upload_replaces_a_running_one(visit: Visit, assets: Assets, large: Path) -> None:
    visit.upload(large)
    visit.page.wait_for_selector(".progress", timeout=60_000)
    visit.segment(assets.rgb_image)
    assert sum(pixels for _, pixels in visit.areas().values()) == 256 * 256
    visit.upload(large)
    visit.page.wait_for_selector(".progress", timeout=60_000)
    visit.upload(large)
    visit.page.wait_for_timeout(2000)  # until the last messages of the first upload have arrived
    visit.page.locator("#cancel").click()
    visit.page.get_by_text("Cancelled.").wait_for()


def test_an_example_replaces_an_upload(visit: Visit, assets: Assets, large: Path) -> None:
    page = visit.page
    uploads = (large, ".progress", "visible"), (assets.rgb_image, "#areas table:not(:has(td.area)) td", "hidden")
    for path, sign, cancel in uploads:
        visit.upload(path)
        page.wait_for_selector(sign, timeout=60_000)
        page.wait_for_selector(
            "#cancel", state=cancel
        )  # its appearance moves the elements below, and a click would miss them
        page.wait_for_selector("#upload [aria-label='Clear']")
        page.locator("#examples .thumbnail-item").first.click()
        page.locator("#upload [aria-label='Clear']").wait_for(state="detached")
        page.wait_for_selector("#areas td.area", timeout=120_000)  # the example has coordinates
        page.wait_for_selector("#cancel", state="hidden")


def test_two_visitors_can_upload_the_same_file(server: Server, browser: Any, assets: Assets) -> None:
    visits = [Visit.open(server.address, browser) for _ in range(2)]
    for visit in visits:
        visit.upload(assets.rgb_image)
    for visit in visits:
        visit.page.wait_for_selector("#areas td", timeout=60_000)
    assert visits[0].areas() == visits[1].areas()
    for visit in visits:
        visit.close()


def test_closing_a_page_deletes_its_files(short_lived: Server, browser: Any, assets: Assets) -> None:
    visit = Visit.open(short_lived.address, browser)
    visit.page.wait_for_selector("#examples .thumbnail-item img", timeout=60_000)
    before = short_lived.files()
    visit.segment(assets.rgb_image)
    visit.page.locator("#classes label").first.click()
    visit.tab("Explain")
    visit.page.locator("#ask").click()
    visit.page.wait_for_selector("#evidence img", timeout=60_000)
    visit.tab("Files")
    visit.page.wait_for_selector("#download-CSV", timeout=60_000)
    assert len(short_lived.files() - before) > 10
    visit.close()
    wait_until(lambda: short_lived.files() <= before)
