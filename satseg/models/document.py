"""Description stored in a model file, with the schema for writing and reading it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

from pydantic import AfterValidator, Field, JsonValue, TypeAdapter, ValidationError

from satseg.environment import package_version
from satseg.errors import ModelError, SpecError
from satseg.models.decoder_options import check_options
from satseg.models.network import SegmentationNetwork
from satseg.spec import SCHEMA, DatasetSpec, Name, Positive, first_error

FORMAT_VERSION = 1
VERSIONED = ("satseg", "torch", "timm", "segmentation-models-pytorch")
MAX_CHARACTERS = 1_000_000  # 1,024 bands with all statistics need a quarter of it
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
    """Everything needed to rebuild and assess a model.

    Attributes:
        format_version: Version of this schema.
        model: `_target_`, the full name of the decoder's class, and its options.
        spec: Inputs and classes, complete with mean and std.
        temperature: Divisor of the logits.
        training: Facts of its training, such as epoch and score.
        versions: Versions of the packages that wrote it; None for those not installed.
        metric_protocol: Definitions of the scores.
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
        """Return the document as plain data for JSON."""
        return asdict(self) | {"spec": self.spec.to_dict()}

    def text(self) -> str:
        """Return the document as JSON; equal documents give equal text.

        Raises:
            ModelError: If it could not be read back; names the field.
        """
        text = json.dumps(self.plain(), sort_keys=True, ensure_ascii=False)
        self.parse(text)
        return text

    @classmethod
    def parse(cls, text: str) -> Document:
        """Read a document, after checking length and depth.

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
        """Read a document from plain data, as stored in a Lightning checkpoint.

        Raises:
            ModelError: As for `parse`.
        """
        _check_plain(value)
        return cls.parse(json.dumps(value, ensure_ascii=False))


def _depth(text: str) -> int:
    """Return the nesting depth of brackets, without parsing or recursion."""
    deepest = depth = 0
    for mark in re.findall(r'"(?:[^"\\]++|\\.)*+"|[\[{]|[\]}]', text, re.DOTALL):
        depth += (mark in "[{") - (mark in "]}")
        deepest = max(deepest, depth)
    return deepest


def _check_plain(document: Any) -> None:
    """Check that a document is plain data of bounded size, in a bounded walk.

    Pickled lists may contain themselves, or another list a million times.
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
                raise ModelError("its description has a key that is not a string")
        elif type(value) in (list, tuple):
            parts = list(value)
        elif not isinstance(value, str | int | float | None):
            raise ModelError(f"its description holds a {type(value).__name__}, which is not plain data")
        if isinstance(value, str) and "${" in value:
            raise ModelError(f"it holds an interpolation ({value[:60]!r}), which is not allowed")
        if len(parts) + len(waiting) > MAX_VALUES:
            raise ModelError(f"its description has more than {MAX_VALUES:,} values")
        waiting += [(part, depth + 1) for part in parts]


_ADAPTER = TypeAdapter(Document)
