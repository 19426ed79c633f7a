"""Deployment: installation in a clean environment, container files, nginx, and the notebook."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
import tomllib
import urllib.request
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import rasterio
import yaml
from browser_visitor import predict_with_command, random_squares, start, wait_until, write_model
from commands import run_program

from satseg.data.rasters.writing import write_raster

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "scripts" / "deploy"
UNTESTED = {
    "audioop-lts",
    "colorama",
    "httpx2-jsfetch",
    "setuptools",
}  # for other systems or Python versions, and a build tool


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
def test_the_installation_script_gives_a_working_server(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "opt"
    ignored = shutil.ignore_patterns(".git", "__pycache__", ".*_cache", "*.egg-info")
    top = {"runs"}  # but not satseg/runs
    shutil.copytree(ROOT, source, ignore=lambda at, names: ignored(at, names) | (top if Path(at) == ROOT else set()))
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
    shutil.rmtree(source)  # no longer needed
    image = random_squares(3, 256, 256, "uint8")
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
    shutil.rmtree(target)  # frees gigabytes
    assert run.returncode == 0
    with rasterio.open(predict_with_command(model, tmp_path / "image.tif", tmp_path)) as source:
        expected = source.read(1)
    with rasterio.MemoryFile(answer) as memory, memory.open() as found:
        assert np.array_equal(found.read(1), expected)


def test_invalid_arguments_of_the_installation_script_give_one_line(tmp_path: Path) -> None:
    for arguments, message in ((["tpu"], "cpu or gpu, not tpu"), (["cpu", "all"], "serve or app, not all")):
        command = ["bash", str(DEPLOY / "install.sh"), str(tmp_path / "env"), *arguments]
        done = subprocess.run(command, env=os.environ | {"PYTHON": sys.executable}, capture_output=True, text=True)
        assert done.returncode == 2 and message in done.stderr and len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "env").exists()


def test_compose_and_kubernetes_set_variables_that_the_start_script_reads() -> None:
    known = set(re.findall(r"\$\{(SATSEG_\w+)", (DEPLOY / "serve.sh").read_text()))
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["satseg"]
    state, service, _ = yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())
    (container,) = state["spec"]["template"]["spec"]["containers"]
    assert set(compose["environment"]) <= known and {e["name"] for e in container["env"]} <= known
    mounted = {volume.rpartition(":")[2] for volume in compose["volumes"]}
    assert compose["environment"]["SATSEG_UPLOADS"] in mounted  # /tmp is in memory
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


def megabytes(limit: str) -> float:
    """Parse a limit of Kubernetes or Docker."""
    number, unit = re.fullmatch(r"(\d+)([kmgKMG])i?", limit).groups()  # type: ignore[union-attr]
    return int(number) * {"k": 1e-3, "m": 1, "g": 1e3}[unit.lower()]


def test_containers_have_resource_limits_and_no_privileges() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["satseg"]
    state, service, policy = yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())
    pod = state["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert compose["mem_limit"] == compose["memswap_limit"] and compose["pids_limit"] > 0
    assert all("size=" in folder for folder in compose["tmpfs"]) and compose["cap_drop"] == ["ALL"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert set(container["resources"]["limits"]) == {"cpu", "memory", "ephemeral-storage"}
    defaults = yaml.safe_load((ROOT / "conf" / "serving.yaml").read_text())
    images = (defaults["queue_size"] + 1) * defaults["max_upload_mb"]
    (size,) = (megabytes(volume["emptyDir"]["sizeLimit"]) for volume in pod["volumes"] if "emptyDir" in volume)
    assert 3 * images < size < megabytes(container["resources"]["limits"]["ephemeral-storage"])
    assert policy["kind"] == "NetworkPolicy" and set(policy["spec"]["policyTypes"]) == {"Ingress", "Egress"}
    assert policy["spec"]["podSelector"]["matchLabels"] == state["spec"]["template"]["metadata"]["labels"]
    (rule,) = policy["spec"]["ingress"]
    assert rule["ports"] == [{"port": service["spec"]["ports"][0]["targetPort"], "protocol": "TCP"}]
    assert rule["from"] and policy["spec"]["egress"] == []


def test_the_base_image_must_have_a_digest() -> None:
    docker = (DEPLOY / "Dockerfile").read_text()
    assert set(re.findall(r"^FROM (\S+)", docker, re.MULTILINE)) == {"${BASE}"}
    assert re.findall(r"^ARG (BASE.*)$", docker, re.MULTILINE) == ["BASE"] * 3  # no default
    (check,) = re.findall(r"^RUN (case .*)$", docker, re.MULTILINE)
    for base, code in (("python@sha256:0a", 0), ("python:3.11@sha256:0a", 0), ("python:3.11", 1), ("", 1)):
        done = subprocess.run(["sh", "-c", check], env=os.environ | {"BASE": base}, capture_output=True, text=True)
        assert done.returncode == code and len(done.stderr.splitlines()) == code
    assert yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["satseg"]["build"]["args"][
        "BASE"
    ].startswith("${BASE:?")


def pins(text: str) -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)==([^\s;]+)", text, re.MULTILINE))


@pytest.mark.parametrize("extra", ["serve", "app", "build"])
def test_locked_versions_are_those_in_the_constraints(extra: str) -> None:
    text = (DEPLOY / "requirements" / f"{extra}.txt").read_text()
    locked = {name.replace("_", "-"): version for name, version in pins(text).items()}
    tested = {
        name.lower().replace("_", "-"): version
        for name, version in pins((ROOT / "constraints.txt").read_text()).items()
    }
    assert {name: tested[name] for name in locked if name in tested} == {n: v for n, v in locked.items() if n in tested}
    entries = re.split(r"^(?=[a-z])", text, flags=re.MULTILINE)[1:]
    assert len(entries) == len(locked) > 5
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}\b", entry) for entry in entries)
    if extra == "build":
        return
    assert set(locked) - set(tested) <= UNTESTED, "constraints.txt lacks them"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"][extra]]
    names = {re.match(r"[\w.-]+", one)[0].lower().replace("_", "-") for one in wanted}  # type: ignore[index]
    assert names - {"satseg"} <= set(locked), "run scripts/deploy/lock.sh"


@pytest.mark.slow
def test_nginx_forwards_complete_requests_and_refuses_other_host_names(tmp_path: Path) -> None:
    if shutil.which("nginx") is None or shutil.which("openssl") is None:
        pytest.skip("there is no nginx, or no openssl")
    image = random_squares(3, 256, 256, "uint8")
    model = write_model(tmp_path / "model" / "model.safetensors", 3, "uint8", image)
    write_raster(tmp_path / "image.tif", image)
    name, (plain, tls) = "satseg.example.org", (free_port(), free_port())
    server = start(f"checkpoint={model}", f"trusted_hosts=[{name}]", temporary=tmp_path / "server", name="serve")
    text = (DEPLOY / "nginx.conf").read_text()
    text = re.sub(r"^ *listen \[::\].*\n", "", text, flags=re.MULTILINE)
    for original, local in (
        ("listen 80 ", f"listen 127.0.0.1:{plain} "),
        ("listen 443 ", f"listen 127.0.0.1:{tls} "),
        ("127.0.0.1:7860", server.address.removeprefix("http://")),
        ("/etc/ssl/satseg", str(tmp_path)),
        ("/var/log/nginx", str(tmp_path)),
        ("client_body_timeout 20s", "client_body_timeout 2s"),
        ("http {\n", f"http {{\nclient_body_temp_path {tmp_path}/bodies;\n"),
    ):
        assert original in text
        text = text.replace(original, local)
    (tmp_path / "nginx.conf").write_text(text + ("user root;\n" if os.getuid() == 0 else ""))
    certificate = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-days", "1"]
    certificate += ["-addext", f"subjectAltName=DNS:{name}", "-keyout", "privkey.pem", "-out", "fullchain.pem"]
    subprocess.run(certificate, cwd=tmp_path, check=True, capture_output=True)
    nginx = ["nginx", "-p", str(tmp_path), "-c", "nginx.conf", "-e", str(tmp_path / "error.log")]
    nginx += ["-g", f"daemon off; pid {tmp_path}/nginx.pid;"]
    checked = subprocess.run([*nginx, "-t"], capture_output=True, text=True)
    assert checked.returncode == 0 and "warn" not in checked.stderr, checked.stderr
    context = ssl.create_default_context(cafile=str(tmp_path / "fullchain.pem"))

    def connect(host: str = name) -> ssl.SSLSocket:
        return context.wrap_socket(socket.create_connection(("127.0.0.1", tls), timeout=30), server_hostname=host)

    def request(line: str, body: bytes = b"") -> bytes:
        with connect() as connection:
            head = f"{line} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body)
            return b"".join(iter(lambda: connection.recv(65536), b""))

    def is_ready() -> bool:
        with suppress(OSError):  # not yet listening
            return request("GET /readyz").startswith(b"HTTP/1.1 200 ")
        return False

    with subprocess.Popen(nginx) as proxy:
        try:
            wait_until(is_ready)
            body = (tmp_path / "image.tif").read_bytes()
            answer = request("POST /api/v1/predict?preflight=warn", body)
            assert answer.startswith(b"HTTP/1.1 200 ") and b"Strict-Transport-Security" in answer
            assert request("GET /metrics").startswith(b"HTTP/1.1 403 ")
            with pytest.raises(ssl.SSLError):
                connect("other.example.org")
            with socket.create_connection(("127.0.0.1", plain), timeout=30) as connection:
                connection.sendall(b"GET /a HTTP/1.0\r\n\r\n")
                assert f"Location: https://{name}/a".encode() in connection.recv(65536)
            requests = list(server.temporary.glob("satseg-*/requests/*"))
            with connect() as slow:
                head = f"POST /api/v1/predict HTTP/1.1\r\nHost: {name}\r\nContent-Length: 1000\r\n\r\nx"
                slow.sendall(head.encode())
                with suppress(ConnectionResetError):
                    assert b"200" not in slow.recv(65536)  # waits until the proxy times out
            assert (
                list(server.temporary.glob("satseg-*/requests/*")) == requests
            )  # the request did not reach the server
        finally:
            proxy.terminate()
            assert server.stop() == 0


def test_the_start_script_hides_the_password_and_removes_files_of_a_killed_server(tmp_path: Path) -> None:
    for name in ("satseg-killed", "other"):
        (tmp_path / name).mkdir()
    settings = {"SATSEG_PYTHON": sys.executable, "SATSEG_AUTH": "me:secret", "SATSEG_UPLOADS": str(tmp_path)}
    (tmp_path / "satseg").mkdir()
    (tmp_path / "satseg" / "__init__.py").touch()
    program = "import os, sys\nprint(sys.argv[1:], os.environ['SATSEG_AUTH'], os.environ['TMPDIR'])\n"
    (tmp_path / "satseg" / "serve.py").write_text(program)
    command = ["bash", str(DEPLOY / "serve.sh"), "queue_size=2"]
    environment = os.environ | settings | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    options = ["checkpoint=/model", "host=0.0.0.0", "port=8000", "jobs_dir=/jobs", "queue_size=2"]
    assert done.stdout == f"{options} me:secret {tmp_path}\n"
    assert not (tmp_path / "satseg-killed").exists() and (tmp_path / "other").exists()


def test_the_prometheus_example_has_the_password_for_metrics() -> None:
    text = (DEPLOY / "kubernetes.yaml").read_text()
    assert "prometheus.io" not in text  # annotations cannot hold a password
    example = re.findall(r"^#   (scrape_configs:.*(?:\n#   .*)*)", text, re.MULTILINE)[0].replace("\n#   ", "\n")
    (scrape,) = yaml.safe_load(example)["scrape_configs"]
    assert set(scrape["basic_auth"]) == {"username", "password_file"}


@pytest.mark.slow
def test_the_last_cell_of_the_notebook_starts_the_app(tmp_path: Path) -> None:
    pytest.importorskip("gradio")
    notebook = json.loads((DEPLOY / "app.ipynb").read_text())
    code = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert code[1] == "!python -m satseg.train experiment=demo"
    run = tmp_path / "runs" / "one"
    write_model(run / "model.safetensors", 3, "uint8", random_squares(3, 256, 256, "uint8"))
    for name in ("config.yaml", "summary.json"):
        (run / name).write_text("{}\n")
    port = free_port()
    cell = code[2].replace("7860", str(port)) + "\napp.terminate()\nprint(app.wait())\n"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = run_program([sys.executable, "-c", cell], ranks=1, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert f"Open http://127.0.0.1:{port}\n" in done.stdout and done.stdout.endswith("0\n")
