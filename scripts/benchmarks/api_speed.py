"""Measure API latency on a 512 x 512 image against the bare model on the same engine, one image at a time.

    python scripts/benchmarks/api_speed.py --checkpoint latest --rounds 5

Bare model, one client and many clients alternate; the medians over the rounds are printed.
"""

from __future__ import annotations

import argparse
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import torch
from hydra import compose, initialize_config_dir

from satseg.config import CONFIG_DIR
from satseg.data.rasters.writing import write_raster
from satseg.inference.engines import Engine
from satseg.predict.models import open_models

SIDE, CLIENTS = 512, 16


def open_engine(checkpoint: str, engine: str) -> Engine:
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = compose("predict", [f"checkpoint='{checkpoint}'", "input=none", f"engine={engine}", "device=cpu"])
    return open_models(cfg).open((SIDE, SIDE))


def start(checkpoint: str, engine: str) -> tuple[subprocess.Popen[str], str]:
    options = [f"checkpoint={checkpoint}", f"engine={engine}", "device=cpu", "port=0", "queue_s=60"]
    command = [sys.executable, "-m", "satseg.serve", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    address = re.findall(r"http://[^\s;]+", process.stdout.readline())[0]
    while httpx.get(f"{address}/readyz").status_code != 200:
        time.sleep(0.2)
    return process, address


def seconds(call: Callable[[], object], count: int) -> list[float]:
    found = []
    for _ in range(count):
        begun = time.perf_counter()
        call()
        found.append(time.perf_counter() - begun)
    return found


def of_many(ask: Callable[[httpx.Client], None], client: Callable[[], httpx.Client], count: int) -> float:
    """Return images per second with many clients."""
    clients = [client() for _ in range(CLIENTS)]
    begun = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as pool:
        asked = [pool.submit(lambda own=own: [ask(own) for _ in range(count)]) for own in clients]
    for future in asked:
        future.result()  # raises if the server refused
    took = time.perf_counter() - begun
    for own in clients:
        own.close()
    return CLIENTS * count / took


def watch_health(address: str, stop: threading.Event) -> list[float]:
    found: list[float] = []
    with httpx.Client(base_url=address) as client:
        while not stop.wait(0.05):
            found += seconds(lambda: client.get("/healthz").raise_for_status(), 1)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="latest")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=20, help="a round, of one client; as many in all of many clients")
    options = parser.parse_args()
    engine = open_engine(options.checkpoint, options.engine)
    source = engine.spec.inputs[0]
    coarse = np.random.default_rng(0).integers(1, 255, (len(source.bands), SIDE // 16, SIDE // 16))
    image = coarse.repeat(16, 1).repeat(16, 2).astype(source.dtype)
    tensor, valid = torch.from_numpy(image.astype(np.float32))[None], torch.ones(1, SIDE, SIDE, dtype=torch.bool)
    process, address = start(options.checkpoint, options.engine)
    bare: list[float] = []
    one: list[float] = []
    many, health = [], []

    def client() -> httpx.Client:
        return httpx.Client(base_url=address, timeout=600)

    try:
        with tempfile.TemporaryDirectory() as folder, client() as single, ThreadPoolExecutor(1) as beside:
            write_raster(Path(folder) / "image.tif", image)
            body = (Path(folder) / "image.tif").read_bytes()

            def ask(own: httpx.Client) -> None:
                own.post("/api/v1/predict?preflight=warn", content=body).raise_for_status()

            for number in range(options.rounds + 1):  # the first is a warm-up
                bare_now = seconds(lambda: engine(tensor, valid).max(1), options.images)
                one_now = seconds(lambda: ask(single), options.images)
                stop = threading.Event()
                watched = beside.submit(watch_health, address, stop)
                rate = of_many(ask, client, -(-options.images // CLIENTS))
                stop.set()
                if number:
                    bare, one = bare + bare_now, one + one_now
                    many.append(rate * statistics.median(bare_now))
                    health += watched.result()
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()
    middle = statistics.median(bare)
    print(f"engine {engine.name}; bare model: {1000 * middle:.0f} ms an image of {SIDE} x {SIDE}")
    for name, found in (("one client", one), ("/healthz while busy", health)):
        p95 = statistics.quantiles(found, n=20)[-1]
        print(f"{name}: median {1000 * statistics.median(found):.0f} ms, p95 {1000 * p95:.0f} ms")
    print(f"one client takes {statistics.median(one) / middle:.2f} times the bare model")
    print(f"{CLIENTS} clients: {statistics.median(many):.2f} of the bare model's images a second")


if __name__ == "__main__":
    main()
