"""Fixtures shared by all tests."""

import faulthandler
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings

settings.register_profile("satseg", deadline=None, max_examples=30, print_blob=True)
settings.load_profile("satseg")

ROOT = Path(__file__).resolve().parents[1]


@pytest.hookimpl(trylast=True)  # after pytest's own faulthandler plugin, whose output is missing in processes of xdist
def pytest_configure() -> None:
    """Write the stacks of a crash in native code, and the loaded libraries, to a file named after this process."""
    if folder := os.environ.get("SATSEG_CRASHES"):
        stacks = Path(folder, f"{os.getpid()}.txt").open("w", encoding="utf-8")  # noqa: SIM115  # stays open
        faulthandler.enable(stacks)


def _shared() -> Path:
    return Path(os.environ.get("SATSEG_SHARED", ROOT.parent / "shared")).resolve()


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder with real data and weights; tests that need it are marked `shared`."""
    folder = _shared()
    if (folder / "data").is_dir():
        return folder
    message = f"real data is not at {folder}; set SATSEG_SHARED to its folder"
    if os.environ.get("SATSEG_REQUIRE_SHARED"):
        pytest.fail(message)
    pytest.skip(message)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip tests that need a GPU if there is none."""
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the slowest files first, so that parallel processes finish at about the same time."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


@pytest.fixture(scope="session")
def root_dir() -> Path:
    """The root of the repository."""
    return ROOT


def _chromium() -> str:
    names = [os.environ.get("SATSEG_CHROMIUM"), "chromium", "chromium-browser", "google-chrome"]
    path = next((p for p in (shutil.which(name) for name in names if name) if p), None)
    if path is None:
        message = "there is no Chromium; install it, or name it in SATSEG_CHROMIUM"
        pytest.fail(message) if os.environ.get("SATSEG_REQUIRE_BROWSER") else pytest.skip(message)
    return path


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    path = _chromium()
    with playwright.sync_playwright() as running:
        found = running.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield found
        found.close()
