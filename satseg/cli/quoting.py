"""Quoting of paths on the command line, which Hydra's grammar could not parse otherwise."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

# Options with values that Hydra's grammar rejects: paths with spaces, commas, `=`, parentheses; layers with brackets.
VERBATIM_KEYS = frozenset(
    {
        "auth",
        "backbone.weights",
        "checkpoint",
        "dataset.cache_dir",
        "dataset.image_suffix",
        "dataset.images",
        "dataset.mask_suffix",
        "dataset.masks",
        "dataset.root",
        "dataset.vectors.attribute",
        "dataset.vectors.layer",
        "dataset.vectors.outside",
        "from_run",
        "init_from",
        "input",
        "jobs_dir",
        "layer",
        "map_areas",
        "output",
        "region",
        "resume_from",
        "resume_sweep",
        "run_dir",
        "runs",
        "runs_dir",
        "vectors",
    }
)

LIST_KEYS = frozenset({"checkpoint", "input", "layer", "region", "runs"})  # may be a list, `[a,b]`
MAPPING_KEYS = frozenset({"dataset.images", "input"})  # may map bands to files, `{B02: a, B03: b}`


def quote_paths(arguments: Sequence[str]) -> list[str]:
    """Quote the values of path keys for Hydra's override grammar; other arguments are returned unchanged.

    In a sweep (`-m`) a value with commas that is not an existing path is one path per run.
    """
    sweep = "-m" in arguments or "--multirun" in arguments
    return [_quote_argument(a, sweep) for a in arguments]


def _quote_argument(argument: str, sweep: bool) -> str:
    key, equals, value = argument.partition("=")
    name = key.lstrip("+")
    if not equals or name not in VERBATIM_KEYS or value in ("", "null", "???") or value[0] in "'\"":
        return argument
    if (value[0] == "[" and name in LIST_KEYS) or (value[0] == "{" and name in MAPPING_KEYS):
        return argument if not _exists(value) and _is_grammatical(argument) else f"{key}={_quote_group(value, sweep)}"
    values = split_top_level(value) if sweep and not _exists(value) else [value]
    return f"{key}={','.join(map(_quote_path, values))}"


def _quote_group(value: str, sweep: bool) -> str:
    """Quote the paths in a list or mapping; `[site] 1/a.tif`, which only starts like one, is quoted as a path."""
    parts = split_top_level(value) if not _exists(value) else [value]
    if len(parts) > 1 and sweep:
        return ",".join(_quote_group(part, sweep=False) for part in parts)
    if value[0] not in "[{" or len(parts) > 1 or _exists(value) or _closing(value) != len(value) - 1:
        return _quote_path(value)
    quoted = []
    for part in filter(None, map(str.strip, split_top_level(value[1:-1]))):
        band, colon, path = part.partition(":") if value[0] == "{" else ("", "", part)
        path = path.strip()
        inner = path if path[:1] in ("'", '"') else _quote_group(path, sweep=False)
        quoted.append(f"{band}{colon}{inner}")
    return f"{value[0]}{','.join(quoted)}{value[-1]}"


def split_top_level(value: str) -> list[str]:
    """Split at commas outside brackets, braces and quotes."""
    commas = [place for place, letter, depth in _unquoted(value) if letter == "," and not depth]
    return [value[begin + 1 : end] for begin, end in zip([-1, *commas], [*commas, len(value)], strict=True)]


def _closing(value: str) -> int | None:
    """Return the index of the bracket or brace that closes the first one."""
    letters = _unquoted(value)
    return next((place for place, letter, depth in letters if letter in "]}" and depth == 1), None)


def _unquoted(value: str) -> Iterator[tuple[int, str, int]]:
    """Yield index, character and nesting depth of each character outside quotes."""
    depth, quote, before = 0, "", ","
    for place, letter in enumerate(value):
        if quote:
            quote = "" if letter == quote and value[place - 1] != "\\" else quote
        elif letter in "'\"" and before in ",[{:":  # elsewhere it is an apostrophe
            quote = letter
        else:
            yield place, letter, depth
            depth += (letter in "[{") - (letter in "]}" and depth > 0)
        before = before if letter.isspace() else letter


def _is_grammatical(argument: str) -> bool:
    try:
        return OverridesParser.create().parse_override(argument).value() is not None
    except HydraException:
        return False


def _exists(value: str) -> bool:
    return os.path.exists(os.path.expanduser(value))  # noqa: PTH110, PTH111 (keeps the text unchanged)


def _quote_path(value: str) -> str:
    return quote_value(os.path.expanduser(value))  # noqa: PTH111 (keeps the text unchanged)


def quote_value(value: str) -> str:
    """Quote a string for Hydra's grammar, so that it is parsed back unchanged."""
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", value)  # backslashes are escaped only before a quote
    escaped = re.sub(r"(\\+)$", r"\1\1", escaped)
    return "'" + escaped.replace("${", "\\${") + "'"
