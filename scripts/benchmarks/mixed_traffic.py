"""Measure the latency of small images while the server segments a large one.

    python scripts/benchmarks/mixed_traffic.py [--checkpoint runs/demo] [--side 4000] [--engine auto]

Starts the server of the satseg in PYTHONPATH, with a generated model unless one is given. It sends small images one
after the other, first alone and then next to a large job, and finally from many clients at once. It prints the waiting
times of the clients, and how many requests were refused.
"""

from __future__ import annotations

import argparse
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import torch

from satseg.data.rasters.writing import write_raster
from satseg.models import build_model
from satseg.models.catalogue import MODELS
from satseg.models.checkpoint import save_model
from satseg.spec import DatasetSpec, InputSpec

NAMES = ("water", "forest", "road", "field", "building")
PALETTE = ((30, 90, 220), (20, 120, 40), (90, 90, 90), (200, 200, 60), (200, 40, 40))
LOOK_SECONDS = 0.2


def write_model(path: Path) -> Path:
    """Write a small network with random weights."""
    numbers = InputSpec(("red", "green", "blue"), "uint8", scale=255.0, mean=(0.5,) * 3, std=(0.25,) * 3)
    config = {"_target_": MODELS["unet"], "encoder_name": "tu-mobilenetv4_conv_small", "encoder_weights": "none"}
    torch.manual_seed(0)
    save_model(path, build_model(config, DatasetSpec((numbers,), NAMES, PALETTE)).eval(), training={}, protocol={})
    return path


def write_scene(path: Path, side: int) -> Path:
    """Write fields of 100 pixels, of slightly different colours."""
    random = np.random.default_rng(side)
    fields = random.integers(30, 220, (3, -(-side // 100), -(-side // 100))).repeat(100, 1).repeat(100, 2)
    write_raster(path, (fields[:, :side, :side] + random.integers(0, 20, (3, side, side))).astype("uint8"))
    return path


@contextmanager
def server(checkpoint: Path, engine: str, folder: Path) -> Iterator[str]:
    options = [f"checkpoint={checkpoint}", f"engine={engine}", "device=cpu", "port=0", f"jobs_dir={folder / 'jobs'}"]
    process = subprocess.Popen([sys.executable, "-m", "satseg.serve", *options], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        address = re.findall(r"http://[^\s;]+", process.stdout.readline())[0]
        while httpx.get(f"{address}/readyz", timeout=60).status_code != 200:
            time.sleep(LOOK_SECONDS)
        yield address
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


def ask(client: httpx.Client, image: bytes) -> float | None:
    """Return the seconds to an image's map; None if the server refuses it."""
    start = time.perf_counter()
    answer = client.post("/api/v1/predict?preflight=warn", content=image)
    if answer.status_code == 429:
        return None
    answer.raise_for_status()
    return time.perf_counter() - start


def begin_job(client: httpx.Client, image: bytes) -> str:
    found: str = client.post("/api/v1/jobs?preflight=warn", content=image).raise_for_status().json()["id"]
    return found


def is_done(client: httpx.Client, job: str) -> bool:
    state = client.get(f"/api/v1/jobs/{job}").raise_for_status().json()["state"]
    if state == "failed":
        sys.exit("The large image could not be segmented.")
    return bool(state == "done")


def beside_large(client: httpx.Client, small: bytes, large: bytes) -> tuple[list[float], float]:
    """Send small images during a large job; return their times and its own."""
    start, times = time.perf_counter(), []
    job = begin_job(client, large)
    while not is_done(client, job):
        if (took := ask(client, small)) is not None:
            times.append(took)
        time.sleep(LOOK_SECONDS)
    return times, time.perf_counter() - start


def time_large(client: httpx.Client, large: bytes) -> float:
    start, job = time.perf_counter(), begin_job(client, large)
    while not is_done(client, job):
        time.sleep(LOOK_SECONDS)
    return time.perf_counter() - start


def at_once(address: str, image: bytes, num_clients: int) -> list[float | None]:
    """Send two images from each of many clients."""

    def ask_twice(_: int) -> list[float | None]:
        with httpx.Client(base_url=address, timeout=600) as client:
            return [ask(client, image) for _ in range(2)]

    with ThreadPoolExecutor(num_clients) as pool:
        return [took for found in pool.map(ask_twice, range(num_clients)) for took in found]


def report(name: str, times: list[float]) -> None:
    print(f"{name}: {len(times)}, median {statistics.median(times):.2f} s, worst {max(times):.2f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--side", type=int, default=4000, help="of the large image, in pixels")
    parser.add_argument("--small", type=int, default=512, help="side of the small ones")
    parser.add_argument("--images", type=int, default=7, help="small ones that are sent to an idle server")
    parser.add_argument("--clients", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkpoint = options.checkpoint or write_model(folder / "made" / "model.safetensors")
        small = write_scene(folder / "small.tif", options.small).read_bytes()
        large = write_scene(folder / "large.tif", options.side).read_bytes()
        with server(checkpoint, options.engine, folder) as address, httpx.Client(base_url=address, timeout=3600) as one:
            ask(one, small)  # warm-up
            times = [took for _ in range(options.images) if (took := ask(one, small)) is not None]
            report("small images on an idle server", times)
            print(f"the large image on an idle server: {time_large(one, large):.1f} s", flush=True)
            times, took = beside_large(one, small, large)
            report("small images beside the large one", times)
            print(f"the large image beside them: {took:.1f} s", flush=True)
            found = at_once(address, small, options.clients)
            report(
                f"two images of each of {options.clients} clients at once", [took for took in found if took is not None]
            )
            print(f"refused with 429: {found.count(None)} of {len(found)}", flush=True)


if __name__ == "__main__":
    main()
