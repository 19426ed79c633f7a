"""The document of a model file: the one schema by which it is written and read."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

from pydantic import AfterValidator, Field, JsonValue, TypeAdapter, ValidationError

from satseg.environment import package_version
from satseg.errors import ModelError, SpecError
from satseg.models.network import SegmentationNetwork
from satseg.models.options import check_options
from satseg.spec import SCHEMA, DatasetSpec, Name, Positive, first_error

FORMAT_VERSION = 1
VERSIONED = ("satseg", "torch", "timm", "segmentation-models-pytorch")
MAX_CHARACTERS = 1_000_000  # 1,024 bands with all their numbers need a quarter
MAX_DEPTH = 12
MAX_VALUES = 100_000


def _check_model(model: dict[str, JsonValue]) -> dict[str, JsonValue]:
    if not isinstance(model.get("_target_"), str):
        raise ValueError("_target_: expected the full name of the decoder's class")
    try:
        check_options({key: value for key, value in model.items() if key != "_target_"})
    except ModelError as error:
        raise ValueError(str(error)) from error
    return model


def _check_numbers(spec: DatasetSpec) -> DatasetSpec:
    for index, source in enumerate(spec.inputs):
        if source.mean is None or source.std is None:
            raise SpecError(f"inputs[{index}]: expected mean and std")
    return spec


@dataclass(frozen=True)
class Document:
    """All that is needed to rebuild and to judge a model.

    Attributes:
        format_version: Of this schema.
        model: `_target_`, the full name of the decoder's class, and its options.
        spec: Inputs and classes, complete with mean and std.
        temperature: Logits are divided by it.
        training: What to know of its training, such as epoch and score.
        versions: Of the packages that wrote it; None where one was not installed.
        metric_protocol: What each score means.
    """

    __pydantic_config__ = SCHEMA

    format_version: Annotated[int, Field(ge=FORMAT_VERSION, le=FORMAT_VERSION)]
    model: Annotated[dict[Name, JsonValue], AfterValidator(_check_model)]
    spec: Annotated[DatasetSpec, AfterValidator(_check_numbers)]
    temperature: Positive = 1.0
    training: Annotated[dict[Name, JsonValue], Field(max_length=1000)] = field(default_factory=dict)
    versions: dict[Name, Name | None] = field(default_factory=dict)
    metric_protocol: dict[Name, str] = field(default_factory=dict)

    @classmethod
    def of(cls, network: SegmentationNetwork, training: Mapping[str, Any], protocol: Mapping[str, str]) -> Document:
        """Describe a network."""
        versions = {name: package_version(name) for name in VERSIONED}
        return cls(
            FORMAT_VERSION, network.config, network.spec, network.temperature, dict(training), versions, dict(protocol)
        )

    def plain(self) -> dict[str, Any]:
        """Return dicts, lists, numbers and texts, ready for JSON."""
        return asdict(self) | {"spec": self.spec.to_dict()}

    def text(self) -> str:
        """Return the document as JSON; equal documents give equal text.

        Raises:
            ModelError: If it could not be read again; names the field.
        """
        text = json.dumps(self.plain(), sort_keys=True, ensure_ascii=False)
        self.parse(text)
        return text

    @classmethod
    def parse(cls, text: str) -> Document:
        """Read a document; length and depth are checked before anything is parsed.

        Raises:
            ModelError: If it does not follow the schema; names the field and what was expected.
        """
        if len(text) > MAX_CHARACTERS:
            raise ModelError(f"its description has {len(text):,} characters: expected {MAX_CHARACTERS:,} at most")
        if _depth(text) > MAX_DEPTH:
            raise ModelError(f"its description is nested deeper than {MAX_DEPTH} levels")
        try:
            found = _ADAPTER.validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            if first["loc"] == ("format_version",):
                version = f"{first['input']!r}"[:40]
                raise ModelError(f"it has format version {version}, but this satseg reads {FORMAT_VERSION}") from error
            raise ModelError(first_error(error)) from error
        _check_plain(found.plain())
        return found

    @classmethod
    def from_plain(cls, value: Any) -> Document:
        """Read a document that is no text yet, as a Lightning checkpoint holds it.

        Raises:
            ModelError: As `parse`.
        """
        _check_plain(value)
        return cls.parse(json.dumps(value, ensure_ascii=False))


def _depth(text: str) -> int:
    """Return how deep brackets are nested, without parsing and without recursion."""
    deepest = depth = 0
    for mark in re.findall(r'"(?:[^"\\]++|\\.)*+"|[\[{]|[\]}]', text, re.DOTALL):
        depth += (mark in "[{") - (mark in "]}")
        deepest = max(deepest, depth)
    return deepest


def _check_plain(document: Any) -> None:
    """Refuse what is no plain data, or more than a description needs, in a walk of bounded length.

    A pickled list may hold itself, or another one a million times at no cost.
    """
    waiting, seen = [(document, 0)], 0
    while waiting:
        value, depth = waiting.pop()
        seen += 1
        if seen > MAX_VALUES or depth > MAX_DEPTH:
            raise ModelError(f"its description has more than {MAX_VALUES:,} values or {MAX_DEPTH} levels")
        parts: list[Any] = []
        if type(value) is dict:
            parts = [*value, *value.values()]
            if not all(type(key) is str for key in value):
                raise ModelError("its description has a key that is no text")
        elif type(value) in (list, tuple):
            parts = list(value)
        elif not isinstance(value, str | int | float | None):
            raise ModelError(f"its description holds a {type(value).__name__}, which is no plain data")
        if isinstance(value, str) and "${" in value:
            raise ModelError(f"it holds an interpolation ({value[:60]!r}), which no model needs")
        if len(parts) + len(waiting) > MAX_VALUES:
            raise ModelError(f"its description has more than {MAX_VALUES:,} values")
        waiting += [(part, depth + 1) for part in parts]


_ADAPTER = TypeAdapter(Document)
