"""The group `loss` of the configuration: its form, and the criterion that it describes."""

from __future__ import annotations

import difflib
import inspect
import pydoc
from collections.abc import Mapping
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf, open_dict
from pytorch_lightning.utilities.seed import isolate_rng

from satseg.errors import ConfigError
from satseg.losses import WeightedSum
from satseg.signatures import first_mismatch

HYDRA_KEYS = frozenset({"_target_", "_partial_", "_args_", "_recursive_", "_convert_"})


def imply_partial(loss: Any) -> None:
    """Set `_partial_` of all terms, in place, as `WeightedSum` builds them itself."""
    terms: Any = loss.get("terms") if OmegaConf.is_dict(loss) else None
    for term in terms.values() if OmegaConf.is_dict(terms) else ():
        if OmegaConf.is_dict(term) and "_target_" in term:
            with open_dict(term):
                term["_partial_"] = True


def check_loss(loss: DictConfig) -> None:
    """Build the criterion once without keeping it, to report mistakes before any image is read.

    Raises:
        ConfigError: If it cannot be built.
    """
    with isolate_rng(include_cuda=False):
        build_criterion(loss)


def build_criterion(loss: DictConfig) -> Any:
    """Build the criterion; class weights are set later, as they need the data.

    Raises:
        ConfigError: If the configuration does not describe one; names the option.
    """
    node: Any = OmegaConf.to_container(loss, resolve=True) if OmegaConf.is_config(loss) else loss
    made = _class(node, "loss", example="satseg.losses.WeightedSum")
    if made is not None and not hasattr(made, "set_class_weights"):
        raise ConfigError(
            f"loss._target_ names {node['_target_']}; expected satseg.losses.WeightedSum, with the loss as one of its "
            "terms: see docs/extend.md."
        )
    if made is WeightedSum:
        _check_options(made, node, "loss")
        terms = node.get("terms")
        if not isinstance(terms, dict) or not terms:
            raise ConfigError(f"loss.terms is {terms or 'empty'}; expected a name and a _target_ for each loss.")
        for name, term in terms.items():
            place = f"loss.terms.{name}"
            _check_options(_class(term, place, example="my_package.losses.MyLoss"), term, place)
    return instantiate(loss, class_weights=None, _convert_="all")


def try_criterion(criterion: Any, num_classes: int, device: torch.device | str) -> None:
    """Call every term once before training; leaves the state of random generators as it was.

    Raises:
        ConfigError: If a term fails, or does not return a finite scalar with a gradient.
    """
    if isinstance(criterion, WeightedSum):
        with isolate_rng(include_cuda=False):
            criterion.try_terms(num_classes, device)


def _class(node: Any, place: str, example: str) -> Any:
    """Return the class that a description of an object names; None if it cannot be imported.

    Raises:
        ConfigError: If it names no class.
    """
    if not isinstance(node, Mapping):
        raise ConfigError(f"{place} is {'null' if node is None else node}; expected _target_: {example}.")
    if not isinstance(node.get("_target_"), str):
        near = difflib.get_close_matches("_target_", [str(key) for key in node], n=1)
        hint = f"rename {near[0]}." if near else f"add the class, as in _target_: {example}."
        raise ConfigError(f"{place} has no _target_: {hint}")
    try:
        made = pydoc.locate(node["_target_"])
    except pydoc.ErrorDuringImport:  # reported by Hydra, when it builds the object
        return None
    if made is not None and not callable(made):
        raise ConfigError(f"{place}._target_ names {node['_target_']}, a {type(made).__name__}; expected a class.")
    return made


def _check_options(made: Any, node: Mapping[str, Any], place: str) -> None:
    """Check the options of an object against the constructor of its class.

    Raises:
        ConfigError: If one is unknown, missing, or has a wrong type.
    """
    options = {key: value for key, value in node.items() if key not in HYDRA_KEYS}
    found = first_mismatch(made, options) if isinstance(made, type) else None
    if found is not None:
        raise ConfigError(f"{place}.{found[0]} {found[1]}")
    missing = [] if made is None or "_args_" in node else _missing(made, options)
    if missing and not isinstance(made, type):
        raise ConfigError(f"{place}._target_ names the function {made.__name__}; expected a class: see docs/extend.md.")
    if missing:
        raise ConfigError(f"{place}.{missing[0]} is missing: {made.__name__} needs it.")


def _missing(made: Any, options: Mapping[str, Any]) -> list[str]:
    """Return the options without a default that are not given; class weights are not an option."""
    return [
        name
        for name, parameter in inspect.signature(made).parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        and parameter.default is parameter.empty
        and name not in (*options, "weight")
    ]
