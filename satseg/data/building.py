"""Building a dataset from its section of the configuration."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate

from satseg.data.datamodule import SegmentationDataModule
from satseg.data.extension import GUIDE, check_complete, explained, full_name, own_bases
from satseg.errors import ConfigError, ExtensionError, SatsegError

REFUSED = re.compile(r"(.+)\.__init__\(\) got an unexpected keyword argument '(\w+)'")
LACKING = re.compile(r"(.+)\.__init__\(\) missing \d+ required [\w-]+ arguments?: (.+)")


def build_dataset(section: Mapping[str, Any], origin: Path | None = None, **training: Any) -> SegmentationDataModule:
    """Build a dataset.

    Args:
        section: The section `dataset` of the configuration.
        origin: The file that it comes from, to be named in errors; the user's own options by default.
        training: Further options, which training sets.

    Raises:
        ConfigError: If its class needs an option that is not given, or has no such option.
        ExtensionError: If a class of the user's own is not as it must be, or its constructor fails.
    """
    try:
        make = instantiate(section, _partial_=True, _convert_="all")
    except InstantiationException as error:
        if found := _of_part(error):
            raise found from error
        raise
    cls, given = make.func, make.keywords
    if not (isinstance(cls, type) and issubclass(cls, SegmentationDataModule)):
        raise ExtensionError(
            f"dataset._target_ names {section['_target_']}, which does not extend SegmentationDataModule; {GUIDE}."
        )
    try:
        with explained(cls, "the constructor"):
            datamodule: SegmentationDataModule = make(**training)
    except Exception as error:
        cause = error.__cause__ if isinstance(error, ExtensionError) else error
        mistake = _of_arguments(cls, str(cause), given) if isinstance(cause, TypeError) else None
        if mistake is None and isinstance(error, SatsegError | MemoryError):
            raise
        mistake = mistake or ConfigError(f"the dataset's constructor failed: {type(error).__name__} {error}.")
        raise type(mistake)(f"{origin}: dataset cannot be built: {mistake}" if origin else str(mistake)) from error
    check_complete(datamodule)
    return datamodule


def _of_part(error: InstantiationException) -> ConfigError | None:
    """Return the error of the options of a part of the dataset, such as its split; None if it is another one."""
    place = re.search(r"full_key: (?:dataset\.)?(\S+)", str(error))
    message = str(error.__cause__) if isinstance(error.__cause__, TypeError) else ""
    if place and (found := REFUSED.match(message)):
        return ConfigError(f"there is no option dataset.{place[1]}.{found[2]}: {found[1]} does not take it.")
    if place and (found := LACKING.match(message)):
        names = re.findall(r"'(\w+)'", found[2])
        return ConfigError(f"dataset.{place[1]}.{names[0]} is missing: {found[1]} needs it.")
    return None


def _of_arguments(cls: type, message: str, given: Mapping[str, Any]) -> SatsegError | None:
    """Return the error of a constructor's arguments in the words of the configuration; None if it is another one."""
    constructors = [base.__qualname__ for base in cls.__mro__]
    loading = {name for base in own_bases(cls) for name in _options(base)}
    pass_on = f"accept **loading in its constructor, and pass it on by super().__init__(**loading); {GUIDE}."
    if (found := REFUSED.match(message)) and found[1] in constructors:
        name = found[2]
        if name in loading:
            return ExtensionError(f"{full_name(cls)} does not take {name}, an option of all datasets: {pass_on}")
        return _unknown(cls, name) if name in given else None
    if (found := LACKING.match(message)) and found[1] in constructors:
        names = re.findall(r"'(\w+)'", found[2])
        if passed := [name for name in names if name in given]:
            return ExtensionError(f"{full_name(cls)} does not pass {passed[0]} to its base class: {pass_on}")
        if "split" in names:
            return ConfigError("dataset.split is missing: add `defaults: [base]` to the YAML file of the dataset.")
        missing = ", ".join(f"dataset.{name}" for name in names)
        return ConfigError(
            f"{missing} {'is' if len(names) == 1 else 'are'} missing: {full_name(cls)} needs "
            f"{'it' if len(names) == 1 else 'them'}; give {'it' if len(names) == 1 else 'them'} in the YAML file of "
            "the dataset."
        )
    return None


def _options(cls: type) -> list[str]:
    if "__init__" not in vars(cls) or cls is object:
        return []
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = inspect.signature(vars(cls)["__init__"]).parameters.values()
    return [parameter.name for parameter in parameters if parameter.kind in kinds][1:]


def _unknown(cls: type, name: str) -> ConfigError:
    known = [option for base in cls.__mro__ for option in _options(base)]
    near = [f"dataset.{like}" for like in difflib.get_close_matches(name, known, n=3, cutoff=0.7)]
    hint = f"did you mean {' or '.join(near)}?" if near else f"{full_name(cls)} takes {', '.join(known)}."
    return ConfigError(f"there is no option dataset.{name}; {hint}")
