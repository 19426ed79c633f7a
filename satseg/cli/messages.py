"""Messages for errors that the user can fix."""

from __future__ import annotations

import difflib
import re

from hydra.errors import HydraException, InstantiationException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, ListConfig
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from satseg.config import CONFIG_DIR
from satseg.data.workers import worker_lost_error
from satseg.errors import SatsegError, causes, is_out_of_memory
from satseg.runs.renamed import RENAMED

HINTS = {  # shown after the choices of a group
    "backbone": "; any other of timm's by its name, backbone.encoder_name={choice}",
    "hydra/launcher": "; more come with satseg[joblib] and satseg[submitit]",
}
UNKNOWN_TARGET = re.compile(r"Error locating target '([^']+)'.*?(?:full_key: (\S+))?$", re.DOTALL)
MEMORY_ADVICE = "provide more, or reduce its use, such as by a smaller batch_size or fewer workers."


def describe(error: BaseException) -> str | None:
    """Return a line for an error that the user can fix, with its details below; None for other errors."""
    for cause in causes(error):
        if isinstance(cause, SatsegError):
            return "\n    ".join([f"{type(cause).__name__}: {_one_line(cause)}", *cause.below])
    if lost := worker_lost_error(error):
        return f"{type(lost).__name__}: {lost}"
    if any(is_out_of_memory(cause) for cause in causes(error)):
        return f"ResourceError: Memory ran out: {MEMORY_ADVICE}"
    if isinstance(error, MissingConfigException) and "/" in (error.missing_cfg_file or ""):
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        options = error.options or sorted(path.stem for path in (CONFIG_DIR / group).glob("*.yaml"))
        hint = HINTS.get(group, "").format(choice=choice)
        return f"ConfigError: {group}={choice} does not exist; choose one of {', '.join(options)}{hint}."
    if isinstance(error, OverrideParseException):
        return (
            f"ConfigError: {' '.join(error.override.split())} cannot be read as an option: put single quotes around "
            "texts with spaces, commas, =, brackets or parentheses, and double quotes around the whole option, as in "
            "\"dataset.classes=['low (1)',high]\"."
        )
    for cause in causes(error):
        if isinstance(cause, ConfigAttributeError | ConfigKeyError):
            return _unknown_option(cause)
    if isinstance(error, InstantiationException) and (found := UNKNOWN_TARGET.search(str(error))):
        return _unknown_target(found[1], found[2], error)
    if isinstance(error, HydraException | OmegaConfBaseException):
        return f"ConfigError: {_one_line(error)}"
    return None


def _unknown_option(error: OmegaConfBaseException) -> str:
    key = str(error.full_key or error.key)
    parent = error.parent_node
    siblings = [str(k) for k in parent] if isinstance(parent, DictConfig) and not isinstance(parent, ListConfig) else []
    group, dot, name = key.rpartition(".")
    near = [group + dot + like for like in difflib.get_close_matches(name, siblings, n=3, cutoff=0.5) or siblings]
    hint = f"; did you mean {' or '.join(near)}" if near and len(near) <= 3 else f"; choose from {', '.join(near)}"
    return f"ConfigError: there is no option {key}{hint if near else ''}."


def _unknown_target(name: str, key: str | None, error: BaseException) -> str:
    where = f"{key}._target_" if key else "_target_"
    if name in RENAMED:
        return f"ConfigError: {where} names {name}, which is now {RENAMED[name]}: change the name."
    reason = _one_line(list(causes(error))[-1])
    return (
        f"ConfigError: {where} names {name}, which cannot be imported: {reason}. Check the spelling, and that its "
        "folder is on PYTHONPATH or its package installed."
    )


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
