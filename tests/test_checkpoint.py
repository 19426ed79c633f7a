"""Model files and checkpoints: exact loading, corrupt and hostile files, and W&B references."""

import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from satseg.errors import CheckpointError, DivergedError, RunError
from satseg.models import SegmentationNetwork, build_model
from satseg.models.catalogue import MODELS
from satseg.models.checkpoint import fetch_checkpoint, load_model, read_document, save_model
from satseg.spec import BandStatistics, DatasetSpec, InputSpec

STATISTICS = BandStatistics(*(((1.0, 2.0, 3.0),) * 6))
SPEC = DatasetSpec(
    (InputSpec(("r", "g", "b"), "uint8", 255.0, nodata=0.0, gsd_m=0.5, statistics=STATISTICS),),
    ("land", "water"),
    ((1, 2, 3), (4, 5, 6)),
)
CONFIG = {
    "_target_": MODELS["unet"],
    "encoder_name": "tu-test_efficientnet",
    "encoder_weights": "none",
    "decoder_channels": [16, 16, 8, 8, 8],
}


@pytest.fixture(scope="module")
def network() -> SegmentationNetwork:
    torch.manual_seed(0)
    return build_model(CONFIG, SPEC).eval()


@pytest.fixture
def file(network: SegmentationNetwork, tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_model(path, network, training={"epoch": 3}, protocol={"miou": "macro"})
    return path


def test_a_loaded_model_has_the_same_weights_spec_and_output(network: SegmentationNetwork, file: Path) -> None:
    loaded = load_model(file)
    assert loaded.spec == network.spec and loaded.config == network.config and not loaded.training
    assert loaded.spec.inputs[0].mean == (0.485, 0.456, 0.406)
    image = torch.randint(0, 255, (1, 3, 50, 70), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(loaded(image), network(image))
    assert load_model(file.parent).spec == network.spec  # a run folder
    document = read_document(file)
    assert document.training == {"epoch": 3} and document.metric_protocol == {"miou": "macro"}
    assert str(document.versions["torch"]).split("+")[0] == torch.__version__.split("+")[0]


def test_equal_input_gives_equal_bytes(network: SegmentationNetwork, file: Path, tmp_path: Path) -> None:
    save_model(tmp_path / "again.safetensors", network, training={"epoch": 3}, protocol={"miou": "macro"})
    assert (tmp_path / "again.safetensors").read_bytes() == file.read_bytes()


def document_of(file: Path) -> dict[str, Any]:
    with safe_open(file, framework="pt") as opened:
        document: dict[str, Any] = json.loads(opened.metadata()["satseg"])
    return document


def rewrite(file: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    document = document_of(file)
    changed = change(document)
    document = document if changed is None else changed
    state = load_file(file)
    save_file(state, file, {"satseg": json.dumps(document)})
    return file


def set_model(**options: Any) -> Callable[[dict[str, Any]], None]:
    return lambda document: document["model"].update(options)


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "torch.load",
        "torch.hub.load",
        "segmentation_models_pytorch.base.model.torch.load",
        "segmentation_models_pytorch.decoders.unet.model.UnetDecoder",
        "segmentation_models_pytorch.Unet",
        "satseg.models.catalogue.importlib.import_module",
        "",
    ],
)
def test_a_target_outside_the_allowlist_raises_an_error(file: Path, target: str) -> None:
    with pytest.raises(CheckpointError, match="not allowed"):
        load_model(rewrite(file, set_model(_target_=target)))


def test_names_reachable_through_a_trusted_module_are_not_trusted(file: Path) -> None:
    name = "segmentation_models_pytorch.base.model.torch"
    with pytest.raises(CheckpointError, match=r"cannot be imported|no class of that module"):
        load_model(rewrite(file, set_model(_target_=f"{name}.load")), trusted_modules=[name])


@pytest.mark.parametrize(
    "options",
    [
        {"decoder_use_norm": {"_target_": "os.system", "command": "true"}},
        {"decoder_channels": [{"deep": {"_target_": "torch.load"}}]},
        {"checkpoint_path": "/etc/passwd"},
        {"pretrained_cfg_overlay": {"file": "weights.bin"}},
        {"pretrained": True},
        {"encoder_name": "tu-hf-hub:someone/model"},
        {"encoder_name": "tu-local-dir:/tmp"},
        {"_partial_": True},
    ],
)
def test_options_that_read_files_or_build_objects_raise_an_error_at_any_depth(
    file: Path, options: dict[str, Any]
) -> None:
    with pytest.raises(CheckpointError, match=r"not allowed in a file|not a plain timm name"):
        load_model(rewrite(file, set_model(**options)))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"encoder_name": 5}, "option encoder_name is 5: expected the name of a timm model"),
        ({"encoder_name": None}, "option encoder_name is null: expected the name of a timm model"),
        ({"encoder_name": ["a"]}, "option encoder_name is ['a']: expected the name of a timm model"),
        ({"decoder_channels": [[1]]}, "option decoder_channels is [[1]]; expected a list, each a number"),
        ({"decoder_channels": "x"}, "option decoder_channels is x; expected a list, each a number"),
        ({"decoder_attention_type": 5}, "option decoder_attention_type is 5; expected a string or null"),
    ],
)
def test_an_option_of_a_wrong_type_raises_an_error_with_the_expected_type(
    file: Path, options: dict[str, Any], expected: str
) -> None:
    with pytest.raises(CheckpointError) as refused:
        load_model(rewrite(file, set_model(**options)))
    assert expected in str(refused.value) and "Error:" not in str(refused.value)


def test_weights_are_never_downloaded_on_loading(file: Path) -> None:
    assert load_model(rewrite(file, set_model(encoder_weights="imagenet"))).config["encoder_weights"] is None


@pytest.mark.parametrize("text", ["${oc.env:HOME}", "a ${x} b"])
def test_an_interpolation_raises_an_error(file: Path, text: str) -> None:
    with pytest.raises(CheckpointError, match="interpolation"):
        load_model(rewrite(file, lambda d: d["training"].update({"note": [text]})))


def test_another_format_version_raises_an_error(file: Path) -> None:
    with pytest.raises(CheckpointError, match="format version 2"):
        load_model(rewrite(file, lambda d: d | {"format_version": 2}))


@pytest.mark.parametrize(
    "change",
    [
        lambda d: [],
        lambda d: {"format_version": 1},
        lambda d: d.update(spec={"inputs": 3}),
        lambda d: d.update(model="abc"),
        lambda d: d.update(model=["abc"]),
        lambda d: d.update(format_version=True),
    ],
)
def test_a_document_without_a_model_raises_an_error(file: Path, change: Any) -> None:
    with pytest.raises(CheckpointError):
        load_model(rewrite(file, change))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00",
        struct.pack("<Q", 2**60) + b"{}",
        struct.pack("<Q", 100 * 2**20) + b"{" + b" " * 2**20,
        struct.pack("<Q", 5) + b"{{{{{",
        struct.pack("<Q", 100_000) + b"[" * 100_000,
        struct.pack("<Q", 2) + b"{}",
    ],
)
def test_a_corrupt_or_oversized_header_raises_an_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=str(path)):
        load_model(path)


def test_truncated_missing_and_wrongly_shaped_tensors_raise_an_error(file: Path, tmp_path: Path) -> None:
    truncated = tmp_path / "truncated.safetensors"
    truncated.write_bytes(file.read_bytes()[:-1000])
    state, metadata = load_file(file), {"satseg": json.dumps(document_of(file))}
    name = next(iter(state))
    save_file({k: v for k, v in state.items() if k != name}, tmp_path / "missing.safetensors", metadata)
    save_file(state | {name: torch.zeros(1)}, tmp_path / "shape.safetensors", metadata)
    for path in ("truncated", "missing", "shape"):
        with pytest.raises(CheckpointError, match=path):
            load_model(tmp_path / f"{path}.safetensors")


@pytest.mark.parametrize("weights", [[], {3: torch.zeros(1)}, {"network.a": "text"}])
def test_a_checkpoint_without_weights_raises_an_error(file: Path, tmp_path: Path, weights: Any) -> None:
    torch.save({"satseg": document_of(file), "state_dict": weights}, tmp_path / "last.ckpt")
    with pytest.raises(CheckpointError, match="holds no weights"):
        load_model(tmp_path / "last.ckpt")


def test_a_corrupt_pickle_raises_an_error(tmp_path: Path) -> None:
    (tmp_path / "last.ckpt").write_bytes(b"\x80\x02.")
    with pytest.raises(CheckpointError, match=r"last\.ckpt is corrupt"):
        load_model(tmp_path / "last.ckpt")


class Payload:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("name", ["model.safetensors", "last.ckpt", "checkpoints/best.ckpt"])
@pytest.mark.parametrize("form", ["pickle", "torch", "torch-legacy"])
def test_a_pickle_with_a_payload_raises_an_error_and_does_not_run(tmp_path: Path, name: str, form: str) -> None:
    path, marker = tmp_path / name, tmp_path / "ran"
    path.parent.mkdir(exist_ok=True)
    payload = {"satseg": Payload(marker), "state_dict": {}}
    if form == "pickle":
        path.write_bytes(pickle.dumps(payload))
    else:
        torch.save(payload, path, _use_new_zipfile_serialization=form == "torch")
    with pytest.raises(CheckpointError):
        load_model(path if path.suffix == ".ckpt" else tmp_path)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("payload", r"last\.ckpt holds more than tensors and plain data \("),
        ("truncated", r"last\.ckpt is corrupt"),
        ("folder", r"last\.ckpt cannot be read: Is a directory"),
    ],
)
def test_resuming_a_sharded_run_refuses_corrupt_and_foreign_files(tmp_path: Path, content: str, message: str) -> None:
    from satseg.train.sharding import ShardedStrategy

    path = tmp_path / "last.ckpt"
    if content == "folder":
        path.mkdir()
    else:
        torch.save({"state_dict": {}, "epoch": Payload(tmp_path / "ran") if content == "payload" else 0}, path)
    if content == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=message):
        ShardedStrategy().load_checkpoint(path)
    assert not (tmp_path / "ran").exists()


def test_latest_without_a_run_raises_an_error_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no complete run.*experiment=demo"):
        load_model("latest", runs_dir=tmp_path)


def test_a_missing_file_raises_an_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        load_model(tmp_path / "nothing")


@pytest.mark.parametrize("name", ["model.safetensors", "other.bin"])
def test_a_wandb_reference_is_downloaded_and_loaded(
    name: str, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Artifact:
        qualified_name, digest = "someone/land cover/model:v3", "0a1b"

        def download(self, root: str) -> str:
            Path(root).mkdir(parents=True)
            (Path(root) / name).write_bytes(file.read_bytes())
            return root

    class Api:
        def __init__(self, timeout: int) -> None: ...

        def artifact(self, wanted: str) -> Artifact:
            if wanted != "someone/land cover/model:best":
                raise ValueError(f"artifact {wanted} not found")
            return Artifact()

    monkeypatch.setattr("wandb.Api", Api)
    monkeypatch.setenv("SATSEG_CACHE", str(tmp_path / "cache"))
    if name == "model.safetensors":
        path = fetch_checkpoint("wandb:someone/land cover/model:best")
        assert path.is_relative_to(tmp_path / "cache") and load_model(path).spec == load_model(file).spec
        with pytest.raises(CheckpointError, match=r"entity/project/model:best"):
            fetch_checkpoint("wandb:someone/nothing")
    else:
        with pytest.raises(CheckpointError, match=r"has no model\.safetensors"):
            fetch_checkpoint("wandb:someone/land cover/model:best")


@pytest.mark.parametrize("name", ["weight", "running_var"])
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
@pytest.mark.parametrize("kind", ["model.safetensors", "last.ckpt"])
def test_models_with_nan_or_infinite_weights_are_neither_written_nor_loaded(
    name: str, number: float, kind: str, file: Path, tmp_path: Path
) -> None:
    state = load_file(file)
    broken = next(key for key in state if key.endswith(name))
    state[broken].view(-1)[-1] = number
    if kind == "last.ckpt":
        weights = {f"network.{key}": value for key, value in state.items()}
        torch.save({"satseg": document_of(file), "state_dict": weights}, tmp_path / kind)
    else:
        save_file(state, tmp_path / kind, {"satseg": json.dumps(document_of(file))})
    with pytest.raises(CheckpointError, match=rf"{kind} holds a model that has diverged: {broken} "):
        load_model(tmp_path / kind)
    network = build_model(CONFIG, SPEC)
    network.load_state_dict(state)
    with pytest.raises(DivergedError, match=f"was not written: {broken}"):
        save_model(tmp_path / "new.safetensors", network, training={}, protocol={})
    assert not (tmp_path / "new.safetensors").exists()


def test_a_panic_of_safetensors_becomes_a_memory_error(
    network: SegmentationNetwork, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    panic = type("PanicException", (BaseException,), {})  # as raised by safetensors 0.8

    def refuse(*arguments: Any) -> bytes:
        raise panic("PyObject pointer is null")

    before = file.read_bytes()
    monkeypatch.setattr("satseg.models.model_file.save", refuse)
    with pytest.raises(MemoryError):
        save_model(file, network, training={}, protocol={})
    assert file.read_bytes() == before and list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize(
    "dtype", [torch.int32, torch.bool, torch.float16, torch.float64, torch.complex64, torch.float8_e4m3fn]
)
def test_weights_of_another_dtype_raise_an_error(dtype: torch.dtype, file: Path, tmp_path: Path) -> None:
    state = load_file(file)
    name = next(key for key in state if key.endswith("weight"))
    state[name] = state[name].to(dtype)
    save_file(state, file, {"satseg": json.dumps(document_of(file))})
    torch.save(
        {"satseg": document_of(file), "state_dict": {f"network.{k}": v for k, v in state.items()}},
        tmp_path / "last.ckpt",
    )
    for path in (file, tmp_path / "last.ckpt"):
        with pytest.raises(CheckpointError, match=path.name):
            load_model(path)


def test_a_checkpoint_is_loaded_without_optimiser_and_expanded_or_compressed_tensors_raise_an_error(
    file: Path, tmp_path: Path
) -> None:
    state = {f"network.{k}": v for k, v in load_file(file).items()}
    whole = {"satseg": document_of(file), "state_dict": state, "optimizer_states": [{"lr": 0.1}], "names": {"a", "b"}}
    path = tmp_path / "last.ckpt"
    torch.save(whole, path)
    loaded, expected = load_model(path), load_model(file)
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), expected.parameters(), strict=True))
    name = next(iter(state))
    torch.save(whole | {"state_dict": state | {name: torch.zeros(1).expand(10**5, 10**5)}}, path)  # 4 bytes on disk
    with pytest.raises(CheckpointError, match="holds no weights"):
        load_model(path)
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(tmp_path / "small.ckpt", "w", zipfile.ZIP_DEFLATED) as small:
        for member in archive.namelist():
            small.writestr(member, archive.read(member))
    with pytest.raises(CheckpointError, match=r"small\.ckpt is not in the present format of torch.save"):
        load_model(tmp_path / "small.ckpt")
    torch.save(whole | {"names": bytearray(8)}, path)
    with pytest.raises(CheckpointError, match=r"more than tensors and plain data.*bytearray"):
        load_model(path)


def test_a_recursive_or_exponentially_large_document_raises_an_error(file: Path, tmp_path: Path) -> None:
    itself: list[Any] = []
    itself.append(itself)
    repeated: list[Any] = ["x"] * 8
    for _ in range(9):
        repeated = [repeated] * 8
    for note in (itself, repeated, torch.zeros(1)):
        document = document_of(file) | {"training": {"note": note}}
        torch.save({"satseg": document, "state_dict": {}}, tmp_path / "last.ckpt")
        with pytest.raises(CheckpointError, match=r"its description h"):
            load_model(tmp_path / "last.ckpt")
