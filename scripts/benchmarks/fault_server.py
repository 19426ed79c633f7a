"""Trials of the server: kill it during a job, restart it, and check that the job is finished."""

from __future__ import annotations

import json
import random
import re
import signal
import time
import urllib.request
from pathlib import Path
from typing import Any

from fault_commands import Commands, lines
from fault_files import broken, left_over, same_map
from fault_processes import LOOK_S, OUT, Process
from fault_trials import Outcome


def served_job(commands: Commands) -> tuple[Path, float]:
    """Return the reference result of a job, and its duration; computed once."""
    folder = commands.work / "reference" / "serve"
    result, record = folder.with_name("serve.tif"), folder.with_name("serve.json")
    if not record.exists():
        commands.reference("train")
        server = commands.start("serve", folder)
        try:
            address = _address(server)
            job = _request(f"{address}/api/v1/jobs", commands.scene().read_bytes())["id"]
            begin = time.monotonic()
            found = _result(address, job)
            if not isinstance(found, bytes):
                raise RuntimeError(f"A job fails without faults: {found}")
            result.write_bytes(found)
            record.write_text(json.dumps({"seconds": time.monotonic() - begin}))
        finally:
            server.signal(signal.SIGTERM)
            server.wait()
    return result, float(json.loads(record.read_text())["seconds"])


def kill_server(commands: Commands, folder: Path, generator: random.Random) -> Outcome:
    """Kill a server at a random moment during a job, and restart it."""
    folder.mkdir(parents=True)
    outcome = Outcome()
    expected, seconds = served_job(commands)
    server = commands.start("serve", folder, "first")
    try:
        job = _request(f"{_address(server)}/api/v1/jobs", commands.scene().read_bytes())["id"]
        begin = time.monotonic() - server.started
        server.sleep(begin + generator.uniform(0, seconds))
        state = json.loads((folder / OUT / job / "job.json").read_text())["state"]
        outcome.phase = f"job {state}"
    finally:
        server.signal(signal.SIGKILL)
        server.wait()
    outcome.problems += broken(folder / OUT)
    again = commands.start("serve", folder, "again")
    try:
        found = _result(_address(again), job)
        if isinstance(found, bytes):
            (result := folder / "result.tif").write_bytes(found)
            outcome.problems += [] if same_map(result, expected) else ["the result differs"]
        else:
            outcome.problems.append(f"the job failed: {found}")
        again.signal(signal.SIGTERM)
        if (code := again.wait()) != 0 or set(lines(again.stderr())) - set(lines(server.stderr())):
            outcome.problems.append(f"the server ended with {code}: {again.stderr()[-300:]}")
    finally:
        again.signal(signal.SIGKILL)
        again.wait()
        for process in (server, again):
            process.end_group()
    outcome.problems += broken(folder / OUT) + [f"left: {name}" for name in left_over(folder / OUT)]
    return outcome


def _address(server: Process) -> str:
    out = server.folder / f"{server.name}.out"
    while not server.poll() and time.monotonic() - server.started < 120:
        if found := re.search(r"http://127\.0\.0\.1:\d+", out.read_text()):
            return found[0]
        time.sleep(LOOK_S)
    raise RuntimeError(f"The server does not start: {server.stderr()}")


def _request(address: str, body: bytes | None = None) -> Any:
    """Send a request to the server; return the JSON response or the bytes of a file."""
    request = urllib.request.Request(address, body, {"Content-Type": "image/tiff"} if body else {})
    with urllib.request.urlopen(request, timeout=60) as answer:
        found = answer.read()
        return json.loads(found) if "json" in answer.headers["Content-Type"] else found


def _result(address: str, job: str) -> Any:
    """Wait for a job; return its map, or the reason for failure."""
    for _ in range(1200):
        state = _request(f"{address}/api/v1/jobs/{job}")
        if state["state"] == "done":
            return _request(f"{address}/api/v1/jobs/{job}/result")
        if state["state"] == "failed":
            return str(state)
        time.sleep(0.05)
    return "it does not finish"
