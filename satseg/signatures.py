"""Checks of options against the annotated signatures of constructors."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable, Mapping
from os import PathLike
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

PACKAGE = "satseg."  # its classes pass their **options on to their base class
WITHOUT_OPTIONS = ("builtins.object", "torch.nn.modules.module.Module")


def constructor_options(target: type[Any]) -> tuple[dict[str, Any], bool]:
    """Return the annotations of a constructor's options by name (Any if missing), and whether it accepts others.

    A class of satseg with `**options` passes them to its base class, whose options are therefore included.
    """
    found: dict[str, Any] = {}
    for cls in target.__mro__:
        if f"{cls.__module__}.{cls.__qualname__}" in WITHOUT_OPTIONS:
            break
        make = cls.__dict__.get("__init__")
        if make is None:
            continue
        try:
            hints = get_type_hints(make)
        except (NameError, TypeError):  # annotation imported for type checkers only
            hints = {}
        parameters = list(inspect.signature(make).parameters.values())[1:]
        named = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        own = {name: hints.get(name, Any) for name in named}
        own |= {p.name: own[p.name] | None for p in parameters if p.name in own and p.default is None}
        found = own | found
        if all(p.kind is not p.VAR_KEYWORD for p in parameters):
            return found, False
        if not cls.__module__.startswith(PACKAGE):
            return found, True
    return found, False


def first_mismatch(target: type[Any], options: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the first option that a class does not accept, or not with its value, and the reason; None if all fit.

    Args:
        target: The class.
        options: Plain values; mappings with a `_target_` become objects, and are not checked.
    """
    known, is_open = constructor_options(target)
    for name, value in options.items():
        if name not in known:
            if is_open:
                continue
            near = difflib.get_close_matches(str(name), known, n=1)
            names = f"there are {', '.join(known)}." if known else "there are none."
            hint = f"did you mean {near[0]}?" if near else names
            return name, f"is unknown to {target.__name__}: remove it; {hint}"
        is_made = isinstance(value, Mapping) and "_target_" in value
        is_default = value is None and known[name] is not str  # null stands for the default of several numbers
        if not is_made and not is_default and not _fits(value, known[name]):
            return name, f"is {str(value)[:60]}; expected {_described(known[name])}."
    return None


def _fits(value: Any, kind: Any) -> bool:
    """Return True if a plain value fits an annotation; types beyond plain data are left to the class."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return any(_fits(value, part) for part in parts)
    if origin is Literal:
        return any(_fits(value, type(part)) for part in parts)
    if origin is Annotated:
        return _fits(value, parts[0])
    base = origin or kind
    if not isinstance(base, type) or base is object:
        return True
    if base is NoneType:
        return value is None
    if base is bool:
        return isinstance(value, bool)
    if base in (int, float):
        return isinstance(value, int | float) and not isinstance(value, bool)
    if issubclass(base, str | PathLike):
        return isinstance(value, str)
    if issubclass(base, Mapping):
        return isinstance(value, Mapping) and (not parts or all(_fits(one, parts[1]) for one in value.values()))
    if _is_list(base):
        items = [part for part in parts if part is not ...]
        return isinstance(value, list | tuple) and all(
            not items or any(_fits(one, item) for item in items) for one in value
        )
    return True


def _is_list(base: Any) -> bool:
    return base is Iterable or (isinstance(base, type) and issubclass(base, Iterable) and hasattr(base, "__iter__"))


def _described(kind: Any) -> str:
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(_described(part) for part in parts))
    if origin is Literal:
        return " or ".join(map(str, parts))
    if origin is Annotated:
        return _described(parts[0])
    base = origin or kind
    if base in (NoneType, bool, int, float):
        return {NoneType: "null", bool: "true or false", int: "a number", float: "a number"}[base]
    if not isinstance(base, type):
        return "another value"
    if issubclass(base, str | PathLike):
        return "a string"
    if issubclass(base, Mapping):
        return "a mapping"
    items = " or ".join(dict.fromkeys(_described(part).removeprefix("a ") for part in parts if part is not ...))
    return (f"a list, each a {items}" if items else "a list") if _is_list(base) else f"a {base.__name__}"
