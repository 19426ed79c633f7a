"""The HTTP API: maps equal to those of the commands, jobs, errors, shutdown, and load."""

from __future__ import annotations

import concurrent.futures
import functools
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import browser_visitor
import httpx
import numpy as np
import psutil
import pytest
import rasterio
from browser_visitor import CRS, NAMES, PLACE, Assets, Server, predict_with_command, random_squares, start, write_model
from commands import Forked

from satseg.data.rasters.writing import write_raster
from satseg.mapping import write_vectors
from satseg.serve.api.guard import HOST_HINT
from satseg.serve.web import SHUTDOWN_SECONDS

TIFF = {"Accept": "image/tiff"}


@pytest.fixture(scope="module")
def api(assets: Assets, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Start the API without the app, with both models."""
    options = [f"checkpoint=[{assets.rgb_model},{assets.multi_model}]", "max_upload_mb=20", "queue_size=2"]
    server = start(*options, temporary=tmp_path_factory.mktemp("api"), name="serve")
    wait_until_ready(server)
    yield server
    if server.process.poll() is None:
        server.stop()


@pytest.fixture
def client(api: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=api.address, timeout=120) as found:
        yield found


def wait_until_ready(server: Server) -> None:
    deadline = time.monotonic() + 120
    while httpx.get(f"{server.address}/readyz").status_code != 200:
        assert time.monotonic() < deadline and server.process.poll() is None, (server.temporary / "log").read_text()
        time.sleep(0.1)


def read_map(response: httpx.Response) -> tuple[np.ndarray, Any]:
    assert response.status_code == 200, response.text
    with rasterio.MemoryFile(response.content) as memory, memory.open() as source:
        return source.read(1), source.profile | {"colours": source.colormap(1)}


def post(client: httpx.Client, path: str, image: Path, **headers: str) -> httpx.Response:
    return client.post(f"/api/v1/{path}", content=image.read_bytes(), headers=headers)


def finished(client: httpx.Client, job: str, wanted: str = "done") -> dict[str, Any]:
    deadline = time.monotonic() + 300  # other processes may use the CPU
    while (state := client.get(f"/api/v1/jobs/{job}").json())["state"] not in ("done", "failed"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert state["state"] == wanted, state
    return state


def test_maps_equal_those_of_the_command_in_every_format(client: httpx.Client, assets: Assets, tmp_path: Path) -> None:
    with rasterio.open(predict_with_command(assets.multi_model, assets.multi_image, tmp_path)) as source:
        expected, colours = source.read(1), source.colormap(1)
    found, profile = read_map(post(client, "predict?model=multi&name=a.tif", assets.multi_image, **TIFF))
    assert np.array_equal(found, expected)
    assert (profile["crs"], profile["transform"], profile["nodata"]) == (CRS, PLACE, 255)
    assert [profile["colours"][i] for i in range(3)] == [colours[i] for i in range(3)]
    picture = post(client, "predict?model=multi", assets.multi_image, Accept="image/png;q=0.9, text/html")
    assert picture.headers["content-type"] == "image/png"
    assert np.array_equal(read_map(picture)[0], expected)
    vectors = post(client, "predict?model=multi&name=a.tif", assets.multi_image, Accept="application/geo+json")
    assert vectors.headers["content-disposition"] == 'attachment; filename="a_classes.geojson"'
    areas = json.loads(vectors.content)
    assert {f["properties"]["class"] for f in areas["features"]} == {
        NAMES[i] for i in np.unique(expected[expected < 3])
    }
    whole = sum(f["properties"]["area_m2"] for f in areas["features"])
    assert whole == pytest.approx((expected < 3).sum() * 100, rel=2e-3)


def metric(client: httpx.Client, name: str) -> float:
    (found,) = re.findall(rf"^{name} (\S+)$", client.get("/metrics").text, re.MULTILINE)
    return float(found)


def write_noise(side: int, path: Path) -> Path:
    """Write an image of independent random pixels, whose map has very many polygons."""
    image = np.random.default_rng(1).integers(1, 255, (3, side, side)).astype("uint8")
    write_raster(path, image, crs=CRS, transform=tuple(PLACE)[:6])
    return path


def test_geojson_is_limited_in_the_number_of_polygons(client: httpx.Client, tmp_path: Path) -> None:
    many, too_many = write_noise(256, tmp_path / "many.tif"), write_noise(1600, tmp_path / "too_many.tif")
    (tmp_path / "map.tif").write_bytes(post(client, "predict?preflight=warn", many, **TIFF).content)
    count = write_vectors(tmp_path / "map.tif", tmp_path / "map.geojson", NAMES)
    found = post(client, "predict?preflight=warn", many, Accept="application/geo+json")
    assert json.loads(found.content) == json.loads((tmp_path / "map.geojson").read_text())
    assert count == len(found.json()["features"]) > 2000  # that many are written by a separate process
    refused = post(client, "predict?preflight=warn", too_many, Accept="application/geo+json")
    assert refused.status_code == 422 and "which is too many; use the GeoTIFF" in refused.json()["detail"]
    job = post(client, "jobs?preflight=warn", too_many).json()["id"]
    result = finished(client, job)["result"]
    refused = client.get(result, headers={"Accept": "application/geo+json"})
    assert refused.status_code == 422 and "/" not in refused.json()["detail"].replace("image/tiff", "")
    assert client.get(result, headers=TIFF).status_code == 200
    assert client.delete(f"/api/v1/jobs/{job}").status_code == 204


def test_an_image_without_georeference_is_segmented_by_the_first_model_by_default(
    client: httpx.Client, assets: Assets, tmp_path: Path
) -> None:
    with rasterio.open(predict_with_command(assets.rgb_model, assets.rgb_image, tmp_path)) as source:
        expected = source.read(1)
    found, profile = read_map(post(client, "predict", assets.rgb_image))
    assert np.array_equal(found, expected) and profile["crs"] is None


def test_a_job_reports_its_place_progress_and_result(
    client: httpx.Client, assets: Assets, api: Server, tmp_path: Path
) -> None:
    path = tmp_path / "large.tif"
    write_raster(path, random_squares(3, 1920, 256, "uint8"), crs=CRS, transform=tuple(PLACE)[:6])
    taken = post(client, "jobs?name=large (1).tif", path)
    assert taken.status_code == 202
    job, before = taken.json()["id"], metric(client, "satseg_megapixels_total")
    assert taken.headers["location"] == f"/api/v1/jobs/{job}"
    early = client.get(f"/api/v1/jobs/{job}/result")
    assert early.status_code == 409 and int(early.headers["retry-after"]) >= 1
    second = post(client, "jobs?preflight=warn", path).json()
    assert second["place"] == 2 and second["seconds_left"] > 0
    assert post(client, "predict", assets.rgb_image).status_code == 200  # a small image overtakes
    seen = [client.get(f"/api/v1/jobs/{one}").json() for one in (job, second["id"])]
    assert [state["place"] for state in seen] == [1, 2] and seen[1]["seconds_left"] > seen[0]["seconds_left"]
    state = finished(client, job)
    wait_for(lambda: client.get(f"/api/v1/jobs/{second['id']}").json()["place"] in (1, None))  # None once it is done
    assert client.delete(f"/api/v1/jobs/{second['id']}").status_code == 204
    assert state["place"] is None and state["seconds_left"] is None
    assert metric(client, "satseg_megapixels_total") - before == pytest.approx((1920**2 + 256**2) / 1e6)
    assert state["progress"] == 1 and state["result"] == f"/api/v1/jobs/{job}/result"
    with rasterio.open(predict_with_command(assets.rgb_model, path, tmp_path)) as source:
        expected = source.read(1)
    result = client.get(state["result"], headers=TIFF)
    assert np.array_equal(read_map(result)[0], expected)
    assert result.headers["content-disposition"] == 'attachment; filename="large_1_classes.tif"'
    assert np.array_equal(read_map(client.get(state["result"], headers={"Accept": "image/png"}))[0], expected)
    assert client.delete(f"/api/v1/jobs/{job}").status_code == 204
    assert client.get(f"/api/v1/jobs/{job}").status_code == 404
    assert not list(api.temporary.rglob(job))


def write_large_image(path: Path) -> Path:
    """Write a small file with an image that takes minutes."""
    profile = {"driver": "GTiff", "width": 8000, "height": 8000, "count": 3, "dtype": "uint8", "tiled": True}
    with rasterio.open(path, "w", **profile, compress="deflate") as file:
        for band in (1, 2, 3):
            file.write(np.full((8000, 8000), 7, np.uint8), band)
    return path


def wait_for(found: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_running_and_waiting_jobs_can_be_cancelled_and_the_queue_is_limited(
    client: httpx.Client, assets: Assets, api: Server, tmp_path: Path
) -> None:
    path = write_large_image(tmp_path / "endless.tif")
    job = post(client, "jobs?preflight=warn", path).json()["id"]
    wait_for(lambda: client.get(f"/api/v1/jobs/{job}").json()["progress"] > 0)
    waiting = [post(client, "jobs?preflight=warn", path).json()["id"] for _ in range(2)]
    refused = post(client, "jobs", assets.rgb_image)
    assert refused.status_code == 429 and int(refused.headers["retry-after"]) >= 1
    for other in waiting:
        assert client.delete(f"/api/v1/jobs/{other}").status_code == 204
    assert not any(list(api.temporary.rglob(other)) for other in waiting)
    later = post(client, "jobs", assets.rgb_image)
    finished(client, later.json()["id"])
    assert client.get(f"/api/v1/jobs/{job}").json()["state"] == "running"
    assert client.delete(f"/api/v1/jobs/{job}").status_code == 204
    wait_for(lambda: not list(api.temporary.rglob(job)))
    assert client.delete(f"/api/v1/jobs/{later.json()['id']}").status_code == 204
    refused = post(client, "predict", path)
    assert refused.status_code == 413 and "/api/v1/jobs" in refused.json()["detail"]
    refused = post(client, "explain?target=water", path)
    assert refused.status_code == 413 and refused.json()["detail"].endswith("crop it to the part to explain.")


def test_explain_returns_evidence_as_geotiff_or_png(client: httpx.Client, assets: Assets) -> None:
    before = metric(client, "satseg_megapixels_total")
    shown = post(client, "explain?model=multi&target=forest", assets.multi_image, **TIFF)
    assert metric(client, "satseg_megapixels_total") - before == pytest.approx(256 * 256 / 1e6)
    with rasterio.MemoryFile(shown.content) as memory, memory.open() as source:
        assert source.crs == CRS and source.transform == PLACE and source.shape == (256, 256)
    assert json.loads(shown.headers["satseg-window"]) == [0, 0, 256, 256]
    shown = post(client, "explain?model=multi&target=forest&region=100,120,30,40&method=gradcam", assets.multi_image)
    assert shown.headers["content-type"] == "image/png", shown.text
    assert shown.content.startswith(b"\x89PNG")
    for query, message in (
        ("target=house", "There is no class house; choose water, forest, road."),
        ("target=water&region=250,250,10,10", "does not lie inside image, which has 256 x 256 pixels"),
        ("target=water&method=guess", "There is no method guess"),
        ("target=water&layer=nowhere", "nowhere"),
    ):
        refused = post(client, f"explain?{query}", assets.rgb_image)
        assert refused.status_code == 422 and message in refused.json()["detail"]


def test_a_damaged_image_gives_a_permanent_error(client: httpx.Client, api: Server, tmp_path: Path) -> None:
    path = tmp_path / "damaged.tif"
    write_raster(path, random_squares(3, 256, 256, "uint8"))
    content = path.read_bytes()
    path.write_bytes(content[:700] + b"\xff" * 600 + content[1300:])
    for asked in ("predict?preflight=warn", "explain?target=water", "predict?preflight=warn"):
        refused = post(client, asked, path)
        assert refused.status_code == 422, refused.text
    job = post(client, "jobs?preflight=warn&name=x.tif", path).json()["id"]
    detail = finished(client, job, "failed")["detail"]
    refused = client.get(f"/api/v1/jobs/{job}/result")
    assert refused.status_code == 422 and "retry-after" not in refused.headers
    assert refused.json()["detail"] == detail and "x.tif" in detail
    assert client.delete(f"/api/v1/jobs/{job}").status_code == 204
    log = (api.temporary / "log").read_text()
    assert "Traceback" not in log and "never retrieved" not in log


def test_model_health_metrics_and_documentation_endpoints(client: httpx.Client) -> None:
    models = client.get("/api/v1/model").json()["models"]
    assert [model["name"] for model in models] == ["rgb", "multi"]
    assert [c["name"] for c in models[1]["classes"]] == list(NAMES) and len(models[1]["bands"]) == 6
    assert models[0]["sha256"] != models[1]["sha256"] and len(models[0]["sha256"]) == 64
    assert client.get("/healthz").json() == {"status": "ok"}
    counts = client.get("/metrics").text
    assert "satseg_queue 0.0" in counts and 'satseg_requests_total{method="GET",route="/api/v1/model"' in counts
    page = client.get("/api/v1/docs").text
    assert "http://" not in page and "https://" not in page
    document = client.get("/api/v1/openapi.json").json()
    assert set(document["paths"]) == {
        "/api/v1/model",
        "/api/v1/predict",
        "/api/v1/explain",
        "/api/v1/jobs",
        "/api/v1/jobs/{job}",
        "/api/v1/jobs/{job}/result",
    }


def test_invalid_requests_get_a_status_and_one_sentence(client: httpx.Client, assets: Assets, api: Server) -> None:
    image = assets.rgb_image.read_bytes()

    def asked(path: str = "predict", method: str = "POST", content: bytes = image, **headers: str) -> tuple[int, str]:
        response = client.request(method, f"/api/v1/{path}", content=content, headers=headers)
        assert response.headers["content-type"] == "application/problem+json"
        problem = response.json()
        assert problem["status"] == response.status_code
        return response.status_code, problem["detail"]

    assert asked(content=b"hello")[0] == 415
    assert asked(content=b"") == (
        415,
        "Send a PNG, JPEG, TIFF or GeoTIFF image as the body of the request; it was empty.",
    )
    assert asked(**{"Content-Type": "multipart/form-data; boundary=x"})[0] == 415
    assert asked(**{"Content-Encoding": "gzip"})[0] == 415
    assert asked(content=b"\x89PNG\r\n\x1a\n" + bytes(21 * 10**6)) == (
        413,
        "The image is too large: at most 20 MB are accepted.",
    )
    assert asked(Accept="text/html")[0] == 406
    assert asked("predict?model=nobody") == (404, "There is no model nobody; choose rgb, multi.")
    assert asked("predict?preflight=off")[0] == 422
    status, message = asked("predict?model=multi&name=x.png")
    assert status == 422 and "x.png has the bands" in message and "model takes 6" in message
    status, message = asked(content=image[: len(image) // 2])
    assert status == 422 and "image" in message
    with rasterio.MemoryFile() as memory:
        with memory.open(driver="GTiff", width=256, height=256, count=3, dtype="uint8") as file:
            file.write(random_squares(3, 256, 256, "uint8"))
            file.descriptions = ("b1", "b2", "x")
        unlike = memory.read()
    status, message = asked(content=unlike)
    assert status == 422 and message.endswith("takes b1, b2, b3; use ?preflight=warn to have it segmented anyway.")
    with httpx.Client(base_url=api.address, timeout=120) as plain:
        assert plain.post("/api/v1/predict?preflight=warn", content=unlike).status_code == 200
        job = plain.post("/api/v1/jobs", content=unlike).json()["id"]
        assert finished(plain, job, "failed")["detail"] == message
        assert plain.delete(f"/api/v1/jobs/{job}").status_code == 204
    assert asked("nothing", "GET")[0] == 404 and asked("predict", "GET")[0] == 405
    assert asked("jobs/0", "GET")[0] == 422 and asked(f"jobs/{'0' * 32}", "GET")[0] == 404
    assert asked(Origin="http://evil.example") == (
        403,
        f"Requests by web pages of other sites are not allowed; {HOST_HINT}.",
    )
    assert asked(Host="evil.example") == (421, f"This server does not accept the host name evil.example; {HOST_HINT}.")
    wait_for(lambda: not [*api.temporary.glob("satseg-*/requests/*"), *api.temporary.rglob("jobs/[!.]*")])


@pytest.mark.slow
def test_a_full_disk_gives_status_503_with_retry_after(assets: Assets, tmp_path: Path) -> None:
    options = [f"checkpoint={assets.multi_model}", f"jobs_dir={tmp_path / 'jobs'}"]
    server = start(*options, temporary=tmp_path / "server", name="serve")
    limit = functools.partial(psutil.Process(server.process.pid).rlimit, psutil.RLIMIT_FSIZE)
    unlimited = limit()

    def asked(path: str) -> None:
        refused = post(client, path, assets.multi_image)
        assert refused.status_code == 503 and int(refused.headers["retry-after"]) >= 1
        detail = refused.json()["detail"]
        assert detail.endswith("; try again later.") and str(tmp_path) not in detail

    try:
        wait_until_ready(server)
        with httpx.Client(base_url=server.address, timeout=120) as client:
            limit((5_000, unlimited[1]))
            for path in ("predict", "explain?target=water", "jobs"):
                asked(path)
            limit(unlimited)
            assert not list((tmp_path / "jobs").glob("[!.]*"))
            shutil.rmtree(tmp_path / "jobs")
            (tmp_path / "jobs").touch()  # a file, so no folder can be created in it
            asked("jobs")
            assert post(client, "predict", assets.multi_image).status_code == 200
    finally:
        assert server.stop() == 0
    assert "Traceback" not in (server.temporary / "log").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("source", ["option", "environment"])
def test_a_password_is_required(assets: Assets, tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SATSEG_AUTH", "me:secret, wörd" if source == "environment" else "me:other")
    options = ["auth=me:secret, wörd"] if source == "option" else []
    server = start(f"checkpoint={assets.rgb_model}", *options, temporary=tmp_path, name="serve")
    try:
        for path in ("/api/v1/model", "/metrics", "/api/v1/docs", "/api/v1/openapi.json"):
            assert httpx.get(f"{server.address}{path}").status_code == 401
            assert httpx.get(f"{server.address}{path}", auth=("me", "wrong")).status_code == 401
            right = (b"me", "secret, wörd".encode())
            assert httpx.get(f"{server.address}{path}", auth=right).status_code == 200
        assert httpx.get(f"{server.address}/healthz").status_code == 200
    finally:
        assert server.stop() == 0


@pytest.mark.slow
def test_the_clients_in_the_readme_work(api: Server, assets: Assets, tmp_path: Path) -> None:
    text = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
    text = text.partition("\n## API\n")[2].partition("\n## ")[0].replace("http://127.0.0.1:8000", api.address)
    (curl,) = re.findall(r"^curl .*$", text, re.MULTILINE)
    (python,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    shutil.copy(assets.rgb_image, tmp_path / "scene.tif")
    with rasterio.open(predict_with_command(assets.rgb_model, assets.rgb_image, tmp_path / "command")) as source:
        expected = source.read(1)
    for command in (shlex.split(curl), [sys.executable, "-c", python]):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        with rasterio.open(tmp_path / "map.tif") as source:
            assert np.array_equal(source.read(1), expected)
        (tmp_path / "map.tif").unlink()


@pytest.mark.slow
def test_many_clients_get_the_same_bytes_or_status_429(assets: Assets, tmp_path: Path) -> None:
    server = start(f"checkpoint={assets.rgb_model}", "queue_s=1", temporary=tmp_path / "server", name="serve")
    try:
        wait_until_ready(server)
        with rasterio.open(predict_with_command(assets.rgb_model, assets.rgb_image, tmp_path)) as source:
            expected = source.read(1)
        image = assets.rgb_image.read_bytes()

        def ask(number: int) -> tuple[int, bytes, int]:
            response = httpx.post(f"{server.address}/api/v1/predict", content=image, headers=TIFF, timeout=120)
            alive = httpx.get(f"{server.address}/healthz", timeout=60).status_code
            assert response.status_code == 200 or int(response.headers["retry-after"]) >= 1
            return response.status_code, response.content, alive

        with concurrent.futures.ThreadPoolExecutor(100) as pool:
            answers = list(pool.map(ask, range(300)))
        assert {alive for _, _, alive in answers} == {200}
        assert {status for status, _, _ in answers} <= {200, 429, 503}
        maps = {content for status, content, _ in answers if status == 200}
        assert len(maps) == 1 and sum(status == 429 for status, _, _ in answers) > 0
        with rasterio.MemoryFile(maps.pop()) as memory, memory.open() as source:
            assert np.array_equal(source.read(1), expected)
    finally:
        assert server.stop() == 0


@pytest.mark.slow
def test_memory_does_not_grow_over_a_thousand_requests(assets: Assets, tmp_path: Path) -> None:
    server = start(f"checkpoint={assets.rgb_model}", temporary=tmp_path / "server", name="serve")
    write_raster(tmp_path / "small.tif", random_squares(3, 64, 64, "uint8"))
    image = (tmp_path / "small.tif").read_bytes()
    process = psutil.Process(server.process.pid)
    try:
        wait_until_ready(server)
        sizes = []
        with httpx.Client(base_url=server.address, timeout=60) as client:
            for _ in range(5):
                for _ in range(200):
                    assert client.post("/api/v1/predict?preflight=warn", content=image).status_code == 200
                sizes.append(process.memory_info().rss)
        assert sizes[-1] - sizes[0] < 10e6  # bytes, over 800 requests
        assert not list(server.temporary.glob("satseg-*/requests/*"))
    finally:
        server.stop()


@pytest.mark.slow
def test_stopping_the_server_finishes_accepted_requests_and_jobs(assets: Assets, tmp_path: Path) -> None:
    options = [f"checkpoint={assets.rgb_model}", f"jobs_dir={tmp_path / 'jobs'}"]
    server = start(*options, temporary=tmp_path / "server", name="serve")
    wait_until_ready(server)
    write_raster(tmp_path / "scene.tif", random_squares(3, 1600, 256, "uint8"))
    write_raster(tmp_path / "direct.tif", random_squares(3, 1520, 256, "uint8"))  # large enough to wait
    image = (tmp_path / "direct.tif").read_bytes()
    with httpx.Client(base_url=server.address, timeout=120) as client, concurrent.futures.ThreadPoolExecutor(4) as pool:
        job = post(client, "jobs", tmp_path / "scene.tif").json()["id"]
        direct = [pool.submit(httpx.post, f"{server.address}/api/v1/predict", content=image, timeout=120) for _ in "12"]
        wait_for(lambda: metric(client, "satseg_queue") == 3)
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: client.get("/readyz").status_code != 200)
        refused = client.post("/api/v1/predict", content=image)
        assert refused.status_code == 503 and "about to stop" in refused.json()["detail"]
        assert [future.result().status_code for future in direct] == [200] * 2
    assert server.process.wait(60) == 0
    record = json.loads((tmp_path / "jobs" / job / "job.json").read_text())
    assert record["state"] == "done" and (tmp_path / "jobs" / job / "map.tif").is_file()
    assert not list((tmp_path / "server").glob("satseg-*"))


@pytest.mark.slow
def test_stopping_the_server_completes_open_responses(assets: Assets, tmp_path: Path) -> None:
    server = start(f"checkpoint={assets.rgb_model}", temporary=tmp_path / "server", name="serve")
    wait_until_ready(server)
    asked = {
        "url": f"{server.address}/api/v1/predict?preflight=warn",
        "content": write_noise(560, tmp_path / "speckle.tif").read_bytes(),
        "headers": {"Accept": "application/geo+json"},
    }
    with httpx.stream("POST", **asked, timeout=120) as response:
        size = int(response.headers["content-length"])
        assert size > 10e6  # more than fits into buffers
        server.process.send_signal(signal.SIGTERM)
        time.sleep(SHUTDOWN_SECONDS + 1)  # after which a server that did not wait would have closed the connection
        assert len(response.read()) == size
    assert server.process.wait(60) == 0


@pytest.mark.slow
def test_a_killed_server_resumes_its_jobs_after_a_restart(assets: Assets, tmp_path: Path) -> None:
    options = [f"checkpoint={assets.rgb_model}", f"jobs_dir={tmp_path / 'jobs'}"]
    server = start(*options, temporary=tmp_path / "server", name="serve")
    wait_until_ready(server)
    write_raster(tmp_path / "scene.tif", random_squares(3, 1600, 256, "uint8"), crs=CRS, transform=tuple(PLACE)[:6])
    with httpx.Client(base_url=server.address, timeout=120) as client:
        jobs = [post(client, f"jobs?name={name}", tmp_path / "scene.tif").json()["id"] for name in ("a.tif", "b.tif")]
    server.process.kill()
    server.process.wait()
    record = tmp_path / "jobs" / jobs[1] / "job.json"
    often = json.loads(record.read_text()) | {"attempts": 2}
    record.write_text(json.dumps(often))
    left = tmp_path / "jobs" / ("0" * 32)  # of an incomplete upload
    left.mkdir()
    server = start(*options, temporary=tmp_path / "server", name="serve")
    try:
        with httpx.Client(base_url=server.address, timeout=120) as client:
            state = finished(client, jobs[0])
            with rasterio.open(predict_with_command(assets.rgb_model, tmp_path / "scene.tif", tmp_path)) as source:
                assert np.array_equal(read_map(client.get(state["result"]))[0], source.read(1))
            assert "while processing this image" in finished(client, jobs[1], "failed")["detail"]
        assert not left.exists()
    finally:
        assert server.stop() == 0


@pytest.mark.slow
def test_deleting_a_job_while_its_result_is_converted_gives_status_404(
    client: httpx.Client, api: Server, assets: Assets, tmp_path: Path
) -> None:
    job = post(client, "jobs?preflight=warn", write_noise(560, tmp_path / "speckle.tif")).json()["id"]
    result = finished(client, job)["result"]  # its polygons take a while
    before = post(client, "jobs?preflight=warn", write_large_image(tmp_path / "endless.tif")).json()["id"]
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        asked = pool.submit(client.get, result, headers={"Accept": "application/geo+json"})
        wait_for(lambda: metric(client, "satseg_queue") == 2)
        for one in (job, before):
            assert client.delete(f"/api/v1/jobs/{one}").status_code == 204
        assert asked.result().status_code == 404
    assert client.get(result).status_code == 404
    wait_for(lambda: not list(api.temporary.rglob(before)))
    assert not list(api.temporary.rglob(job))


@pytest.mark.slow
def test_a_job_is_deleted_when_it_expires(assets: Assets, tmp_path: Path) -> None:
    options = [f"checkpoint={assets.rgb_model}", "keep_jobs_h=0.001"]
    server = start(*options, temporary=tmp_path, name="serve")
    try:
        with httpx.Client(base_url=server.address, timeout=120) as client:
            job = post(client, "jobs", assets.rgb_image).json()["id"]
            wait_for(lambda: client.get(f"/api/v1/jobs/{job}").status_code == 404)
            assert client.get(f"/api/v1/jobs/{job}/result").status_code == 404
            wait_for(lambda: not list(tmp_path.rglob(job)))
    finally:
        assert server.stop() == 0


@pytest.mark.slow
def test_jobs_are_bound_to_the_model_they_were_sent_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image, model = random_squares(3, 256, 256, "uint8"), tmp_path / "one" / "model.safetensors"
    write_raster(tmp_path / "scene.tif", image)
    write_model(model, 3, "uint8", image)
    options = [f"checkpoint={model}", f"jobs_dir={tmp_path / 'jobs'}"]
    server = start(*options, temporary=tmp_path / "server", name="serve")
    wait_until_ready(server)
    with httpx.Client(base_url=server.address, timeout=120) as client:
        done = post(client, "jobs", tmp_path / "scene.tif").json()["id"]
        finished(client, done)
        post(client, "jobs?preflight=warn", write_large_image(tmp_path / "endless.tif"))
        waiting = post(client, "jobs?preflight=warn", tmp_path / "endless.tif").json()["id"]
    server.process.kill()
    server.process.wait()
    monkeypatch.setattr(browser_visitor, "NAMES", ("sea", "wood", "street"))
    write_model(model, 3, "uint8", image // 2)
    server = start(*options, temporary=tmp_path / "server", name="serve")
    try:
        with httpx.Client(base_url=server.address, timeout=120) as client:
            assert client.get("/api/v1/model").json()["models"][0]["classes"][0]["name"] == "sea"
            detail = finished(client, waiting, "failed")["detail"]
            assert detail == "The server was restarted without the model one that this job uses."
            areas = client.get(f"/api/v1/jobs/{done}/result", headers={"Accept": "application/geo+json"}).json()
            assert {area["properties"]["class"] for area in areas["features"]} <= set(NAMES)
    finally:
        assert server.stop() == 0


@pytest.mark.slow
def test_a_second_server_cannot_use_the_same_port_or_jobs_folder(assets: Assets, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    options = [f"checkpoint={assets.rgb_model}", "engine=torch", "device=cpu"]
    command = [sys.executable, "-m", "satseg.serve", *options]
    environment = os.environ | {"SATSEG_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    run = functools.partial(Forked, env=environment, cwd=tmp_path, text=True, stdout=-1, stderr=-1)
    first, second = (run([*command, f"port={port}"]) for _ in range(2))
    try:
        wait_for(lambda: first.poll() is not None or second.poll() is not None)
        failed, running = (first, second) if first.poll() is not None else (second, first)
        assert failed.returncode == 1
        message = failed.stderr.read().splitlines()[-1]
        assert f"port={port} cannot be used" in message and running.poll() is None
        assert "Listening" in running.stdout.readline()
        (jobs,) = (tmp_path / "cache" / "jobs").iterdir()
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as client:
            job = post(client, "jobs", assets.rgb_image).json()["id"]
            third = run([*command, "port=0", f"jobs_dir={jobs}"])
            message = third.communicate(timeout=120)[1].splitlines()[-1]
            assert third.returncode == 1 and f"jobs_dir={jobs} is in use by process {running.pid} on " in message
            finished(client, job)
    finally:
        for process in (first, second):
            process.terminate()
            process.communicate(timeout=60)


@pytest.mark.slow
def test_small_images_can_be_batched(assets: Assets, tmp_path: Path) -> None:
    options = [f"checkpoint={assets.rgb_model}", "batching=true", "batch_size=2", "queue_s=600"]
    server = start(*options, temporary=tmp_path / "server", name="serve")
    try:
        wait_until_ready(server)
        images = [np.roll(random_squares(3, 704, 256, "uint8"), 16 * i, 1) for i in range(8)]
        paths = [tmp_path / f"{i}.tif" for i in range(8)]
        for path, image in zip(paths, images, strict=True):
            write_raster(path, image)
        with (
            httpx.Client(base_url=server.address, timeout=120) as client,
            concurrent.futures.ThreadPoolExecutor(8) as pool,
        ):
            asked = [pool.submit(post, client, "predict", path) for path in paths]
            found = [read_map(future.result())[0] for future in asked]
            assert 4 <= metric(client, "satseg_batches_total") < 8  # others arrive while one batch is computed
        for path, own in zip(paths, found, strict=True):
            with rasterio.open(predict_with_command(assets.rgb_model, path, tmp_path / path.stem)) as source:
                assert (own == source.read(1)).mean() > 0.999
    finally:
        assert server.stop() == 0


@pytest.mark.slow
def test_the_app_and_the_api_share_a_process(server: Server, assets: Assets, tmp_path: Path) -> None:
    pytest.importorskip("gradio")
    with httpx.Client(base_url=server.address, timeout=120) as client:
        assert "gradio" in client.get("/").text
        found, _ = read_map(post(client, "predict", assets.rgb_image))
    with rasterio.open(predict_with_command(assets.rgb_model, assets.rgb_image, tmp_path)) as source:
        assert np.array_equal(found, source.read(1))


def test_the_nodata_value_of_the_file_overrides_that_of_the_training_data(client: httpx.Client, tmp_path: Path) -> None:
    image = np.random.default_rng(2).integers(50, 200, (3, 96, 96)).astype("uint8")
    image[:, 60:], image[:, :, :20] = 0, 255  # rows with the training nodata value, columns with that of the file
    write_raster(tmp_path / "a.tif", image, crs=CRS, transform=tuple(PLACE)[:6], nodata=255)
    found, _ = read_map(post(client, "predict?preflight=warn", tmp_path / "a.tif", **TIFF))
    assert (found[:, :20] == 255).all() and (found[:, 20:] < 3).all()
    job = post(client, "jobs?preflight=warn", tmp_path / "a.tif").json()["id"]
    result = client.get(finished(client, job)["result"], headers=TIFF)
    assert np.array_equal(read_map(result)[0], found)
    assert client.delete(f"/api/v1/jobs/{job}").status_code == 204
