"""Checks of a run's recorded configuration against a schema derived from satseg's own configuration."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from satseg.config import CONFIG_DIR
from satseg.errors import CheckpointError, ConfigError, printable
from satseg.models.catalogue import is_trusted, resolve_target

# Options that only the user may set, not a record: what is connected to, started, trusted or written to.
USER_GROUPS = ("logger", "hydra", "experiment", "sweep")
USER_KEYS = ("runs_dir", "run_dir", "trusted_modules", "resume_from", "resume_sweep", "logger", "dataset.cache_dir")
# Options of Lightning's trainer that a record may set besides those in satseg's own configuration.
TRAINER_OPTIONS = (
    *("max_steps", "min_epochs", "min_steps", "limit_test_batches", "overfit_batches", "val_check_interval"),
    *("num_sanity_val_steps", "log_every_n_steps", "gradient_clip_algorithm", "benchmark", "detect_anomaly"),
    *("num_nodes", "sync_batchnorm", "strategy"),
)
HYDRA_KEYS = frozenset({"_target_", "_partial_", "_args_", "_recursive_", "_convert_"})
INSTANTIATION_KEYS = frozenset({"_recursive_", "_convert_"})  # how Hydra passes options to a class
# Types accepted besides those in satseg's configuration.
EXTRA_TYPES: dict[str, frozenset[type]] = {
    "from_run": frozenset({str}),
    "init_from": frozenset({str}),
    "backbone.adapt": frozenset({str, list}),
    "dataset.bands": frozenset({list}),
    "dataset.batch_size": frozenset({float}),
    "dataset.classes": frozenset({list}),
    "dataset.images": frozenset({dict}),
    "dataset.num_workers": frozenset({float}),
    "dataset.offset": frozenset({float}),
    "dataset.patch_size": frozenset({float}),
    "dataset.patches_per_epoch": frozenset({float}),
    "dataset.scale": frozenset({float}),
    "dataset.split.train": frozenset({float}),  # the name of a folder
    "loss.class_weights": frozenset({list}),
    "model.encoder_adapt": frozenset({list}),
    "trainer.deterministic": frozenset({str}),
    "trainer.devices": frozenset({list}),
    "trainer.max_epochs": frozenset({float}),
    "trainer.precision": frozenset({float}),
}
# Options that hold pixel values, such as NaN, the lowest float32 or 2**64 - 1.
PIXEL_VALUE_KEYS = frozenset({"dataset.nodata", "dataset.ignore_values.[]"})
USER_KEYED = frozenset({"dataset.classes", "dataset.mask_values"})  # mappings with keys and values chosen by the user
# Limits of numbers that determine memory, disk space or processes before anything else checks them.
RANGES = {
    "seed": (0, 2**32 - 1),
    "dataset.batch_size": (1, 2**16),
    "dataset.cache_gb": (0, 2**16),
    "dataset.num_workers": (0, 256),
    "dataset.patch_size": (1, 2**16),
    "dataset.patches_per_epoch": (1, 2**31),
    "dataset.scenes.*": (0, 2**16),
    "dataset.size": (1, 2**11),
    "log_every_epochs": (1, 2**31),
    "trainer.devices": (-1, 256),
    "trainer.num_nodes": (1, 2**16),
}
MAX_MAGNITUDE = 2**63  # limit of all other numbers
TYPE_NAMES = {bool: "true or false", float: "a number", str: "a string", list: "a list", dict: "a mapping"}


@dataclass
class Slot:
    """A place in the configuration that holds an object.

    Attributes:
        targets: Names of the classes that satseg's configuration uses there.
        extras: Hydra's other keys used with them, such as `_partial_`.
    """

    targets: set[str] = field(default_factory=set)
    extras: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Schema:
    """Contents of satseg's own configuration by key path; `*` stands for any name.

    Attributes:
        slots: Places that hold objects.
        kinds: Types of the values, among `bool`, `float`, `str`, `list`, `dict`.
        top: Top-level keys.
    """

    slots: Mapping[str, Slot]
    kinds: Mapping[str, frozenset[type]]
    top: frozenset[str]

    def child(self, place: str, key: str) -> str:
        """Return the path of a key below a place."""
        free = f"{place}.*" if place else "*"
        return free if free in self.slots or free in RANGES else f"{place}.{key}" if place else key


@cache
def schema() -> Schema:
    """Build the schema from satseg's training configuration, without options that only the user may set."""
    slots: dict[str, Slot] = {}
    kinds: dict[str, set[type]] = {}
    main = yaml.safe_load((CONFIG_DIR / "train.yaml").read_text(encoding="utf-8"))
    groups = {name for entry in main.pop("defaults") if isinstance(entry, dict) for name in entry}
    groups -= {name for name in groups if name.partition(" ")[0] == "override"} | set(USER_GROUPS)
    files: list[tuple[str, Any]] = [("", {k: v for k, v in main.items() if k not in ("hydra", *USER_KEYS)})]
    for path in sorted(path for group in groups for path in (CONFIG_DIR / group).rglob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        place = "" if text.startswith("# @package _global_") else ".".join(path.parent.relative_to(CONFIG_DIR).parts)
        files.append((place, yaml.safe_load(text)))
    objects = {place for place, content in files if isinstance(content, dict) and "_target_" in content}
    for place, content in files:
        for found, value in _places(place, content or {}, objects):
            if isinstance(value, dict) and "_target_" in value:
                slot = slots.setdefault(found, Slot())
                slot.targets.add(value["_target_"])
                slot.extras.append({k: v for k, v in value.items() if k in HYDRA_KEYS - {"_target_"}})
            kinds.setdefault(found, set()).update(_kinds(value))
    return Schema(slots, {k: frozenset(v) for k, v in kinds.items()}, frozenset({*files[0][1], *groups}))


def _places(place: str, value: Any, objects: Collection[str]) -> Iterator[tuple[str, Any]]:
    """Yield all key paths with their values; in a mapping of objects only, any name is allowed."""
    yield place, value
    if not isinstance(value, dict) or place in USER_KEYED:
        return
    own = {k: v for k, v in value.items() if k not in HYDRA_KEYS | {"defaults"}}
    free = bool(own) and "_target_" not in value and place not in objects  # a file may extend the object of another
    free = free and all(isinstance(v, dict) and "_target_" in v for v in own.values())
    for key, child in own.items():
        yield from _places(".".join(filter(None, (place, "*" if free else str(key)))), child, objects)


def _kinds(value: Any) -> set[type]:
    if isinstance(value, str) and "${" in value:  # an interpolation
        return {str}
    return {kind for kind in (bool, float, str, list, dict) if _is(value, kind)}


def _is(value: Any, kind: type) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, kind)


def checked_record(record: Mapping[str, Any], path: Path, trusted_modules: Collection[str] = ()) -> dict[str, Any]:
    """Check a run's record; return it without unknown keys and options that only the user may set.

    Args:
        record: The record as plain data.
        path: Path of the record, for errors.
        trusted_modules: The user's own modules, whose classes the record may name wherever the schema has objects.

    Raises:
        ConfigError: If a class, key or value is not allowed at its place.
    """
    known = schema()
    kept = {key: value for key, value in record.items() if key in known.top}
    for name in USER_KEYS:
        group, _, option = name.partition(".")
        if option and isinstance(kept.get(group), dict) and option in kept[group]:
            kept[group] = kept[group] | {option: None}
    if isinstance(kept.get("trainer"), dict) and kept["trainer"].get("_target_") in known.slots["trainer"].targets:
        options = {key for key in kept["trainer"] if key in TRAINER_OPTIONS or f"trainer.{key}" in known.kinds}
        kept["trainer"] = {k: v for k, v in kept["trainer"].items() if k in options | HYDRA_KEYS}
    check = _Check(path, tuple(trusted_modules), known)
    for key, value in kept.items():
        check(value, key, str(key))
    return kept


@dataclass(frozen=True)
class _Check:
    path: Path
    trusted_modules: tuple[str, ...]
    known: Schema

    def __call__(self, value: Any, place: str, name: str, is_own: bool = False) -> None:
        """Check a value and all values inside it.

        Args:
            value: Plain data.
            place: Path in the schema.
            name: Path in the record.
            is_own: Whether it is an option of a trusted class, which checks its own types.
        """
        if isinstance(value, str) and "${" in value:
            raise self._refusal(name, "holds an interpolation, which is not allowed in records")
        if isinstance(value, float | int) and not isinstance(value, bool) and not self._is_pixel(value, place):
            self._check_number(value, "" if is_own else place, name)
        if isinstance(value, list):
            for item in value:
                self(item, f"{place}.[]", name, is_own)
        if isinstance(value, dict) and (HYDRA_KEYS & value.keys() or (place in self.known.slots and not is_own)):
            is_own = self._check_class(value, place, name, is_own)
        elif not is_own:
            self._check_kind(value, place, name)
        for key, child in value.items() if isinstance(value, dict) else ():
            if not is_own:
                self._check_key(key, place, name)
            if key not in HYDRA_KEYS:
                self(child, self.known.child(place, str(key)), f"{name}.{key}"[:200], is_own)

    def _check_class(self, node: dict[Any, Any], place: str, name: str, is_own: bool) -> bool:
        """Check an object's class and Hydra's keys; return True if the class is from a trusted module."""
        slot, target = self.known.slots.get(place), node.get("_target_")
        extras = {key: value for key, value in node.items() if key in HYDRA_KEYS - {"_target_"}}
        if slot is None and not is_own:
            raise self._refusal(name, "names a class where satseg's configuration has a plain value")
        if not isinstance(target, str):
            raise self._refusal(name, "names no class in _target_")
        is_known = slot is not None and target in slot.targets
        if not is_known:  # users may choose how Hydra passes options to their own classes
            extras = {key: value for key, value in extras.items() if key not in INSTANTIATION_KEYS}
        if extras not in (slot.extras if slot else [{}]):
            keys = ", ".join(sorted(extras)) or "no _partial_"
            raise self._refusal(name, f"has {keys}, unlike satseg's configuration")
        if is_known:
            return False
        if not is_trusted(target.rpartition(".")[0], self.trusted_modules):
            raise self._refusal(
                name,
                f"names {target[:100]}, which is not allowed there; if it is your own, add its module or package, "
                "for example 'trusted_modules=[my_package]'",
            )
        try:
            resolve_target(target, self.trusted_modules, source=f"{self.path}: {name}")
        except CheckpointError as error:
            raise ConfigError(str(error)) from error
        return True

    @staticmethod
    def _is_pixel(value: float, place: str) -> bool:
        return place in PIXEL_VALUE_KEYS and (isinstance(value, float) or -MAX_MAGNITUDE <= value < 2 * MAX_MAGNITUDE)

    def _check_number(self, value: float, place: str, name: str) -> None:
        least, most = RANGES.get(place, (-MAX_MAGNITUDE, MAX_MAGNITUDE))
        if not math.isfinite(value) or not least <= value <= most:
            raise self._refusal(name, f"is {str(value)[:40]}; expected a number from {least} to {most}")

    def _check_kind(self, value: Any, place: str, name: str) -> None:
        """Check the type of a value against the schema."""
        kinds = self.known.kinds.get(place, frozenset()) | EXTRA_TYPES.get(place, frozenset())
        if value is None or not kinds or kinds & _kinds(value):
            return
        if place in self.known.slots and dict in kinds:
            raise self._refusal(name, "names no class")
        expected = " or ".join(TYPE_NAMES[kind] for kind in TYPE_NAMES if kind in kinds)
        raise self._refusal(name, f"is {str(value)[:60]}; expected {expected}")

    def _check_key(self, key: Any, place: str, name: str) -> None:
        if key is None or not (isinstance(key, str) or place in USER_KEYED):
            raise self._refusal(name, f"has the key {str(key)[:40]}, which is not a string; remove it")

    def _refusal(self, name: str, what: str) -> ConfigError:
        text = f"{self.path}: {name} {what}."
        return ConfigError(printable(text))
