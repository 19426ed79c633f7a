"""Export: agreement with PyTorch in every runtime, use without satseg, and errors."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from commands import TINY, command, error_line
from omegaconf import OmegaConf
from torch import Tensor, nn

from satseg.errors import ConfigError, ExportError, FixedSizeError, MissingPackageError, ResourceError
from satseg.models import SegmentationNetwork, build_model
from satseg.models.catalogue import MODELS
from satseg.models.checkpoint import load_model, save_model
from satseg.runtimes import Request, Source, export_model
from satseg.runtimes.agreement import random_images
from satseg.runtimes.graph import ImageToLogits
from satseg.runtimes.packages import load_package
from satseg.runtimes.upsampling import FusedBlock
from satseg.spec import BandStatistics, DatasetSpec, InputSpec

NAMES = ("water", "forest", "road", "roof")
STARTING = "satseg export: starting (loading PyTorch takes some seconds)"
# The examples in docs/export.md, which do not use satseg.
SNIPPETS = {
    "onnx": """\
import json

import numpy as np
import onnxruntime
import rasterio

session = onnxruntime.InferenceSession("models/segmentation_model.onnx")
image = rasterio.open("scene.tif").read().astype(np.float32)[None]  # raw pixel values, NaN for nodata
logits = session.run(["logits"], {"image": image})[0]  # (1, classes, height, width)
class_names = json.loads(session.get_modelmeta().custom_metadata_map["satseg"])["class_names"]
""",
    "openvino": """\
import json

import numpy as np
import openvino
import rasterio

model = openvino.Core().read_model("models/segmentation_model.xml")
compiled = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
image = rasterio.open("scene.tif").read().astype(np.float32)[None]
logits = compiled({"image": image})["logits"]
class_names = json.loads(model.get_rt_info("satseg").value)["class_names"]
""",
    "torchscript": """\
import json

import numpy as np
import rasterio
import torch

described = {"satseg": ""}
model = torch.jit.load("models/segmentation_model.ts", _extra_files=described)
image = rasterio.open("scene.tif").read().astype(np.float32)[None]
with torch.no_grad():
    logits = model(torch.from_numpy(image))
class_names = json.loads(described["satseg"])["class_names"]
""",
    "pth": """\
import numpy as np
import rasterio
import segmentation_models_pytorch as smp
import torch

saved = torch.load("models/segmentation_model.pth", weights_only=True)
model = smp.Unet(**saved["options"]).eval()  # the class is saved["class"]
model.load_state_dict(saved["state_dict"])
image = torch.from_numpy(rasterio.open("scene.tif").read().astype(np.float32)[None])
with torch.no_grad():  # normalise yourself; height and width must be multiples of saved["stride"]
    logits = model((image - saved["shift"]) / saved["divisor"])
class_names = saved["class_names"]
""",
    "safetensors": """\
import json

import numpy as np
import rasterio
import segmentation_models_pytorch as smp
import torch
from safetensors import safe_open

with safe_open("models/segmentation_model.safetensors", "pt") as file:
    described = json.loads(file.metadata()["satseg"])
    weights = {name.removeprefix("net."): file.get_tensor(name) for name in file.keys()}
options = {key: value for key, value in described["model"].items() if key != "_target_"}
model = smp.Unet(**options).eval()
model.load_state_dict(weights)
numbers = described["spec"]["inputs"][0]
mean, std = (torch.tensor(numbers[key]).view(-1, 1, 1) for key in ("mean", "std"))
image = torch.from_numpy(rasterio.open("scene.tif").read().astype(np.float32)[None])
with torch.no_grad():
    logits = model(((image - numbers["offset"]) / numbers["scale"] - mean) / std)
class_names = described["spec"]["class_names"]
""",
}
SUFFIXES = {"onnx": "onnx", "openvino": "xml", "torchscript": "ts", "pth": "pth", "safetensors": "safetensors"}


def spec() -> DatasetSpec:
    low, high = (0.0, 10.0, 5.0), (3000.0, 4000.0, 5000.0)
    statistics = BandStatistics(low, high, (1500.0,) * 3, (500.0,) * 3, low, high)
    source = InputSpec(
        ("red", "green", "blue"),
        "uint16",
        4000.0,
        nodata=0.0,
        mean=(0.4, 0.3, 0.3),
        std=(0.2, 0.2, 0.3),
        statistics=statistics,
    )
    return DatasetSpec((source,), NAMES, tuple((i, i, i) for i in range(4)))


class Tiny(nn.Module):
    """A network that is exported within a second."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(image)


class Bound(Tiny):
    """A network whose exported graph is valid for one image size only."""

    def forward(self, image: Tensor) -> Tensor:
        return self.head(image) * float(1 + int(image.shape[-1]) // 32)


def tiny(net: nn.Module, folder: Path) -> Source:
    network = SegmentationNetwork(net, spec(), {"_target_": f"tests.{type(net).__name__}"}).eval()
    return Source(network, folder / "model.safetensors")


def saved(folder: Path, model: str, backbone: str) -> Source:
    torch.manual_seed(0)
    config = {"_target_": MODELS[model], "encoder_name": f"tu-{backbone}", "encoder_weights": "none"}
    save_model(folder / "model.safetensors", build_model(config, spec()), training={}, protocol={})
    return Source(load_model(folder / "model.safetensors"), folder / "model.safetensors")


@pytest.fixture(scope="module")
def unet(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return saved(tmp_path_factory.mktemp("unet (1), ü"), "unet", "mobilenetv4_conv_small")


def request(name: str, output: Path | str, **options: Any) -> Request:
    options = {"format": name, "output": str(output), "size": None, "int8": False} | options
    return Request.from_config(OmegaConf.create(options))


def scene(folder: Path, height: int, width: int) -> np.ndarray:
    image = np.random.default_rng(0).integers(1, 4000, (3, height, width)).astype(np.uint16)
    profile = {"driver": "GTiff", "count": 3, "height": height, "width": width, "dtype": "uint16"}
    profile |= {"crs": "EPSG:32633", "transform": rasterio.Affine(10, 0, 5e5, 0, -10, 5e6)}
    with rasterio.open(folder / "scene.tif", "w", **profile) as file:
        file.write(image)
    return image


def run_without_satseg(code: str, folder: Path) -> tuple[np.ndarray, list[str]]:
    """Run a snippet in a process that cannot import satseg; return its logits and class names."""
    code = (
        f"import sys\nsys.modules['satseg'] = None\n{code}\nnp.savez('result.npz', logits=logits, names=class_names)\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {
        "ORT_DISABLE_TELEMETRY": "1",
        "CI": "true",
    }
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result = np.load(folder / "result.npz")
    return result["logits"], result["names"].tolist()


@pytest.mark.parametrize(
    "name", ["onnx", "torchscript", "pth", "safetensors", pytest.param("openvino", marks=pytest.mark.slow)]
)
def test_exported_files_work_without_satseg_as_documented(name: str, unet: Source, tmp_path: Path) -> None:
    export_model(unet, request(name, tmp_path / "models" / "segmentation_model"))
    expected_files = {f"segmentation_model.{SUFFIXES[name]}"} | (
        {"segmentation_model.bin"} if name == "openvino" else set()
    )
    assert {p.name for p in (tmp_path / "models").iterdir()} == expected_files
    size = (64, 96) if name in ("pth", "safetensors") else (75, 131)
    image = scene(tmp_path, *size)
    logits, names = run_without_satseg(SNIPPETS[name], tmp_path)
    with torch.no_grad():
        expected = unet.network(torch.from_numpy(image.astype(np.float32))[None]).numpy()
    assert names == list(NAMES)
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("name", SNIPPETS)
def test_the_documentation_contains_the_tested_examples(name: str, root_dir: Path) -> None:
    assert SNIPPETS[name] in (root_dir / "docs/export.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["onnx", "torchscript", "openvino"])
def test_graphs_treat_nan_and_nodata_as_invalid_and_contain_the_full_description(name: str, tmp_path: Path) -> None:
    source = tiny(Tiny(), tmp_path)
    path = tmp_path / f"model.{SUFFIXES[name]}"
    assert export_model(source, request(name, path)) < 1e-4
    run, described = OPENERS[name](path)
    assert DatasetSpec.from_dict(described["spec"]) == source.network.spec
    assert described["class_names"] == list(NAMES) and described["size"] is None and described["version"]
    image = torch.rand(2, 3, 50, 37) * 4000
    invalid = torch.zeros(2, 50, 37, dtype=torch.bool)
    invalid[:, 5:9, 4:20] = True
    nan, nodata = image.clone(), image.clone()
    nan[:, 1][invalid] = torch.nan
    nodata.movedim(1, -1)[invalid] = 0.0
    with torch.no_grad():
        expected = source.network(image, ~invalid)
    for given in (nan, nodata):
        torch.testing.assert_close(run(given), expected, rtol=1e-4, atol=1e-4)


def open_with_onnx(path: Path) -> tuple[Any, dict[str, Any]]:
    session = load_package("onnxruntime").InferenceSession(str(path))
    described = json.loads(session.get_modelmeta().custom_metadata_map["satseg"])
    return lambda image: torch.from_numpy(session.run(None, {"image": image.numpy()})[0]), described


def open_with_openvino(path: Path) -> tuple[Any, dict[str, Any]]:
    openvino = load_package("openvino")
    compiled = openvino.compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    described = json.loads(openvino.Core().read_model(str(path)).get_rt_info("satseg").value)
    return lambda image: torch.from_numpy(compiled({"image": image.numpy()})["logits"]), described


def open_with_torch(path: Path) -> tuple[Any, dict[str, Any]]:
    extra = {"satseg": ""}
    return torch.jit.load(str(path), _extra_files=extra), json.loads(extra["satseg"])


OPENERS = {"onnx": open_with_onnx, "openvino": open_with_openvino, "torchscript": open_with_torch}


def test_the_safetensors_export_equals_the_model_file(unet: Source, tmp_path: Path) -> None:
    export_model(unet, request("safetensors", tmp_path / "copy"))
    assert (tmp_path / "copy.safetensors").read_bytes() == unet.checkpoint.read_bytes()


def test_exported_files_contain_no_local_paths(tmp_path: Path, root_dir: Path) -> None:
    for name in ("onnx", "openvino"):
        export_model(tiny(Tiny(), tmp_path), request(name, tmp_path / "out" / "model"))
    for file in (tmp_path / "out").iterdir():
        content = file.read_bytes()
        assert not any(str(folder).encode() in content for folder in (root_dir, tmp_path, sys.prefix))


@pytest.mark.slow
def test_no_runtime_sends_telemetry(tmp_path: Path, root_dir: Path) -> None:
    """By default ONNX Runtime writes a device id to the home folder, and OpenVINO and NNCF open sockets."""
    code = """
import sys, time
used = []
sys.addaudithook(lambda event, args: used.append(event) if event.startswith("socket.") else None)
from satseg.runtimes.packages import load_package
from satseg.runtimes.upsampling import FusedBlock
for name in ("onnxruntime", "openvino", "nncf"):
    load_package(name)
time.sleep(1)
assert not used, used
"""
    unset = {"CI", "TF_BUILD", "JENKINS_URL", "ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME"}
    environment = {key: value for key, value in os.environ.items() if key not in unset}
    environment |= {"HOME": str(tmp_path / "home"), "PYTHONPATH": str(root_dir)}
    (tmp_path / "home").mkdir()
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    left = [p for p in (tmp_path / "home").rglob("*") if "onnxruntime" in p.name or "intel" in p.name.lower()]
    assert not left


def test_weights_beyond_2_gb_are_stored_beside_the_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("satseg.runtimes.onnx_files.LARGEST_FILE_BYTES", 0)
    source = tiny(Tiny(), tmp_path)
    export_model(source, request("onnx", tmp_path / "out" / "model"))
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["model.onnx", "model.onnx.data"]
    run, _ = open_with_onnx(tmp_path / "out" / "model.onnx")
    image = torch.rand(1, 3, 40, 50) * 4000
    with torch.no_grad():
        torch.testing.assert_close(run(image), source.network(image), rtol=1e-4, atol=1e-4)
    export_model(source, request("openvino", tmp_path / "ir" / "model"))
    assert sorted(p.name for p in (tmp_path / "ir").iterdir()) == ["model.bin", "model.xml"]


@pytest.mark.parametrize("name", ["onnx", "torchscript", pytest.param("openvino", marks=pytest.mark.slow)])
def test_a_network_bound_to_one_size_needs_the_size_option(name: str, tmp_path: Path) -> None:
    source, output = tiny(Bound(), tmp_path), tmp_path / "out" / "model"
    with pytest.raises(FixedSizeError, match=r"Bound on None can.*one size.*size='\[512,512\]'"):
        export_model(source, request(name, output))
    assert not list((tmp_path / "out").iterdir())
    export_model(source, request(name, output, size=[40, 70]))
    run, described = OPENERS[name](output.with_suffix(f".{SUFFIXES[name]}"))
    image = torch.rand(3, 3, 40, 70) * 4000
    with torch.no_grad():
        torch.testing.assert_close(run(image), source.network(image), rtol=1e-3, atol=1e-3)
    assert described["size"] == [40, 70]


@pytest.mark.parametrize(("cells", "size"), [(2, (7, 10)), (3, (7, 10)), ((6, 4), (5, 3)), (6, (32, 19))])
def test_replaced_adaptive_pooling_is_exact(
    cells: int | tuple[int, int], size: tuple[int, int], tmp_path: Path
) -> None:
    pool = nn.AdaptiveAvgPool2d(cells)
    network = SegmentationNetwork(nn.Sequential(pool), spec(), {"_target_": "tests.Pool"})
    (swapped,) = ImageToLogits(network).net.children()
    image = torch.rand(2, 3, *size)
    assert type(swapped) is not type(pool)
    torch.testing.assert_close(swapped(image), pool(image))


@pytest.mark.parametrize(
    ("options", "fused"),
    [
        ({"encoder_name": "resnet18"}, 5),
        ({"encoder_name": "tu-convnextv2_atto"}, 5),  # has no features at half the size
        ({"encoder_name": "vgg11_bn", "encoder_depth": 3, "decoder_channels": [16, 8, 8]}, 3),
        ({"encoder_name": "tu-resnet18", "output_stride": 16}, 0),  # its first block does not upsample
        ({"encoder_name": "resnet18", "decoder_attention_type": "scse"}, 0),
        ({"encoder_name": "resnet18", "decoder_interpolation": "bilinear"}, 0),
        ({"encoder_name": "resnet18", "decoder_use_norm": False}, 0),
    ],
)
def test_fused_upsampling_is_exact(options: dict[str, Any], fused: int) -> None:
    torch.manual_seed(0)
    network = build_model({"_target_": MODELS["unet"], "encoder_weights": None, **options}, spec()).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for statistic in (module.running_mean, module.running_var, module.weight, module.bias):
                statistic.data.uniform_(0.5, 1.5)
    graph = ImageToLogits(network, fuse=True)
    assert sum(isinstance(module, FusedBlock) for module in graph.modules()) == fused
    image = random_images(spec().inputs[0], (2, 75, 131))
    with torch.no_grad():
        torch.testing.assert_close(graph(image), network(image), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "name", "sizes"),
    [
        *((model, "torchscript", [None, [75, 131]]) for model in sorted(MODELS)),
        *(
            (model, "onnx", [[75, 131]]) for model in ("pspnet", "unet", "upernet")
        ),  # two of them have adaptive pooling, which depends on the size
    ],
)
def test_every_decoder_can_be_exported(model: str, name: str, sizes: list[Any], tmp_path: Path) -> None:
    """Exports of every decoder to ONNX and OpenVINO for any size are tested with the engines."""
    source = saved(tmp_path, model, "resnet18")
    for size in sizes:
        assert export_model(source, request(name, tmp_path / "model", size=size)) < 1e-4


@pytest.mark.slow
def test_padding_that_depends_on_the_input_can_be_exported(tmp_path: Path) -> None:
    source = saved(tmp_path, "unet", "tf_efficientnet_lite0")
    before = {k: v.clone() for k, v in source.network.state_dict().items()}
    for name in ("onnx", "torchscript"):
        assert export_model(source, request(name, tmp_path / "model")) < 1e-4
    assert all(torch.equal(v, before[k]) for k, v in source.network.state_dict().items())


@pytest.mark.parametrize("name", ["onnx", "torchscript"])
def test_an_export_that_disagrees_with_pytorch_is_discarded_and_keeps_the_previous_file(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class ChangesOnExport(Tiny):
        """A network that computes something else while it is exported."""

        def forward(self, image: Tensor) -> Tensor:
            exporting = torch.compiler.is_compiling() or torch.jit.is_tracing()
            return self.head(image) * (1.01 if exporting else 1.0)

    path = tmp_path / f"model.{SUFFIXES[name]}"
    path.write_text("older")
    with pytest.raises(ExportError, match=r"does not agree with PyTorch: logits differ by up to 0\.0"):
        export_model(tiny(ChangesOnExport(), tmp_path), request(name, path))
    assert path.read_text() == "older" and [p.name for p in tmp_path.iterdir()] == [path.name]


def test_an_interrupt_between_two_files_never_leaves_a_graph_with_weights_of_another_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = Path.replace

    def stopped(self: Path, target: Path) -> Path:
        if target.suffix == ".xml":
            raise KeyboardInterrupt
        return replace(self, target)

    export_model(tiny(Tiny(), tmp_path), request("openvino", tmp_path / "out" / "model"))
    older = (tmp_path / "out" / "model.bin").read_bytes()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "replace", stopped)
        export_model(tiny(Tiny(), tmp_path), request("openvino", tmp_path / "out" / "model"))
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["model.bin"]
    assert (tmp_path / "out" / "model.bin").read_bytes() != older
    export_model(tiny(Tiny(), tmp_path), request("openvino", tmp_path / "out" / "model"))
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["model.bin", "model.xml"]


def test_a_network_that_cannot_be_exported_gives_an_error_of_one_line(tmp_path: Path) -> None:
    class NotExportable(Tiny):
        def forward(self, image: Tensor) -> Tensor:
            return self.head(image) * float(image.numpy().any())

    with pytest.raises(ExportError, match=r"NotExportable on None cannot be exported to ONNX \(\w+: "):
        export_model(tiny(NotExportable(), tmp_path), request("onnx", tmp_path / "model", size=[64, 64]))
    assert not list(tmp_path.iterdir())


def test_an_unwritable_folder_raises_an_error_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ResourceError, match=r"file/model\.ts cannot be written"):
        export_model(tiny(Tiny(), tmp_path), request("torchscript", tmp_path / "file" / "model"))


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [("onnx", "onnxscript", "onnx"), ("onnx", "onnxruntime", "onnx"), ("openvino", "openvino", "openvino")],
)
def test_a_missing_package_raises_an_error_that_names_the_extra(
    name: str, package: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackageError, match=rf"{package}.*pip install 'satseg\[{extra}\]'"):
        export_model(tiny(Tiny(), tmp_path), request(name, tmp_path / "model"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "output", "options", "expected"),
    [
        ("banana", "model", {}, "format=banana: choose onnx, torchscript, openvino, safetensors, pth"),
        ("onnx", "model.pth", {}, r"output=model\.pth: a file of format=onnx has the suffix \.onnx"),
        ("torchscript", "model.onnx", {}, r"has the suffix \.ts or \.pt"),
        ("onnx", "model", {"size": [512]}, r"size=\[512\]: expected '\[height,width\]'"),
        ("onnx", "model", {"size": 512}, "size=512: expected"),
        ("onnx", "model", {"size": [512.0, 512]}, "expected"),
        ("onnx", "model", {"size": [16, 512]}, "at least 32"),
        ("pth", "model", {"size": [512, 512]}, "size= has no effect for format=pth"),
        ("onnx", "model", {"int8": True}, "int8=true needs format=openvino"),
        ("openvino", "model", {"int8": True, "size": [64, 64]}, "int8=true does not support size="),
    ],
)
def test_invalid_options_raise_an_error(name: str, output: str, options: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        request(name, output, **options)


@pytest.mark.parametrize(
    ("name", "output", "expected"),
    [
        ("onnx", "model", "model.onnx"),
        ("onnx", "model_v1.2", "model_v1.2.onnx"),
        ("torchscript", "model.pt", "model.pt"),
        ("torchscript", "model", "model.ts"),
        ("openvino", "models/", "models/segmentation_model.xml"),
    ],
)
def test_a_missing_suffix_is_added(name: str, output: str, expected: str) -> None:
    assert request(name, output).output == Path(expected)


@pytest.mark.parametrize("name", ["torchscript", pytest.param("onnx", marks=pytest.mark.slow)])
def test_the_command_exports_silently(name: str, unet: Source) -> None:
    folder, output = unet.checkpoint.parent, f"{name} (1)/m"
    done = command("export", f"checkpoint={unet.checkpoint}", f"format={name}", f"output={output}", cwd=folder)
    assert done.returncode == 0 and done.stderr.splitlines() == [STARTING], done.stderr
    (path,) = (folder / f"{name} (1)").iterdir()
    assert path.name == f"m.{SUFFIXES[name]}" and path.name in done.stdout and len(done.stdout.splitlines()) == 1
    graph, described = OPENERS[name](path)
    image = torch.randint(0, 4000, (1, 3, 75, 131)).float()
    with torch.no_grad():
        torch.testing.assert_close(graph(image), unet.network(image), rtol=1e-3, atol=1e-3)
    assert DatasetSpec.from_dict(described["spec"]) == unet.network.spec


def test_the_command_gives_an_error_of_one_line(unet: Source) -> None:
    options = [f"checkpoint={unet.checkpoint}", "output=m", "format=banana"]
    assert "format=banana" in error_line("export", *options, cwd=unet.checkpoint.parent)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export (1), ü=x")
    done = command("train", *TINY, "run_dir=run", "trainer=debug", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "run"


@pytest.mark.slow
def test_the_int8_export_reports_its_loss_of_miou_and_works_as_an_engine(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["format=openvino", "int8=true", "calibration_images=3"]
    done = command("export", f"checkpoint={run}", *options, cwd=run.parent)
    assert done.returncode == 0 and done.stderr.splitlines() == [STARTING], done.stderr
    assert len(done.stdout.splitlines()) == 1
    folder = run / "exported"
    assert sorted(p.name for p in folder.iterdir()) == [f"segmentation_model.{s}" for s in ("bin", "json", "xml")]
    found = json.loads((folder / "segmentation_model.json").read_text())
    done = command("evaluate", f"checkpoint={run}", "split=val", "output=scores", cwd=run.parent)
    assert done.returncode == 0, done.stderr
    scores = json.loads((run.parent / "scores" / "scores.json").read_text())["scores"]
    assert found["miou"]["fp32"] == pytest.approx(scores["miou"], abs=1e-3)
    assert found["loss_of_miou"] == pytest.approx(found["miou"]["fp32"] - found["miou"]["int8"])
    assert found["split"] == "val" and found["calibration_images"] == 3
    graph, described = open_with_openvino(folder / "segmentation_model.xml")
    assert described["class_names"] == list(load_model(run).spec.class_names)
    assert b"FakeQuantize" in (folder / "segmentation_model.xml").read_bytes()
    assert (folder / "segmentation_model.bin").stat().st_size < 0.5 * (run / "model.safetensors").stat().st_size

    from satseg.inference.engines import open_engine

    network = load_model(run)
    monkeypatch.setenv("SATSEG_CACHE", str(run.parent / "cache"))
    engine = open_engine(run / "model.safetensors", network, "openvino_int8", torch.device("cpu"))
    with rasterio.open(next(run.parent.rglob("val/images/*.tif"))) as file:
        image = torch.from_numpy(file.read())[None, :, :96]
    valid = (image != network.spec.inputs[0].nodata).any(1)
    valid[:, 10:50, 20:60] = False
    logits = engine(image, valid)
    marked = image.float().where(valid[:, None], torch.nan)
    torch.testing.assert_close(logits, graph(marked), rtol=1e-4, atol=1e-4)
    other = torch.where(valid[:, None], image, 255 - image)
    assert torch.equal(engine(other, valid), logits)  # invalid pixels have no effect
    larger = engine(image.repeat(1, 1, 2, 3), valid.repeat(1, 2, 3))  # after a smaller one
    assert larger.shape[-2:] == (192, 384) and larger.isfinite().all()
    with torch.no_grad():
        exact = network(image, valid)
    assert torch.corrcoef(torch.stack([logits.flatten(), exact.flatten()]))[0, 1] > 0.9
