"""Measure the app in a browser: start to first page, and upload to mask, against the bare model.

    python scripts/benchmarks/app_speed.py --checkpoint latest --rounds 7

Needs Chromium; set SATSEG_CHROMIUM to its path.
"""

import argparse
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from playwright.sync_api import Page, sync_playwright

from satseg.data.rasters.writing import write_raster
from satseg.models import SegmentationNetwork
from satseg.models.checkpoint import load_model

SIDE = 512


def median_seconds(call: Callable[[], object], rounds: int) -> float:
    call()
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def bare_seconds(network: SegmentationNetwork, image: np.ndarray, rounds: int) -> float:
    tensor, valid = torch.from_numpy(image.astype(np.float32))[None], torch.ones(1, SIDE, SIDE, dtype=torch.bool)
    with torch.inference_mode():
        return median_seconds(lambda: network(tensor, valid).argmax(1), rounds)


def start(checkpoint: str, engine: str) -> tuple[subprocess.Popen[str], str, float]:
    begun = time.perf_counter()
    arguments = [sys.executable, "-m", "satseg.app", f"checkpoint={checkpoint}", f"engine={engine}", "port=0"]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    address = re.findall(r"http://\S+", process.stdout.readline())[0]
    urllib.request.urlopen(address).read()
    return process, address, time.perf_counter() - begun


def upload_seconds(page: Page, path: Path, rounds: int) -> float:
    seconds = []
    for number in range(rounds + 1):  # the first is a warm-up
        if number:
            page.locator("#upload button[aria-label='Clear']").first.click()
            page.wait_for_selector("#picture img", state="hidden")
        begun = time.perf_counter()
        page.locator("#upload input[type=file]").set_input_files(str(path))
        page.wait_for_selector("#picture img")
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="latest")
    parser.add_argument("--engine", default="torch")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    network = load_model(options.checkpoint)
    inputs = network.spec.inputs[0]
    image = np.random.default_rng(0).integers(1, 255, (len(inputs.bands), SIDE, SIDE)).astype(inputs.dtype)
    chromium = os.environ.get("SATSEG_CHROMIUM") or shutil.which("chromium")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        write_raster(Path(folder) / "image.tif", image)
        process, address, first_page = start(options.checkpoint, options.engine)
        try:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
            page = browser.new_page()
            page.goto(address)
            page.wait_for_selector("#upload input[type=file]", state="attached")
            uploaded = upload_seconds(page, Path(folder) / "image.tif", options.rounds)
            browser.close()
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()
    bare = bare_seconds(network, image, options.rounds)
    print(f"from start to first page: {first_page:.1f} s")
    print(f"upload of {SIDE} x {SIDE} to mask in the browser: {uploaded:.2f} s; the bare model: {bare:.2f} s")


if __name__ == "__main__":
    main()
