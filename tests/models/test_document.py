"""The document of a model file: what is written can be read, and what cannot be meant is one line."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from satseg.errors import CheckpointError, ConfigError
from satseg.models import build_model
from satseg.models.catalogue import MODELS
from satseg.models.checkpoint import load_model, read_document, save_model
from satseg.spec import BandStatistics, DatasetSpec, InputSpec

STATISTICS = BandStatistics(*(((1.0, 2.0, 3.0),) * 6))
SIZES = {"gsd_m": 0.5, "gsd_range_m": (0.4, 0.6)}
SOURCE_SPEC = InputSpec(("r", "g", "b"), "float32", 255.0, nodata=float("nan"), statistics=STATISTICS, **SIZES)
SPEC = DatasetSpec(
    (
        InputSpec(
            ("r", "g", "b"),
            "float32",
            255.0,
            nodata=float("nan"),
            gsd_m=0.5,
            statistics=STATISTICS,
            gsd_range_m=(0.4, 0.6),
        ),
    ),
    ("land", "Gewässer"),
    ((1, 2, 3), (4, 5, 6)),
)
CONFIG = {
    "_target_": MODELS["unet"],
    "encoder_name": "tu-test_efficientnet",
    "encoder_weights": "none",
    "decoder_channels": [16, 16, 8, 8, 8],
}
Change = Callable[[dict[str, Any]], Any]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "good.safetensors"
    scores = {"epoch": 3, "val/miou": float("nan")}  # as where no pixel is labelled
    save_model(path, build_model(CONFIG, SPEC), training=scores, protocol={"miou": "macro"})
    return path


@pytest.fixture(scope="module")
def document(good: Path) -> dict[str, Any]:
    with safe_open(good, framework="pt") as opened:
        found: dict[str, Any] = json.loads(opened.metadata()["satseg"])
    return found


@pytest.fixture(scope="module")
def write(good: Path) -> Callable[[Any], Path]:
    state = load_file(good)

    def written(document: Any) -> Path:
        text = document if isinstance(document, str) else json.dumps(document)
        save_file(state, good.with_name("model.safetensors"), {"satseg": text})
        return good.with_name("model.safetensors")

    return written


def test_what_is_written_is_read_again(good: Path) -> None:
    found = read_document(good)
    assert found.spec.class_names == SPEC.class_names and found.spec.inputs[0].statistics == STATISTICS
    assert found.spec.inputs[0].gsd_range_m == (0.4, 0.6)
    assert str(found.spec.inputs[0].nodata) == "nan" and str(found.training["val/miou"]) == "nan"


def test_a_document_without_what_earlier_versions_did_not_write_is_read(
    document: dict[str, Any], write: Callable[[Any], Path]
) -> None:
    earlier = {key: document[key] for key in ("format_version", "model", "spec")}
    assert document["spec"]["inputs"][0].pop("gsd_range_m") == [0.4, 0.6]
    network = load_model(write(earlier))
    assert network.temperature == 1 and network.spec.inputs[0].gsd_range_m is None


def at(*path: str | int) -> Callable[[Any], Change]:
    def change(value: Any) -> Change:
        def changed(document: dict[str, Any]) -> None:
            place: Any = document
            for part in path[:-1]:
                place = place[part]
            place[path[-1]] = value

        return changed

    return change


SOURCE = ("spec", "inputs", 0)
FAULTS: dict[str, tuple[Change, str]] = {
    "scale zero": (at(*SOURCE, "scale")(0), r"spec\.inputs\[0\]\.scale is 0: expected greater than 0"),
    "scale infinite": (at(*SOURCE, "scale")(float("inf")), r"spec\.inputs\[0\]\.scale is inf: expected a finite"),
    "scale text": (at(*SOURCE, "scale")("255"), r"spec\.inputs\[0\]\.scale is '255': expected a valid number"),
    "scale bool": (at(*SOURCE, "scale")(True), r"spec\.inputs\[0\]\.scale is True: expected a valid number"),
    "std zero": (at(*SOURCE, "std")([0.2, 0, 0.2]), r"spec\.inputs\[0\]\.std\[1\] is 0.*: expected greater than 0"),
    "std negative": (at(*SOURCE, "std", 2)(-1), r"spec\.inputs\[0\]\.std\[2\]"),
    "std short": (at(*SOURCE, "std")([0.2]), r"spec\.inputs\[0\]: std: expected 3 numbers.*got 1"),
    "std beyond float32": (at(*SOURCE, "std")([1e-300] * 3), r"cannot be standardised"),
    "mean none": (at(*SOURCE, "mean")(None), r"spec: inputs\[0\]: expected mean and std"),
    "mean nan": (at(*SOURCE, "mean", 0)(float("nan")), r"spec\.inputs\[0\]\.mean\[0\] is nan: expected a finite"),
    "statistics long": (at(*SOURCE, "statistics", "p98")([1] * 4), r"spec\.inputs\[0\]: statistics.p98: expected 3"),
    "dtype": (at(*SOURCE, "dtype")("complex64"), r"spec\.inputs\[0\]\.dtype is 'complex64': expected one of uint8,"),
    "nodata text": (at(*SOURCE, "nodata")("none"), r"spec\.inputs\[0\]\.nodata"),
    "gsd": (at(*SOURCE, "gsd_m")(0), r"spec\.inputs\[0\]\.gsd_m is 0: expected greater than 0"),
    "gsd range": (at(*SOURCE, "gsd_range_m")([2, 1]), r"gsd_range_m: expected the shorter edge first"),
    "gsd range alone": (at(*SOURCE, "gsd_range_m")([2]), r"spec\.inputs\[0\]\.gsd_range_m"),
    "bands none": (at(*SOURCE, "bands")([]), r"spec\.inputs\[0\]\.bands"),
    "timesteps": (at(*SOURCE, "num_timesteps")(10**6), r"spec\.inputs\[0\]\.num_timesteps is 1000000: expected less"),
    "timesteps two": (at(*SOURCE, "num_timesteps")(2), r"differ"),
    "unknown field": (at(*SOURCE, "a\nb")(1), r"spec\.inputs\[0\]\['a\\nb'\].*: unknown"),
    "ignore zero": (at("spec", "ignore_index")(0), r"spec: ignore_index=0: expected 2 to 255"),
    "ignore negative": (at("spec", "ignore_index")(-5), r"ignore_index=-5"),
    "ignore large": (at("spec", "ignore_index")(256), r"ignore_index=256"),
    "class empty": (at("spec", "class_names", 0)(""), r"spec\.class_names\[0\]"),
    "class long": (at("spec", "class_names", 1)("x" * 300), r"spec\.class_names\[1\].*at most 200"),
    "class control": (at("spec", "class_names", 1)("a\x1b[31m\nb"), r"spec\.class_names\[1\].*without line breaks"),
    "class number": (at("spec", "class_names", 1)(3), r"spec\.class_names\[1\] is 3: expected a valid string"),
    "classes alike": (at("spec", "class_names")(["a", "a"]), r"spec: Class names must differ"),
    "palette infinite": (at("spec", "palette", 0, 0)(float("inf")), r"spec\.palette\[0\]\[0\] is inf: expected"),
    "palette large": (at("spec", "palette", 0, 0)(256), r"spec\.palette\[0\]\[0\] is 256: expected less than or"),
    "palette short": (at("spec", "palette")([[1, 2, 3]]), r"spec: 2 classes need as many colours"),
    "palette flat": (at("spec", "palette", 0)([1, 2]), r"spec\.palette\[0\]\[2\]: missing"),
    "temperature text": (at("temperature")("hot"), r"temperature is 'hot': expected a valid number"),
    "temperature zero": (at("temperature")(0), r"temperature is 0.*: expected greater than 0"),
    "temperature nan": (at("temperature")(float("nan")), r"temperature is nan: expected"),
    "training": (at("training")([1]), r"training: expected"),
    "versions": (at("versions")({"torch": 2}), r"versions\.torch is 2: expected a valid string"),
    "protocol": (at("metric_protocol")({"miou": 1}), r"metric_protocol\.miou is 1: expected a valid string"),
    "encoder long": (at("model", "encoder_name")("tu-" + "a" * 300), r"model: .*encoder_name has the length 303"),
    "channels large": (at("model", "decoder_channels", 0)(10**9), r"model: .*decoder_channels\[0\] is 1e\+09"),
    "channels many": (at("model", "decoder_channels")([16] * 99), r"model: .*decoder_channels has the length 99"),
    "channels nan": (at("model", "decoder_channels", 0)(float("nan")), r"model: .*decoder_channels\[0\] is nan"),
    "deep": (at("training", "note")(json.loads("[" * 50 + "]" * 50)), r"nested deeper than 12"),
    "long": (at("training", "note")("x" * 2_000_000), r"2,0.*characters: expected 1,000,000 at most"),
    "no model": (lambda d: d.pop("model"), r"model: missing"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_one_line_that_names_file_field_and_what_was_expected(
    name: str, document: dict[str, Any], write: Callable[[Any], Path]
) -> None:
    change, message = FAULTS[name]
    changed = json.loads(json.dumps(document))
    change(changed)
    path = write(changed)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_model(path)
    line = str(caught.value)
    assert line.startswith(str(path)) and line.isprintable() and len(line) < 500 + len(str(path))


@pytest.mark.parametrize("text", ["", "{", "nothing", "[" * 100_000, '{"format_version": 1' + "0" * 5000 + "}", "\x00"])
def test_what_is_no_json_is_one_line(text: str, write: Callable[[Any], Path]) -> None:
    with pytest.raises(CheckpointError, match=r"model\.safetensors does not describe a model"):
        load_model(write(text))


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from([0, -1, 1, 255, 256, 10**6, 10**400, 1e308, 5e-324, "${x}", "uint8", "tu-resnet18", "a\u2028b"]),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=8), children, max_size=3),
    max_leaves=6,
)


def mutate(value: Any, data: st.DataObject) -> Any:
    """Change one place of a document, at any depth."""
    if isinstance(value, dict | list) and value and data.draw(st.integers(0, 4)):
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = data.draw(st.sampled_from(keys))
        copy: Any = dict(value) if isinstance(value, dict) else list(value)
        if data.draw(st.integers(0, 9)):
            copy[key] = mutate(value[key], data)
        else:
            del copy[key]
        return copy
    return data.draw(VALUES)


def test_a_name_that_no_terminal_shows_is_told_in_one_that_it_does(
    document: dict[str, Any], write: Callable[[Any], Path]
) -> None:
    document["model"] = document["model"] | {"name\ud7fc": 1e9}
    with pytest.raises(CheckpointError) as error:
        load_model(write(document))
    assert str(error.value).isprintable() and "name?" in str(error.value)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_changed_document_gives_a_model_that_segments_or_one_line(
    data: st.DataObject, document: dict[str, Any], write: Callable[[Any], Path]
) -> None:
    changed = document
    for _ in range(data.draw(st.integers(1, 3))):
        changed = mutate(changed, data)
    path = write(changed)
    try:
        network = load_model(path)
    except CheckpointError as error:
        assert str(error).isprintable() and re.search(r"\.safetensors|The model file names", str(error))
        return
    spec = network.spec
    assert DatasetSpec.from_dict(spec.to_dict()).to_dict() == spec.to_dict() or "nan" in str(spec)
    image = torch.rand(1, spec.in_channels, 32, 32)
    assert network(image).shape == (1, spec.num_classes, 32, 32)


def test_a_spec_that_no_file_could_hold_is_refused_before_training() -> None:
    for names, message in ((("a", "b\nc"), r"class_names\[1\]"), (("a", ""), r"class_names\[1\]")):
        with pytest.raises(ConfigError, match=message):
            build_model(CONFIG, DatasetSpec(SPEC.inputs, names, SPEC.palette))
