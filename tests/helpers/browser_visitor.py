"""The app as a process, models for it, and what a visitor does."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
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


def noise(bands: int, side: int, high: int, dtype: str) -> np.ndarray:
    """Patches of 16 pixels."""
    patches = np.random.default_rng(bands).integers(1, high, (bands, side // 16, side // 16))
    return patches.repeat(16, 1).repeat(16, 2).astype(dtype)


def statistics_of(image: np.ndarray) -> BandStatistics:
    """Return what a model remembers of images like this one (C, H, W), of which 0 is no part."""
    pixels = image[:, image.any(0)]
    numbers = [pixels.min(1), pixels.max(1), pixels.mean(1), pixels.std(1), *np.percentile(pixels, (2, 98), axis=1)]
    return BandStatistics(*(tuple(map(float, n)) for n in numbers))


def write_model(path: Path, bands: int, dtype: str, image: np.ndarray) -> Path:
    """Write a model of random weights that finds each of its classes in the image; of 16 bits, it knows its values."""
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
class Material:
    """Two models and an image for each."""

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
        """Return the folders of all uploads that it has."""
        return {path for path in self.temporary.glob("satseg-*/visitors/*/*") if path.is_dir()}

    def files(self) -> set[Path]:
        """Return all that it has on the disk and that holds something: Gradio leaves an empty file an upload."""
        return {path for path in self.temporary.glob("satseg-*/**/*") if path.is_file() and path.stat().st_size}

    def stop(self) -> int:
        """Ask it to stop; return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


def start(
    *options: str, temporary: Path, proxy: str | None = None, name: str = "app", impatient: bool = False
) -> Server:
    """Start the app, or the API alone, on a free port; an impatient one waits shorter for its clients."""
    temporary.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TMPDIR": str(temporary)}
    if proxy:
        environment |= {"HTTP_PROXY": proxy, "HTTPS_PROXY": proxy, "ALL_PROXY": proxy, "NO_PROXY": "127.0.0.1"}
    program = [str(Path(__file__).with_name("short_timeouts.py")), name] if impatient else ["-m", f"satseg.{name}"]
    arguments = [sys.executable, *program, "port=0", "engine=torch", *options]
    begin = subprocess.Popen if proxy else Forked  # libraries may ask somebody while they are imported
    process = begin(
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


def predicted(model: Path, image: Path, folder: Path) -> Path:
    """Segment by the command."""
    folder.mkdir(parents=True, exist_ok=True)
    options = [f"checkpoint={model}", f"input={image}", f"output={folder / 'map.tif'}", "engine=torch"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    options += ["progress=false", "preflight=warn"]
    done = run_module("satseg.predict", *options, cwd=folder, environment=environment)
    assert done.returncode == 0, done.stderr
    return folder / "map.tif"


def until(condition: Callable[[], object], seconds: float = 120, pause: Callable[[float], None] = time.sleep) -> None:
    """Wait for something that happens sooner or later."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        pause(0.2)


class Canary:
    """Counts who connects; it stands where the internet would be."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.connections = 0
        threading.Thread(target=self._count, daemon=True).start()

    def _count(self) -> None:
        while True:
            connection, _ = self.socket.accept()
            self.connections += 1
            connection.close()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.socket.getsockname()[1]}"


@dataclass
class Visit:
    """A page of the app, whose network ends at the app.

    Attributes:
        page: Playwright's.
        outside: Requests that went elsewhere, and were not let through.
        errors: What the page's scripts complained of.
    """

    page: Any
    outside: list[Any] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    @classmethod
    def to(cls, address: str, browser: Any, **options: Any) -> Visit:
        """Open the app in a browser, as a visitor that it does not know."""
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
        """Leave."""
        self.page.context.close()

    def until(self, condition: Callable[[], object]) -> None:
        """Wait for something that the page brings about: its requests go out only while Playwright is at work."""
        until(condition, pause=lambda seconds: self.page.wait_for_timeout(1000 * seconds))

    def upload(self, path: Path) -> None:
        """Give the app a file."""
        clear = self.page.locator("#upload button[aria-label='Clear']")
        if clear.count():
            clear.first.click()
            self.page.wait_for_selector("#picture img", state="hidden")
        self.page.locator("#upload input[type=file]").set_input_files(str(path))

    def segment(self, path: Path) -> None:
        """Give the app an image, and wait for its map."""
        self.upload(path)
        self.page.wait_for_selector("#picture img", timeout=120_000)
        self.page.wait_for_selector("#areas td", timeout=60_000)

    def areas(self) -> dict[str, list[float]]:
        """Return share, area if there is one, and pixels of each class, as the table says."""
        rows = self.page.locator("#areas tbody tr")
        found = {}
        for i in range(rows.count()):
            name, *numbers = rows.nth(i).locator("th, td.number").all_inner_texts()
            found[name.strip()] = [float(re.sub(r"[^\d.]", "", n)) for n in numbers]
        return found

    def colours(self, selector: str, where: Any = None) -> list[tuple[int, ...]]:
        """Return the colours that parts of the page, or of a frame, are filled with."""
        script = "parts => parts.map(part => getComputedStyle(part).backgroundColor)"
        found = (where or self.page).locator(selector).evaluate_all(script)
        return [tuple(map(int, re.findall(r"\d+", colour)[:3])) for colour in found]

    def tab(self, name: str) -> None:
        """Open a tab."""
        self.page.get_by_role("tab", name=name, exact=True).click()

    def choose(self, menu: str, option: str) -> None:
        """Choose from a menu."""
        self.page.locator(f"#{menu} input").click()
        self.page.get_by_role("option", name=option, exact=True).click()

    def use(self, model: str) -> None:
        """Choose another model, and wait until it is in use."""
        self.choose("model", model)
        self.tab("Model")
        self.page.locator(".model h3", has_text=model).wait_for()
        self.tab("Result")

    def download(self, selector: str, folder: Path) -> Path:
        """Take a file away."""
        with self.page.expect_download(timeout=60_000) as taken:
            self.page.locator(selector).click()
        path = folder / str(taken.value.suggested_filename)
        taken.value.save_as(path)
        return path
