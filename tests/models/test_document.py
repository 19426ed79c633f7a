"""The JSON document in a model file: reading, validation errors, and random mutations."""

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
    scores = {"epoch": 3, "val/miou": float("nan")}  # as if no pixel were labelled
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

    def write_document(document: Any) -> Path:
        text = document if isinstance(document, str) else json.dumps(document)
        save_file(state, good.with_name("model.safetensors"), {"satseg": text})
        return good.with_name("model.safetensors")

    return write_document


def test_a_saved_document_is_read_unchanged(good: Path) -> None:
    found = read_document(good)
    assert found.spec.class_names == SPEC.class_names and found.spec.inputs[0].statistics == STATISTICS
    assert found.spec.inputs[0].gsd_range_m == (0.4, 0.6)
    assert str(found.spec.inputs[0].nodata) == "nan" and str(found.training["val/miou"]) == "nan"


def test_a_document_without_optional_fields_of_later_versions_is_read(
    document: dict[str, Any], write: Callable[[Any], Path]
) -> None:
    earlier = {key: document[key] for key in ("format_version", "model", "spec")}
    assert document["spec"]["inputs"][0].pop("gsd_range_m") == [0.4, 0.6]
    network = load_model(write(earlier))
    assert network.temperature == 1 and network.spec.inputs[0].gsd_range_m is None


def set_at(*path: str | int) -> Callable[[Any], Change]:
    def change(value: Any) -> Change:
        def changed(document: dict[str, Any]) -> None:
            parent: Any = document
            for part in path[:-1]:
                parent = parent[part]
            parent[path[-1]] = value

        return changed

    return change


SOURCE = ("spec", "inputs", 0)
FAULTS: dict[str, tuple[Change, str]] = {
    "scale zero": (set_at(*SOURCE, "scale")(0), r"spec\.inputs\[0\]\.scale is 0: expected greater than 0"),
    "scale infinite": (set_at(*SOURCE, "scale")(float("inf")), r"spec\.inputs\[0\]\.scale is inf: expected a finite"),
    "scale text": (set_at(*SOURCE, "scale")("255"), r"spec\.inputs\[0\]\.scale is '255': expected a valid number"),
    "scale bool": (set_at(*SOURCE, "scale")(True), r"spec\.inputs\[0\]\.scale is True: expected a valid number"),
    "std zero": (set_at(*SOURCE, "std")([0.2, 0, 0.2]), r"spec\.inputs\[0\]\.std\[1\] is 0.*: expected greater than 0"),
    "std negative": (set_at(*SOURCE, "std", 2)(-1), r"spec\.inputs\[0\]\.std\[2\]"),
    "std short": (set_at(*SOURCE, "std")([0.2]), r"spec\.inputs\[0\]: std: expected 3 numbers.*got 1"),
    "std beyond float32": (set_at(*SOURCE, "std")([1e-300] * 3), r"cannot be standardised"),
    "mean none": (set_at(*SOURCE, "mean")(None), r"spec: inputs\[0\]: expected mean and std"),
    "mean nan": (set_at(*SOURCE, "mean", 0)(float("nan")), r"spec\.inputs\[0\]\.mean\[0\] is nan: expected a finite"),
    "statistics long": (
        set_at(*SOURCE, "statistics", "p98")([1] * 4),
        r"spec\.inputs\[0\]: statistics.p98: expected 3",
    ),
    "dtype": (
        set_at(*SOURCE, "dtype")("complex64"),
        r"spec\.inputs\[0\]\.dtype is 'complex64': expected one of uint8,",
    ),
    "nodata text": (set_at(*SOURCE, "nodata")("none"), r"spec\.inputs\[0\]\.nodata"),
    "gsd": (set_at(*SOURCE, "gsd_m")(0), r"spec\.inputs\[0\]\.gsd_m is 0: expected greater than 0"),
    "gsd range": (set_at(*SOURCE, "gsd_range_m")([2, 1]), r"gsd_range_m: expected the shorter edge first"),
    "gsd range alone": (set_at(*SOURCE, "gsd_range_m")([2]), r"spec\.inputs\[0\]\.gsd_range_m"),
    "bands none": (set_at(*SOURCE, "bands")([]), r"spec\.inputs\[0\]\.bands"),
    "timesteps": (
        set_at(*SOURCE, "num_timesteps")(10**6),
        r"spec\.inputs\[0\]\.num_timesteps is 1000000: expected less",
    ),
    "timesteps two": (set_at(*SOURCE, "num_timesteps")(2), r"differ"),
    "unknown field": (set_at(*SOURCE, "a\nb")(1), r"spec\.inputs\[0\]\['a\\nb'\].*: unknown"),
    "ignore zero": (set_at("spec", "ignore_index")(0), r"spec: ignore_index=0: expected 2 to 255"),
    "ignore negative": (set_at("spec", "ignore_index")(-5), r"ignore_index=-5"),
    "ignore large": (set_at("spec", "ignore_index")(256), r"ignore_index=256"),
    "class empty": (set_at("spec", "class_names", 0)(""), r"spec\.class_names\[0\]"),
    "class long": (set_at("spec", "class_names", 1)("x" * 300), r"spec\.class_names\[1\].*at most 200"),
    "class control": (set_at("spec", "class_names", 1)("a\x1b[31m\nb"), r"spec\.class_names\[1\].*without line breaks"),
    "class number": (set_at("spec", "class_names", 1)(3), r"spec\.class_names\[1\] is 3: expected a valid string"),
    "classes alike": (set_at("spec", "class_names")(["a", "a"]), r"spec: Class names must differ"),
    "palette infinite": (set_at("spec", "palette", 0, 0)(float("inf")), r"spec\.palette\[0\]\[0\] is inf: expected"),
    "palette large": (set_at("spec", "palette", 0, 0)(256), r"spec\.palette\[0\]\[0\] is 256: expected less than or"),
    "palette short": (set_at("spec", "palette")([[1, 2, 3]]), r"spec: 2 classes need as many colours"),
    "palette flat": (set_at("spec", "palette", 0)([1, 2]), r"spec\.palette\[0\]\[2\]: missing"),
    "temperature text": (set_at("temperature")("hot"), r"temperature is 'hot': expected a valid number"),
    "temperature zero": (set_at("temperature")(0), r"temperature is 0.*: expected greater than 0"),
    "temperature nan": (set_at("temperature")(float("nan")), r"temperature is nan: expected"),
    "training": (set_at("training")([1]), r"training: expected"),
    "versions": (set_at("versions")({"torch": 2}), r"versions\.torch is 2: expected a valid string"),
    "protocol": (set_at("metric_protocol")({"miou": 1}), r"metric_protocol\.miou is 1: expected a valid string"),
    "encoder long": (set_at("model", "encoder_name")("tu-" + "a" * 300), r"model: .*encoder_name has the length 303"),
    "channels large": (set_at("model", "decoder_channels", 0)(10**9), r"model: .*decoder_channels\[0\] is 1e\+09"),
    "channels many": (set_at("model", "decoder_channels")([16] * 99), r"model: .*decoder_channels has the length 99"),
    "channels nan": (set_at("model", "decoder_channels", 0)(float("nan")), r"model: .*decoder_channels\[0\] is nan"),
    "deep": (set_at("training", "note")(json.loads("[" * 50 + "]" * 50)), r"nested deeper than 12"),
    "long": (set_at("training", "note")("x" * 2_000_000), r"2,0.*characters: expected 1,000,000 at most"),
    "no model": (lambda d: d.pop("model"), r"model: missing"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_an_invalid_field_raises_an_error_of_one_line_with_file_field_and_expectation(
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
def test_invalid_json_raises_an_error(text: str, write: Callable[[Any], Path]) -> None:
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
    """Return a document with one random change at any depth."""
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


def test_unprintable_names_are_replaced_in_errors(document: dict[str, Any], write: Callable[[Any], Path]) -> None:
    document["model"] = document["model"] | {"name\ud7fc": 1e9}
    with pytest.raises(CheckpointError) as error:
        load_model(write(document))
    assert str(error.value).isprintable() and "name?" in str(error.value)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_mutated_document_gives_a_working_model_or_an_error_of_one_line(
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


def test_class_names_that_no_model_file_accepts_raise_an_error_before_training() -> None:
    for names, message in ((("a", "b\nc"), r"class_names\[1\]"), (("a", ""), r"class_names\[1\]")):
        with pytest.raises(ConfigError, match=message):
            build_model(CONFIG, DatasetSpec(SPEC.inputs, names, SPEC.palette))
