"""The files for deployment: the image's steps in a clean environment, and what the others say."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import rasterio
import yaml
from browsing import noise, predicted, write_model

from satseg.data.writing import write_raster

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "scripts" / "deploy"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        assert process.poll() is None
        try:
            urllib.request.urlopen(url)
            return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"{url} does not answer")


@pytest.mark.slow
def test_the_image_steps_give_a_server_that_answers(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "opt"
    kept = shutil.ignore_patterns(".git", "runs", "__pycache__", ".*_cache", "*.egg-info")
    shutil.copytree(ROOT, source, ignore=kept)
    clean = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    clean |= {name: value for name, value in os.environ.items() if name.startswith("PIP_")} | {"OMP_NUM_THREADS": "1"}
    made = subprocess.run(
        ["bash", str(source / "scripts/deploy/install.sh"), str(target), "gpu", "serve"],
        env=clean | {"PYTHON": sys.executable},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert made.returncode == 0, made.stderr
    shutil.rmtree(source)  # nothing of it is needed any more
    image = noise(3, 256, 256, "uint8")
    model = write_model(tmp_path / "model" / "model.safetensors", 3, "uint8", image)
    write_raster(tmp_path / "image.tif", image)
    port = free_port()
    settings = {"SATSEG_PYTHON": str(target / "bin/python"), "SATSEG_CHECKPOINT": str(model), "SATSEG_PORT": str(port)}
    settings |= {"SATSEG_HOST": "127.0.0.1", "SATSEG_JOBS": str(tmp_path / "jobs"), "HOME": str(tmp_path / "home")}
    with subprocess.Popen(
        ["bash", str(DEPLOY / "serve.sh"), "engine=torch"], env=clean | settings, cwd=tmp_path
    ) as run:
        try:
            wait_for(f"http://127.0.0.1:{port}/readyz", run)
            body = (tmp_path / "image.tif").read_bytes()
            answer = urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/predict?preflight=warn", body).read()
        finally:
            run.send_signal(signal.SIGTERM)
    shutil.rmtree(target)  # gigabytes
    assert run.returncode == 0
    with rasterio.open(predicted(model, tmp_path / "image.tif", tmp_path)) as source:
        expected = source.read(1)
    with rasterio.MemoryFile(answer) as memory, memory.open() as found:
        assert np.array_equal(found.read(1), expected)


def test_wrong_arguments_of_the_install_are_one_line(tmp_path: Path) -> None:
    for arguments, said in ((["tpu"], "cpu or gpu, not tpu"), (["cpu", "all"], "serve or app, not all")):
        command = ["bash", str(DEPLOY / "install.sh"), str(tmp_path / "env"), *arguments]
        done = subprocess.run(command, env=os.environ | {"PYTHON": sys.executable}, capture_output=True, text=True)
        assert done.returncode == 2 and said in done.stderr and len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "env").exists()


def test_compose_and_kubernetes_say_what_the_start_script_reads() -> None:
    known = set(re.findall(r"\$\{(SATSEG_\w+)", (DEPLOY / "serve.sh").read_text()))
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["satseg"]
    state, service = yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())
    (container,) = state["spec"]["template"]["spec"]["containers"]
    assert set(compose["environment"]) <= known and {e["name"] for e in container["env"]} <= known
    mounted = {volume.rpartition(":")[2] for volume in compose["volumes"]}
    assert compose["environment"]["SATSEG_UPLOADS"] in mounted  # /tmp lies in memory
    assert compose["read_only"] and container["securityContext"]["readOnlyRootFilesystem"]
    assert state["spec"]["template"]["spec"]["securityContext"]["runAsNonRoot"]
    assert all(port.startswith("127.0.0.1:") for port in compose["ports"])
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert service["spec"]["selector"] == state["spec"]["template"]["metadata"]["labels"]
    docker = (DEPLOY / "Dockerfile").read_text()
    assert "scripts/deploy/install.sh" in docker and "USER 10001" in docker and "HEALTHCHECK" in docker
    assert "127.0.0.1:8000/readyz" not in docker and "SATSEG_PORT" in docker
    for copied in re.findall(r"^COPY (?!--)(.+) \S+$", docker, re.MULTILINE):
        assert all((ROOT / name).exists() for name in copied.split())


def test_the_start_script_shows_no_password_and_clears_what_a_killed_server_left(tmp_path: Path) -> None:
    for name in ("satseg-killed", "other"):
        (tmp_path / name).mkdir()
    settings = {"SATSEG_PYTHON": sys.executable, "SATSEG_AUTH": "me:secret", "SATSEG_UPLOADS": str(tmp_path)}
    (tmp_path / "satseg").mkdir()
    (tmp_path / "satseg" / "__init__.py").touch()
    said = "import os, sys\nprint(sys.argv[1:], os.environ['SATSEG_AUTH'], os.environ['TMPDIR'])\n"
    (tmp_path / "satseg" / "serve.py").write_text(said)
    command = ["bash", str(DEPLOY / "serve.sh"), "queue_size=2"]
    environment = os.environ | settings | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    options = ["checkpoint=/model", "host=0.0.0.0", "port=8000", "jobs_dir=/jobs", "queue_size=2"]
    assert done.stdout == f"{options} me:secret {tmp_path}\n"
    assert not (tmp_path / "satseg-killed").exists() and (tmp_path / "other").exists()


def test_prometheus_is_given_the_password_that_metrics_asks_for() -> None:
    text = (DEPLOY / "kubernetes.yaml").read_text()
    assert "prometheus.io" not in text  # annotations know no password
    said = re.findall(r"^#   (scrape_configs:.*(?:\n#   .*)*)", text, re.MULTILINE)[0].replace("\n#   ", "\n")
    (scrape,) = yaml.safe_load(said)["scrape_configs"]
    assert set(scrape["basic_auth"]) == {"username", "password_file"}


@pytest.mark.slow
def test_the_notebooks_last_cell_opens_the_app(tmp_path: Path) -> None:
    pytest.importorskip("gradio")
    notebook = json.loads((DEPLOY / "app.ipynb").read_text())
    code = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert code[1] == "!python -m satseg.train experiment=demo"
    run = tmp_path / "runs" / "one"
    write_model(run / "model.safetensors", 3, "uint8", noise(3, 256, 256, "uint8"))
    for name in ("config.yaml", "summary.json"):
        (run / name).write_text("{}\n")
    port = free_port()
    cell = code[2].replace("7860", str(port)) + "\napp.terminate()\nprint(app.wait())\n"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", cell], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"Open http://127.0.0.1:{port}\n" in done.stdout and done.stdout.endswith("0\n")
