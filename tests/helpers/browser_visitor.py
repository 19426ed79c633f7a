"""The app and the API as processes, models for them, and a visitor in a browser."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from commands import Forked, run_module

from satseg.models import build_model
from satseg.models.catalogue import MODELS
from satseg.models.checkpoint import save_model
from satseg.spec import BandStatistics, DatasetSpec, InputSpec

NAMES = ("water", "forest", "road")
PALETTE = ((30, 90, 220), (20, 120, 40), (200, 40, 40))
CRS, PLACE = "EPSG:32631", rasterio.Affine(10, 0, 440_000, 0, -10, 5_000_000)


def random_squares(bands: int, side: int, high: int, dtype: str) -> np.ndarray:
    """Return random values in squares of 16 x 16 pixels, (bands, side, side)."""
    patches = np.random.default_rng(bands).integers(1, high, (bands, side // 16, side // 16))
    return patches.repeat(16, 1).repeat(16, 2).astype(dtype)


def statistics_of(image: np.ndarray) -> BandStatistics:
    """Return band statistics of an image (C, H, W), without pixels that are 0 in all bands."""
    pixels = image[:, image.any(0)]
    numbers = [pixels.min(1), pixels.max(1), pixels.mean(1), pixels.std(1), *np.percentile(pixels, (2, 98), axis=1)]
    return BandStatistics(*(tuple(map(float, n)) for n in numbers))


def write_model(path: Path, bands: int, dtype: str, image: np.ndarray) -> Path:
    """Write a random model that predicts each class somewhere in the image; with band statistics for uint16."""
    names, half = tuple(f"b{i}" for i in range(1, bands + 1)), (0.5,) * bands
    known = statistics_of(image) if dtype == "uint16" else None
    numbers = InputSpec(names, dtype, scale=float(image.max()), nodata=0.0, mean=half, std=half, statistics=known)
    spec = DatasetSpec((numbers,), NAMES, PALETTE)
    torch.manual_seed(bands)
    config = {"_target_": MODELS["unet"], "encoder_name": "tu-resnet18", "encoder_weights": "none"}
    network = build_model(config, spec).eval()
    with torch.no_grad():
        logits = network(torch.from_numpy(image.astype(np.float32))[None], torch.ones(1, *image.shape[1:]).bool())
        network.net.segmentation_head[0].bias -= logits.mean((0, 2, 3))
    save_model(path, network, training={"epoch": 1}, protocol={"miou": "mean over classes"})
    return path


@dataclass(frozen=True)
class Assets:
    """Two models, and an image for each."""

    rgb_model: Path
    rgb_image: Path
    multi_model: Path
    multi_image: Path


@dataclass
class Server:
    """A running app."""

    process: subprocess.Popen[str]
    address: str
    temporary: Path

    def uploads(self) -> set[Path]:
        """Return the folders of all current uploads."""
        return {path for path in self.temporary.glob("satseg-*/visitors/*/*") if path.is_dir()}

    def files(self) -> set[Path]:
        """Return all temporary files that are not empty; Gradio leaves an empty one for each upload."""
        return {path for path in self.temporary.glob("satseg-*/**/*") if path.is_file() and path.stat().st_size}

    def stop(self) -> int:
        """Stop the process with SIGTERM; return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


def start(
    *options: str, temporary: Path, proxy: str | None = None, name: str = "app", short_timeouts: bool = False
) -> Server:
    """Start the app, or with `name="serve"` the API, on a free port."""
    temporary.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TMPDIR": str(temporary)}
    if proxy:
        environment |= {"HTTP_PROXY": proxy, "HTTPS_PROXY": proxy, "ALL_PROXY": proxy, "NO_PROXY": "127.0.0.1"}
    program = [str(Path(__file__).with_name("short_timeouts.py")), name] if short_timeouts else ["-m", f"satseg.{name}"]
    arguments = [sys.executable, *program, "port=0", "engine=torch", *options]
    start_process = (
        subprocess.Popen if proxy else Forked
    )  # with a fresh import, since libraries may connect to a server on import
    process = start_process(
        arguments,
        cwd=temporary,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=(temporary / "log").open("w"),
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    if " http" not in line:
        process.kill()
        raise AssertionError((temporary / "log").read_text())
    address = re.findall(r"http://[^\s;]+", line)[0].replace("0.0.0.0", "127.0.0.1")
    return Server(process, address, temporary)


def predict_with_command(model: Path, image: Path, folder: Path) -> Path:
    """Return the map that `satseg.predict` makes of an image."""
    folder.mkdir(parents=True, exist_ok=True)
    options = [f"checkpoint={model}", f"input={image}", f"output={folder / 'map.tif'}", "engine=torch"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    options += ["progress=false", "preflight=warn"]
    done = run_module("satseg.predict", *options, cwd=folder, environment=environment)
    assert done.returncode == 0, done.stderr
    return folder / "map.tif"


def wait_until(
    condition: Callable[[], object], seconds: float = 120, pause: Callable[[float], None] = time.sleep
) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition never held"
        pause(0.2)


@dataclass
class Visit:
    """A page of the app in a browser that can reach only the app.

    Attributes:
        page: The page of Playwright.
        outside: Blocked requests to other servers.
        errors: Errors in the console of the page.
    """

    page: Any
    outside: list[Any] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    @classmethod
    def open(cls, address: str, browser: Any, **options: Any) -> Visit:
        """Open the app in a new browser context."""
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}} | options)
        visit = cls(context.new_page())
        own = (address, "data:", "blob:")

        def route(route: Any) -> None:
            if route.request.url.startswith(own):
                route.continue_()
                return
            visit.outside.append(route.request)
            route.abort()

        context.route("**/*", route)
        visit.page.on("console", lambda m: visit.errors.append(f"{m.text} {m.location}") if m.type == "error" else None)
        visit.page.on("pageerror", lambda error: visit.errors.append(str(error)))
        visit.page.goto(address)
        visit.page.wait_for_selector("#upload input[type=file]", state="attached", timeout=60_000)
        return visit

    def close(self) -> None:
        """Close the page and its context."""
        self.page.context.close()

    def wait_until(self, condition: Callable[[], object]) -> None:
        """Wait until a condition holds; keeps Playwright running, without which the page sends no requests."""
        wait_until(condition, pause=lambda seconds: self.page.wait_for_timeout(1000 * seconds))

    def upload(self, path: Path) -> None:
        """Upload a file."""
        clear = self.page.locator("#upload button[aria-label='Clear']")
        if clear.count():
            clear.first.click()
            self.page.wait_for_selector("#picture img", state="hidden")
        self.page.locator("#upload input[type=file]").set_input_files(str(path))

    def segment(self, path: Path) -> None:
        """Upload an image, and wait for its map."""
        self.upload(path)
        self.page.wait_for_selector("#picture img", timeout=120_000)
        self.page.wait_for_selector("#areas td", timeout=60_000)

    def areas(self) -> dict[str, list[float]]:
        """Return share, area if there is one, and pixels of each class from the table."""
        rows = self.page.locator("#areas tbody tr")
        found = {}
        for i in range(rows.count()):
            name, *numbers = rows.nth(i).locator("th, td.number").all_inner_texts()
            found[name.strip()] = [float(re.sub(r"[^\d.]", "", n)) for n in numbers]
        return found

    def colours(self, selector: str, where: Any = None) -> list[tuple[int, ...]]:
        """Return the background colours of elements in the page or in a frame."""
        script = "parts => parts.map(part => getComputedStyle(part).backgroundColor)"
        found = (where or self.page).locator(selector).evaluate_all(script)
        return [tuple(map(int, re.findall(r"\d+", colour)[:3])) for colour in found]

    def tab(self, name: str) -> None:
        """Open a tab."""
        self.page.get_by_role("tab", name=name, exact=True).click()

    def choose(self, menu: str, option: str) -> None:
        """Choose an option of a menu."""
        self.page.locator(f"#{menu} input").click()
        self.page.get_by_role("option", name=option, exact=True).click()

    def use(self, model: str) -> None:
        """Choose another model, and wait until it is shown."""
        self.choose("model", model)
        self.tab("Model")
        self.page.locator(".model h3", has_text=model).wait_for()
        self.tab("Result")

    def download(self, selector: str, folder: Path) -> Path:
        """Download a file."""
        with self.page.expect_download(timeout=60_000) as download:
            self.page.locator(selector).click()
        path = folder / str(download.value.suggested_filename)
        download.value.save_as(path)
        return path
