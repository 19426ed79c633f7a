"""Datasets of the user's own class: what the class must be like, and one-line errors where it is not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from types import FunctionType
from typing import Any

from satseg.data.samples import Sample
from satseg.errors import DataError, ExtensionError, SatsegError, line_within

GUIDE = "see docs/extend.md"
ASSIGNABLE = ("patch_size", "batch_size")  # computed unless set


def full_name(cls: type) -> str:
    """Return a class's name with its module."""
    return f"{cls.__module__}.{cls.__qualname__}"


def own_bases(cls: type) -> list[type]:
    """Return the classes of satseg that a class consists of, the most derived first."""
    return [base for base in cls.__mro__ if base.__module__.partition(".")[0] == "satseg"]


def _inherited(cls: type, name: str) -> Any:
    """Return what satseg's classes define by a name, unless a class of the user's replaces it; else None."""
    owner = next((base for base in cls.__mro__ if name in vars(base)), None)
    return vars(owner)[name] if owner in own_bases(cls) else None


def check_attribute(cls: type, name: str) -> None:
    """Check that an attribute to be set hides no method or property of satseg's classes.

    Raises:
        ExtensionError: If it does; names the attribute and the class.
    """
    hidden = _inherited(cls, name)
    is_method = isinstance(hidden, FunctionType)
    if name not in ASSIGNABLE and (is_method or isinstance(hidden, property | cached_property)):
        kind = "method" if is_method else "property"
        raise ExtensionError(
            f"{full_name(cls)} sets self.{name}, but {name} is a {kind} of {own_bases(cls)[0].__name__}: give the "
            "attribute another name."
        )


def check_overrides(cls: type) -> None:
    """Check that a class replaces methods of satseg's classes by methods, and properties by properties or values.

    Raises:
        ExtensionError: If not; names the attribute and the class.
    """
    bases = [base for base in own_bases(cls) if base is not cls]
    base = bases[0].__name__
    for name, own in vars(cls).items():
        hidden = next((vars(ours)[name] for ours in bases if name in vars(ours)), None)
        if isinstance(hidden, FunctionType) and not (callable(own) or isinstance(own, classmethod)):
            raise ExtensionError(
                f"{full_name(cls)}.{name} is no method, but {name}() is one of {base}: make it a method, or give it "
                "another name."
            )
        is_property = isinstance(hidden, property | cached_property) or name == "root"
        if is_property and isinstance(own, FunctionType):
            raise ExtensionError(
                f"{full_name(cls)}.{name} is a method, but {name} is a property of {base}: add @property, or give it "
                "another name."
            )


def check_complete(dataset: Any) -> None:
    """Check that a dataset has called the constructor of its base class, and has a folder.

    Raises:
        ExtensionError: If not.
    """
    cls = type(dataset)
    if "split" not in vars(dataset):
        raise ExtensionError(
            f"{full_name(cls)} does not call the constructor of its base class: begin its own with "
            f"super().__init__(**loading); {GUIDE}."
        )
    if "root" not in vars(dataset) and not hasattr(cls, "root"):
        raise missing(cls, "self.root, the folder of the data")


def missing(cls: type, what: str) -> ExtensionError:
    """Return the error of a class that lacks something."""
    return ExtensionError(f"{full_name(cls)} must define {what}; {GUIDE}.")


@contextmanager
def explained(cls: type, what: str) -> Iterator[None]:
    """Turn an exception of the user's own code into one line with its place; others pass unchanged.

    Args:
        cls: The user's class.
        what: The part of it that runs in the block, such as `samples()`.

    Raises:
        ExtensionError: Names the class, the exception and the line of the user's code.
    """
    try:
        yield
    except (SatsegError, MemoryError):
        raise
    except Exception as error:
        line = None if own_bases(cls)[:1] == [cls] else line_within(error, cls.__module__)
        if line is None:
            raise
        reason = f"{type(error).__name__} {error}".strip()
        raise ExtensionError(f"{what} of {full_name(cls)} failed: {reason} ({line})") from error


def checked_samples(cls: type, samples: Iterable[Sample]) -> list[Sample]:
    """Return samples as a list, checked to be some, with names of their own.

    Args:
        cls: The class whose `samples()` returned them.
        samples: Its samples.

    Raises:
        ExtensionError: If they are no samples, or two have the same name.
        DataError: If there is none.
    """
    found = list(samples) if isinstance(samples, Iterable) else None
    if found is None or not all(isinstance(sample, Sample) for sample in found):
        other = next((s for s in found or () if not isinstance(s, Sample)), samples)
        within = "" if found is None else " in it"
        raise ExtensionError(
            f"samples() of {full_name(cls)} returned {_article(other)}{within}: a list of satseg.data.Sample was "
            f"expected; {GUIDE}."
        )
    if not found:
        raise DataError(
            f"samples() of {full_name(cls)} found no sample: check dataset.root, and how it looks for them."
        )
    by_name: dict[str, Sample] = {}
    for sample in found:
        if not isinstance(sample.name, str):
            raise ExtensionError(
                f"samples() of {full_name(cls)} gives the name {sample.name!r}, {_article(sample.name)}: names are "
                "texts, such as those of files."
            )
        first = by_name.setdefault(sample.name, sample)
        if first is not sample:
            raise ExtensionError(
                f"samples() of {full_name(cls)} gives two samples the name {sample.name}, {first.file} and "
                f"{sample.file}: give each a name of its own."
            )
    return found


def _article(value: Any) -> str:
    kind = type(value).__name__
    return "nothing" if value is None else f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"
