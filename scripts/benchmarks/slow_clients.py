"""Measure the latency of requests during slow-client attacks: 20 unfinished images, then 300 unfinished headers.

    python scripts/benchmarks/slow_clients.py --seconds 45

Starts a server of a small model on this machine, and prints the 95th percentile of each part, also relative to that
without an attack. The number of slow clients is constant: one whose connection is closed connects again.
"""

from __future__ import annotations

import argparse
import re
import selectors
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import torch

from satseg.data.rasters.writing import write_raster
from satseg.models import build_model
from satseg.models.catalogue import MODELS
from satseg.models.checkpoint import save_model
from satseg.spec import DatasetSpec, InputSpec

SIDE, BYTE_SECONDS, MOST_SECONDS = 256, 12.0, 600
HOST = "Host: 127.0.0.1\r\n"
UNFINISHED_IMAGE = f"POST /api/v1/predict HTTP/1.1\r\n{HOST}Content-Length: 1000000\r\n\r\n".encode()
UNFINISHED_HEADER = f"GET /api/v1/model HTTP/1.1\r\n{HOST}".encode()
ATTACKS = {"20 unfinished images": (20, UNFINISHED_IMAGE), "300 unfinished headers": (300, UNFINISHED_HEADER)}


def write_model(folder: Path) -> Path:
    spec = DatasetSpec((InputSpec(("r", "g", "b"), "uint8", scale=255.0),), ("a", "b"), ((0, 0, 0), (255, 255, 255)))
    torch.manual_seed(0)
    config = {"_target_": MODELS["unet"], "encoder_name": "tu-resnet18", "encoder_weights": "none"}
    path = folder / "model.safetensors"
    save_model(path, build_model(config, spec).eval(), training={}, protocol={"miou": "mean over classes"})
    return path


def start_server(checkpoint: Path) -> tuple[subprocess.Popen[str], str]:
    options = [
        f"checkpoint={checkpoint}",
        "engine=torch",
        "device=cpu",
        "port=0",
        f"jobs_dir={checkpoint.parent / 'jobs'}",
    ]
    process = subprocess.Popen([sys.executable, "-m", "satseg.serve", *options], stdout=subprocess.PIPE, text=True)
    address = re.findall(r"http://[^\s;]+", process.stdout.readline())[0]
    while httpx.get(f"{address}/readyz").status_code != 200:
        time.sleep(0.2)
    return process, address


@contextmanager
def attacked(address: str, count: int, begin: bytes) -> Iterator[dict[str, int]]:
    """Keep a number of slow connections open, and count those that are closed."""
    end, counts = threading.Event(), {"ended by the server": 0}
    parts = urlsplit(address)

    def attack() -> None:
        with selectors.DefaultSelector() as watched:
            due: dict[socket.socket, float] = {}
            while not end.is_set():
                for _ in range(count - len(due)):
                    connection = socket.create_connection((parts.hostname, parts.port), timeout=5)
                    connection.sendall(begin)
                    due[connection] = time.monotonic() + BYTE_SECONDS
                    watched.register(connection, selectors.EVENT_READ)
                for key, _ in watched.select(0.2):
                    try:
                        if key.fileobj.recv(65536):
                            continue
                    except OSError:
                        pass
                    counts["ended by the server"] += 1
                    watched.unregister(key.fileobj)
                    del due[key.fileobj]
                    key.fileobj.close()
                for connection, moment in due.items():
                    if moment < time.monotonic():
                        due[connection] = time.monotonic() + BYTE_SECONDS
                        with suppress(OSError):  # found closed on the next read
                            connection.send(b"x")
            for connection in due:
                connection.close()

    thread = threading.Thread(target=attack)
    thread.start()
    time.sleep(2)
    try:
        yield counts
    finally:
        end.set()
        thread.join()


def ask(address: str, body: bytes, seconds: float) -> tuple[list[float], int]:
    """Return the durations of answered requests, and the number of unanswered ones."""
    found, failed, last = [], 0, time.monotonic() + seconds
    while time.monotonic() < last:
        start_s = time.perf_counter()
        try:
            answer = httpx.post(f"{address}/api/v1/predict?preflight=warn", content=body, timeout=30)
        except httpx.HTTPError:
            failed += 1
        else:
            if answer.status_code == 200:
                found.append(time.perf_counter() - start_s)
            else:
                failed += 1
                time.sleep(0.1)
    return found, failed


def p95(found: list[float]) -> float:
    return statistics.quantiles(found, n=20)[-1] if len(found) > 1 else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=45, help="of each part: quiet, both attacks, quiet")
    seconds = min(parser.parse_args().seconds, MOST_SECONDS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        image = np.random.default_rng(0).integers(1, 255, (3, SIDE, SIDE)).astype(np.uint8)
        write_raster(folder / "image.tif", image)
        body = (folder / "image.tif").read_bytes()
        process, address = start_server(write_model(folder))
        try:
            ask(address, body, 5)
            found = {"quiet": (*ask(address, body, seconds / 2), "")}
            for attack, (count, begin) in ATTACKS.items():
                with attacked(address, count, begin) as counts:
                    times, failed = ask(address, body, seconds)
                    found[attack] = times, failed, f"; {counts['ended by the server']} connections ended"
            again, failed = ask(address, body, seconds / 2)
            found["quiet"] = (found["quiet"][0] + again, found["quiet"][1] + failed, "")
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(90)
            except subprocess.TimeoutExpired:
                process.kill()
    quiet = p95(found["quiet"][0])
    for part, (times, failed, more) in found.items():
        now = p95(times)
        print(
            f"{part}: {len(times)} answered, {failed} refused or failed, p95 {1000 * now:.0f} ms, "
            f"{now / quiet:.2f} times the quiet one{more}"
        )


if __name__ == "__main__":
    main()
