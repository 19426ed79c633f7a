"""Inference engines: agreement with PyTorch, the cache of exported graphs, and the choice of the fastest."""

import json
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from satseg.environment import package_version
from satseg.errors import ConfigError, EngineError, MissingPackageError, ResourceError
from satseg.inference.engines import Engine, graphs, keep_int8, open_engine
from satseg.inference.engines import cache as cache_module
from satseg.inference.engines.cache import Cache
from satseg.inference.engines.graphs import model_digest
from satseg.inference.engines.selection import fastest
from satseg.models import SegmentationNetwork, build_model
from satseg.models.catalogue import MODELS
from satseg.spec import DatasetSpec, InputSpec

CPU = torch.device("cpu")
GRAPHS = ("onnx", "openvino")
SOME_SLOW = ("onnx", pytest.param("openvino", marks=pytest.mark.slow))


def spec(bands: int = 3, **options: Any) -> DatasetSpec:
    numbers = {"mean": (0.3,) * bands, "std": (0.2,) * bands, "scale": 255.0, "dtype": "uint8", "nodata": 0.0} | options
    return DatasetSpec(
        (InputSpec(tuple(f"b{i}" for i in range(bands)), **numbers),),
        ("water", "forest", "road", "roof"),
        tuple((i, i, i) for i in range(4)),
    )


class Tiny(nn.Module):
    """A network that is exported within a second; if `bound`, its graph is valid for one input size only."""

    def __init__(self, bound: bool = False) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 8, 3, stride=4, padding=1)
        self.head = nn.Conv2d(8, 4, 3, padding=1)
        self.bound = bound

    def forward(self, image: Tensor) -> Tensor:
        logits = interpolate(self.head(self.down(image).relu()), size=image.shape[-2:], mode="bilinear")
        return logits * float(1 + int(image.shape[-1]) // 32) if self.bound else logits


def tiny(bound: bool = False, seed: int = 0, **options: Any) -> SegmentationNetwork:
    torch.manual_seed(seed)
    return SegmentationNetwork(Tiny(bound), spec(**options), {"_target_": "tests.Tiny", "bound": bound}).eval()


# Four of its ten similar dense blocks, since its full export takes longer than those of three other decoders.
SHALLOW = {"unetplusplus": {"encoder_depth": 3, "decoder_channels": [32, 16, 8]}}


def smp(model: str, backbone: str, **options: Any) -> SegmentationNetwork:
    torch.manual_seed(0)
    config = {"_target_": MODELS[model], "encoder_name": f"tu-{backbone}", "encoder_weights": "none"}
    return build_model(config | options, spec()).eval()


def windows(count: int, height: int, width: int, dtype: torch.dtype = torch.uint8) -> tuple[Tensor, Tensor]:
    """Return images with an invalid corner and invalid single pixels, and with valid pixels that equal nodata."""
    generator = torch.Generator().manual_seed(1)
    image = torch.randint(0, 256, (count, 3, height, width), generator=generator).to(dtype)
    valid = torch.rand(count, height, width, generator=generator) > 0.05
    valid[:, :9, :7] = False
    image[..., 20:24, 20:30] = 0
    valid[..., 20:22, 20:30], valid[..., 22:24, 20:30] = True, False
    return image, valid


def assert_same_logits(
    engine: Engine, network: SegmentationNetwork, *shapes: tuple[int, int, int], dtype: torch.dtype
) -> None:
    for shape in shapes:
        image, valid = windows(*shape, dtype=dtype)
        given = image.clone()
        logits = engine(image, valid)
        with torch.no_grad():
            expected = network(image, valid)
        assert torch.equal(image, given)
        assert logits.dtype == torch.float32 and logits.shape == (shape[0], 4, *shape[1:])
        torch.testing.assert_close(logits, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


def open_with_cache(network: SegmentationNetwork, name: str, cache: Path, **options: Any) -> Engine:
    """Open an engine whose cache of graphs is `cache`, a folder named `engines`."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("SATSEG_CACHE", str(cache.parent))
        return open_engine(Path("run") / "model.safetensors", network, name, CPU, **options)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a cache for tests that do not inspect it."""
    return tmp_path_factory.mktemp("cache (1), ü=x") / "engines"


@pytest.fixture(autouse=True)
def forget_process_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clear temporary graphs and printed warnings that the module keeps for the process."""
    monkeypatch.setattr(cache_module, "_temporary", [])
    cache_module._own_folder.cache_clear()
    cache_module._warn_once.cache_clear()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.float32])
@pytest.mark.parametrize("name", ["torch", *GRAPHS])
def test_engines_compute_the_logits_of_the_network(name: str, dtype: torch.dtype, shared: Path) -> None:
    network = tiny()
    engine = open_with_cache(network, name, shared)
    assert (engine.name, engine.spec, engine.batch_size) == (name, network.spec, 1)
    assert_same_logits(engine, network, (1, 64, 96), (2, 75, 131), (3, 33, 47), dtype=dtype)


@pytest.mark.slow
@pytest.mark.parametrize("model", sorted(MODELS))
def test_every_decoder_runs_on_every_engine(model: str, tmp_path: Path) -> None:
    network = smp(model, "resnet18", **SHALLOW.get(model, {}))
    for name in GRAPHS:
        assert_same_logits(
            open_with_cache(network, name, tmp_path / "engines"), network, (1, 64, 96), (2, 75, 131), dtype=torch.uint8
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "backbone"),
    [("deeplabv3plus", "tf_efficientnet_lite0"), ("segformer", "pvt_v2_b0")],  # unet's padding: test_export.py
)
def test_backbones_that_are_hard_to_export_run_on_every_engine(model: str, backbone: str, tmp_path: Path) -> None:
    network = smp(model, backbone)
    for name in GRAPHS:
        assert_same_logits(
            open_with_cache(network, name, tmp_path / "engines"), network, (1, 64, 96), (2, 75, 131), dtype=torch.uint8
        )


def test_engines_respect_the_nodata_value_of_float_images(tmp_path: Path) -> None:
    network = tiny(dtype="float32", nodata=-9999.0)
    image, valid = windows(2, 40, 50, torch.float32)
    image[..., 30:34, :], image[:, 1, 36:38] = -9999.0, -9999.0
    for name in GRAPHS:
        logits = open_with_cache(network, name, tmp_path / "engines")(image, valid)
        with torch.no_grad():
            expected = network(image, valid)
        torch.testing.assert_close(logits, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


def test_a_graph_is_exported_again_for_another_temperature(tmp_path: Path) -> None:
    network = tiny()
    image, valid = windows(1, 64, 64)
    plain = open_with_cache(network, "onnx", tmp_path / "engines")(image, valid)
    network.temperature = 3.0
    torch.testing.assert_close(
        open_with_cache(network, "onnx", tmp_path / "engines")(image, valid), plain / 3, rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("name", SOME_SLOW)
def test_a_network_bound_to_one_input_size_is_exported_for_each_window_size(name: str, tmp_path: Path) -> None:
    network, cache = tiny(bound=True), tmp_path / "engines"
    engine = open_with_cache(network, name, cache, shape=(75, 131))
    assert_same_logits(engine, network, (2, 75, 131), dtype=torch.uint8)
    with pytest.raises(EngineError, match=r"windows of 131 x 75 pixels, but got 64 x 64.*engine=torch"):
        engine(*windows(1, 64, 64))
    other = open_with_cache(network, name, cache, shape=(50, 60))
    assert_same_logits(other, network, (1, 50, 60), dtype=torch.uint8)


@pytest.mark.parametrize("name", SOME_SLOW)
def test_a_truncated_graph_is_exported_again(name: str, tmp_path: Path) -> None:
    network, cache = tiny(), tmp_path / "engines"
    open_with_cache(network, name, cache)
    (path,) = cache.glob(f"{name}-*/model.{'onnx' if name == 'onnx' else 'bin'}")
    before = path.read_bytes()
    path.write_bytes(before[: len(before) // 2])
    assert_same_logits(open_with_cache(network, name, cache), network, (1, 40, 50), dtype=torch.uint8)
    assert path.read_bytes() == before


@pytest.mark.parametrize("damage", ["cut", "change", "remove", "add", "forget"])
def test_the_cache_never_returns_damaged_entries(damage: str, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "engines")

    def write(folder: Path) -> None:
        (folder / "a").write_bytes(b"0123")
        (folder / "b").write_bytes(b"4567")

    assert cache.find("entry") is None
    entry = cache.make("entry", write)
    assert cache.find("entry") == entry
    if damage == "cut":
        (entry / "a").write_bytes(b"01")
    elif damage == "change":
        (entry / "b").write_bytes(b"4568")
    elif damage == "remove":
        (entry / "a").unlink()
    elif damage == "add":
        (entry / "c").touch()
    else:
        (entry / "files.json").write_text('{"a": ')
    assert cache.find("entry") is None
    assert cache.make("entry", write) == cache.find("entry") == entry
    assert (entry / "a").read_bytes() == b"0123" and list(cache.folder.iterdir()) == [entry]


def test_a_failed_write_keeps_the_previous_entry_and_an_unwritable_cache_raises_an_error(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "engines")

    def fail(folder: Path) -> None:
        (folder / "a").touch()
        raise EngineError("no")

    entry = cache.make("entry", lambda folder: (folder / "a").touch())
    with pytest.raises(EngineError, match="no"):
        cache.make("entry", fail)
    assert cache.find("entry") == entry and list(cache.folder.iterdir()) == [entry]
    (tmp_path / "file").touch()
    with pytest.raises(ResourceError, match=r"file cannot be written"):
        Cache(tmp_path / "file").make("entry", fail)


def test_a_graph_is_reused_but_never_for_other_weights(tmp_path: Path) -> None:
    network, cache = tiny(), tmp_path / "engines"
    open_with_cache(network, "onnx", cache)
    (path,) = cache.glob("onnx-*/model.onnx")
    written = path.stat().st_mtime_ns
    open_with_cache(network, "onnx", cache)
    assert path.stat().st_mtime_ns == written
    other = tiny(seed=1)
    assert_same_logits(open_with_cache(other, "onnx", cache), other, (1, 40, 50), dtype=torch.uint8)
    assert_same_logits(open_with_cache(network, "onnx", cache), network, (1, 40, 50), dtype=torch.uint8)


def swap_graphs(cache: Path) -> None:
    """Exchange the graphs of two models together with their digests."""
    one, other = (path.parent for path in sorted(cache.glob("onnx-*/model.onnx")))
    one.rename(cache / "held")
    other.rename(one)
    (cache / "held").rename(other)


def test_a_cached_graph_of_another_model_is_exported_again(tmp_path: Path) -> None:
    networks, cache = (tiny(), tiny(seed=1)), tmp_path / "engines"
    for network in networks:
        open_with_cache(network, "onnx", cache)
    swap_graphs(cache)
    for network in networks:
        assert_same_logits(open_with_cache(network, "onnx", cache), network, (1, 40, 50), dtype=torch.uint8)


@pytest.mark.parametrize(
    "changed",
    [{"mean": (0.31, 0.3, 0.3)}, {"scale": 254.0}, {"nodata": 1.0}, {"seed": 1}, {"temperature": 2.0}],
    ids=lambda changed: next(iter(changed)),
)
def test_models_that_differ_in_one_value_have_separate_graphs(changed: dict[str, Any], tmp_path: Path) -> None:
    cache, temperature = tmp_path / "engines", changed.pop("temperature", 1.0)
    other = tiny(**changed)
    other.temperature = temperature
    digests = {model_digest(network) for network in (tiny(), other)}
    assert len(digests) == 2 and model_digest(tiny()) in digests
    for network in (tiny(), other):
        open_with_cache(network, "onnx", cache)
    assert len(list(cache.glob("onnx-*"))) == 2


def test_graphs_are_exported_again_for_another_version_of_an_exporter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, cache = tiny(), tmp_path / "engines"
    open_with_cache(network, "onnx", cache)
    monkeypatch.setattr(graphs, "package_version", lambda name: "99" if name == "torch" else package_version(name))
    open_with_cache(network, "onnx", cache)
    assert len(list(cache.glob("onnx-*"))) == 2


def test_only_the_user_has_access_to_the_cache(tmp_path: Path) -> None:
    network, cache = tiny(), tmp_path / "engines"
    open_with_cache(network, "onnx", cache)
    assert cache.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770])
def test_a_cache_writable_by_others_is_neither_read_nor_written(
    mode: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    networks, cache = (tiny(), tiny(seed=1)), tmp_path / "engines"
    for network in networks:
        open_with_cache(network, "onnx", cache)
    open_with_cache(networks[0], "auto", cache, shape=(64, 64))
    before = {path: path.stat().st_mtime_ns for path in cache.rglob("*")}
    cache.chmod(mode)
    for name in ("onnx", "auto"):
        assert_same_logits(
            open_with_cache(networks[0], name, cache, shape=(64, 64)), networks[0], (1, 40, 50), dtype=torch.uint8
        )
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*")} == before
    assert f"other users may write to {cache}" in caplog.text and "Set SATSEG_CACHE" in caplog.text
    monkeypatch.setenv("SATSEG_CACHE", str(tmp_path))
    with pytest.raises(ResourceError, match="other users may write"):
        keep_int8(networks[0], next(cache.glob("onnx-*/model.onnx")))


def test_a_cache_of_another_user_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    network, cache = tiny(), tmp_path / "engines"
    open_with_cache(network, "onnx", cache)
    before = [path.stat().st_mtime_ns for path in sorted(cache.rglob("*"))]
    owner = cache.stat().st_uid
    if owner == 0:
        os.chown(cache, 4711, -1)
    else:
        monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    assert_same_logits(open_with_cache(network, "onnx", cache), network, (1, 40, 50), dtype=torch.uint8)
    assert "belongs to another user" in caplog.text
    assert [path.stat().st_mtime_ns for path in sorted(cache.rglob("*"))] == before


def test_without_a_writable_cache_graphs_are_exported_for_the_process_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    network = tiny()
    for name in (*GRAPHS, "auto"):
        engine = open_with_cache(network, name, tmp_path / "file" / "engines", shape=(64, 64))
        assert_same_logits(engine, network, (1, 40, 50), dtype=torch.uint8)
    assert caplog.text.count("Exported graphs are not kept") == 1 and "Set SATSEG_CACHE" in caplog.text


def test_the_least_recently_used_entry_is_evicted_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(tmp_path / "engines")

    def write(folder: Path) -> None:
        (folder / "a").write_bytes(bytes(1000))

    for age, key in ((5, "used"), (4, "oldest"), (3, "newer")):
        cache.make(key, write)
        os.utime(cache.folder / key / "files.json", (time.time() - age * 3600,) * 2)
    assert cache.find("used")
    monkeypatch.setattr(
        "satseg.inference.engines.cache.MAX_BYTES", 4000
    )  # an entry with its digests takes about 1,100 bytes
    cache.make("latest", write)
    assert sorted(path.name for path in cache.folder.iterdir()) == ["latest", "newer", "used"]
    monkeypatch.setattr("satseg.inference.engines.cache.MAX_BYTES", 10)
    assert cache.find(cache.make("larger than all", write).name)


def test_concurrent_writers_of_one_entry_all_get_it(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "engines")
    gate = threading.Barrier(8)

    def write(folder: Path) -> None:
        gate.wait()
        (folder / "a").write_bytes(b"0123")

    with ThreadPoolExecutor(8) as pool:
        entries = list(pool.map(lambda _: cache.make("entry", write), range(8)))
    assert set(entries) == {cache.find("entry")} and len(list(cache.folder.iterdir())) == 1


def recorded_choices(cache: Path) -> list[dict[str, Any]]:
    return json.loads((cache / "engine.json").read_text())


def test_auto_measures_each_model_once(tmp_path: Path) -> None:
    network, cache = tiny(), tmp_path / "engines"
    engine = open_with_cache(network, "auto", cache, shape=(64, 64))
    (record,) = recorded_choices(cache)
    assert set(record["seconds"]) == {"torch", *GRAPHS} and not record["left_out"]
    assert engine.name == record["best"] == min(record["seconds"], key=record["seconds"].get)
    assert_same_logits(engine, network, (2, 75, 131), dtype=torch.uint8)
    for name in ("torch", *GRAPHS):  # the recorded choice is used without measuring
        (cache / "engine.json").write_text(json.dumps([record | {"best": name}]))
        assert open_with_cache(network, "auto", cache, shape=(64, 64)).name == name
    open_with_cache(tiny(seed=1), "auto", cache, shape=(64, 64))
    assert len(recorded_choices(cache)) == 2
    (cache / "engine.json").write_text(json.dumps([record | {"best": "torch"}]))
    assert open_with_cache(network, "auto", cache, shape=(32, 64)).name == "torch"  # valid for windows of any shape
    bound = tiny(bound=True)
    for shape in ((32, 64), (64, 64), (32, 64)):
        open_with_cache(bound, "auto", cache, shape=shape)
    assert [r["conditions"]["size"] for r in recorded_choices(cache)] == [[64, 64], [32, 64], None]
    (cache / "engine.json").write_text('[{"conditions"')
    assert open_with_cache(network, "auto", cache, shape=(64, 64)).name == recorded_choices(cache)[0]["best"]


class FakeEngine:
    batch_size = 1

    def __init__(self, name: str, seconds: float, wrong: int = 0) -> None:
        self.name, self.seconds, self.wrong, self.spec = name, seconds, wrong, spec()

    def __call__(self, image: Tensor, valid: Tensor) -> Tensor:
        time.sleep(self.seconds)
        logits = torch.zeros(1, 4, *image.shape[-2:])
        logits[:, 1] = 1
        logits[:, 2].view(-1)[: self.wrong] = 2
        return logits


@pytest.mark.parametrize(("wrong", "best"), [(0, "onnx"), (262, "onnx"), (263, "openvino")])  # of 512 x 512
def test_the_fastest_engine_must_agree_with_torch_on_999_of_1000_pixels(wrong: int, best: str) -> None:
    engines = {
        f.name: f for f in (FakeEngine("torch", 0.2), FakeEngine("onnx", 0.0, wrong), FakeEngine("openvino", 0.1))
    }
    engine, found = fastest(list(engines), engines.__getitem__, (100, 100))
    assert engine.name == found.best == best
    assert ("onnx" in found.left_out) == (best != "onnx")


def test_auto_skips_engines_that_are_not_installed_or_cannot_export_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NotExportable(Tiny):
        def forward(self, image: Tensor) -> Tensor:
            return super().forward(image) * float(image.numpy().any())  # which no exporter supports

    network = SegmentationNetwork(NotExportable(), spec(), {"_target_": "tests.NotExportable"}).eval()
    caches = [tmp_path / name / "engines" for name in "abc"]
    assert open_with_cache(network, "auto", caches[0], shape=(64, 64)).name == "torch"
    assert set(recorded_choices(caches[0])[0]["left_out"]) == set(GRAPHS)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    open_with_cache(tiny(), "auto", caches[1], shape=(64, 64))
    assert set(recorded_choices(caches[1])[0]["seconds"]) == {"torch", "openvino"}
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert open_with_cache(tiny(), "auto", caches[2]).name == "torch" and not caches[2].exists()


@pytest.mark.parametrize(("name", "package", "extra"), [("onnx", "onnxruntime", "onnx"), ("openvino",) * 3])
def test_an_engine_that_is_not_installed_raises_an_error_that_names_the_extra(
    name: str, package: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackageError, match=rf"{package}.*pip install 'satseg\[{extra}\]'"):
        open_with_cache(tiny(), name, tmp_path / "engines")


def test_unknown_engines_and_unsupported_devices_raise_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="engine=banana: choose auto, torch, onnx"):
        open_with_cache(tiny(), "banana", tmp_path)
    with pytest.raises(EngineError, match="engine=onnx runs on the CPU"):
        open_engine(tmp_path, tiny(), "onnx", torch.device("meta"))


def test_the_int8_engine_uses_the_cached_graph_or_names_the_export_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, cache = tiny(), tmp_path / "engines"
    monkeypatch.setenv("SATSEG_CACHE", str(tmp_path))
    with pytest.raises(EngineError, match=r"satseg\.export checkpoint=.*model\.safetensors format=openvino int8=true"):
        open_with_cache(network, "openvino_int8", cache)
    open_with_cache(network, "openvino", cache)
    (exported,) = cache.glob("openvino-*/model.xml")
    keep_int8(network, exported)  # stands in for a quantised graph
    engine = open_with_cache(network, "openvino_int8", cache)
    assert engine.name == "openvino_int8"
    assert_same_logits(engine, network, (2, 75, 131), dtype=torch.uint8)
    with pytest.raises(EngineError, match="there is no quantised model"):
        open_with_cache(tiny(seed=1), "openvino_int8", cache)


@pytest.mark.gpu
def test_on_a_gpu_logits_stay_on_the_device_and_classes_equal_those_of_float32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SATSEG_CACHE", str(tmp_path))
    network = smp("unet", "resnet18")
    image, valid = windows(8, 75, 131)
    with torch.no_grad():
        expected = network(image, valid)
    engine = open_engine(tmp_path, network, "auto", torch.device("cuda"))
    logits = engine(image, valid)
    assert engine.name == "torch" and engine.batch_size > 1
    assert logits.device.type == "cuda" and logits.dtype == torch.float32
    first, second = expected.topk(2, 1).values.unbind(1)
    clear = first - second > 0.05 * expected.abs().max()
    assert (logits.argmax(1).cpu() == expected.argmax(1))[clear].float().mean() > 0.999
