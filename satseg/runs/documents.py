"""Reading YAML and JSON from untrusted run folders: plain data of bounded size and depth."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NoReturn, cast

import yaml

from satseg.errors import RecordError

MAX_YAML_BYTES = 2**20  # bytes; a real configuration has 2 to 5 kB, one whose split lists 10,000 names 200 kB
MAX_JSON_BYTES = 2**22
MAX_LISTING_BYTES = 2**26  # of a file with a line of about 70 bytes per image
MAX_DEPTH = 32  # levels of mappings and lists; a real configuration has 4
MAX_VALUES = 20_000  # a real configuration has 70; OmegaConf takes 0.2 ms for each
MAX_PLAIN_CHARACTERS = 4096  # of an unquoted value, which is parsed as a number


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """PyYAML's safe C loader with OmegaConf's types: 1e-3 is a number, dates are strings; OmegaConf's own is slow."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        """Build a mapping; duplicate keys are an error, where PyYAML would keep the last."""
        found = super().construct_mapping(node, deep=deep)
        if len(found) < len(node.value):
            raise yaml.YAMLError(f"duplicate key in the mapping of line {node.start_mark.line + 1}")
        return found


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a configuration: one mapping without aliases, merge keys, tags or duplicate keys.

    Raises:
        RecordError: If it is missing or invalid; says why.
    """
    text = read_text(path, MAX_YAML_BYTES)
    try:
        _check_events(text, path)
        return cast(dict[str, Any], yaml.load(text, _Loader))
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise _refusal(path, f"is not valid YAML: {_line(error)}") from error


def _check_events(text: str, path: Path) -> None:
    """Reject YAML features that plain data does not need, before objects are built."""
    depth = documents = values = 0
    for event in yaml.parse(text, _Loader):
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
        elif documents > 1 or (depth == 0 and isinstance(event, yaml.ScalarEvent | yaml.SequenceStartEvent)):
            raise _refusal(path, "is not a single mapping")
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise _refusal(path, f"has an anchor or an alias {_place(event)}")
        if getattr(event, "tag", None) is not None:
            raise _refusal(path, f"has a tag {_place(event)}")
        values += isinstance(event, yaml.NodeEvent)
        if values > MAX_VALUES:
            raise _refusal(path, f"has more than {MAX_VALUES} values")
        if isinstance(event, yaml.ScalarEvent) and event.implicit[0]:  # unquoted
            if event.value == "<<":
                raise _refusal(path, f"has a merge key {_place(event)}")
            if len(event.value) > MAX_PLAIN_CHARACTERS:
                raise _refusal(path, f"has a value of more than {MAX_PLAIN_CHARACTERS} characters {_place(event)}")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise _refusal(path, f"is nested deeper than {MAX_DEPTH} levels")
    if documents == 0:
        raise _refusal(path, "is empty")


def _place(event: yaml.Event) -> str:
    return f"in line {event.start_mark.line + 1}"


def read_json(path: Path, expected: type = dict, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """Read plain data from JSON.

    Args:
        path: A JSON file.
        expected: Type of the top-level value.
        max_bytes: Maximum size of the file.

    Raises:
        RecordError: If it is missing or invalid; says why.
    """
    text = read_text(path, max_bytes)
    try:
        data = json.loads(
            text, parse_constant=_reject_constant, parse_float=_finite, object_pairs_hook=_without_duplicates
        )
    except RecursionError as error:
        raise _refusal(path, f"is nested deeper than {MAX_DEPTH} levels") from error
    except ValueError as error:
        raise _refusal(path, f"is not valid JSON: {_line(error)}") from error
    if not isinstance(data, expected):
        raise _refusal(path, f"holds {type(data).__name__} where {expected.__name__} was expected")
    level: Sequence[Any] = [data]
    for _ in range(MAX_DEPTH):
        level = [value for item in level for value in _children(item)]
    if level:
        raise _refusal(path, f"is nested deeper than {MAX_DEPTH} levels")
    return data


def read_fields(
    path: Path, expected: Mapping[str, type | tuple[type, ...]], max_bytes: int = MAX_JSON_BYTES
) -> dict[str, Any]:
    """Read a JSON object that has the expected fields, each of its type.

    Raises:
        RecordError: If it is missing or invalid; names the field.
    """
    data: dict[str, Any] = read_json(path, dict, max_bytes)
    for name, kinds in expected.items():
        value = data.get(name)
        right = isinstance(value, kinds) and not (isinstance(value, bool) and kinds is not bool)
        if name not in data or not right:
            raise _refusal(path, f"has no {name}, or one of a wrong type")
    return data


def _children(value: Any) -> Iterable[Any]:
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [child for child in children if isinstance(child, dict | list)]


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("duplicate key")
    return found


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a finite number")


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _reject_constant(text[:40])


def read_text(path: Path, max_bytes: int) -> str:
    """Read a text file of bounded size.

    Raises:
        RecordError: If it is missing, larger than `max_bytes`, or not UTF-8.
    """
    if not path.is_file():  # opening a pipe would block
        raise RecordError(f"{path} does not exist.")
    try:
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
        if len(data) > max_bytes:
            raise _refusal(path, f"has more than {max_bytes / 2**20:.0f} MB")
        return data.decode()
    except UnicodeDecodeError as error:
        raise _refusal(path, "is not UTF-8 text") from error
    except OSError as error:
        raise RecordError(f"{path} cannot be read: {error.strerror}.") from error


def _refusal(path: Path, what: str) -> RecordError:
    return RecordError(f"{path} {what}; satseg does not write such records: restore the original file.")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
