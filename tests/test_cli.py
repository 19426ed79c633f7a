"""The command line: paths as people have them, types, one-line errors."""

from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from satseg.cli import describe, quote_paths


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0\n\r"), min_size=1))
@example("/data/Tile (1), a=b/Größe 北京.tif")
@example("it's here\\")
@example("a\\'b")
@example("${oc.env:HOME}")
@example("3")
@example("true")
def test_a_path_reaches_the_configuration_unchanged(path: str) -> None:
    if path[0] in "'\"" or path in ("null", "???") or path.startswith("~"):
        return  # quoted by the user already, or a value with a meaning of its own
    (argument,) = quote_paths([f"dataset.root={path}"])
    (override,) = OverridesParser.create().parse_overrides([argument])
    cfg = OmegaConf.create({"dataset": {"root": None}})
    OmegaConf.update(cfg, override.key_or_group, override.value())
    assert cfg.dataset.root == path


def test_a_sweep_over_paths_quotes_each(tmp_path: Path) -> None:
    there = tmp_path / "a, b.safetensors"
    there.touch()
    swept, one = quote_paths(["-m", "backbone.weights=none,/x (1)/y.pth", f"init_from={there}"])[1:]
    assert swept == "backbone.weights='none','/x (1)/y.pth'" and one == f"init_from='{there}'"


@pytest.mark.parametrize(
    "argument",
    [
        "loss=dice,ce_dice",
        "optimizer.lr=0.1",
        "--help",
        "-m",
        "checkpoint=[a,b]",
        "dataset.root='a b'",
        "init_from=null",
    ],
)
def test_everything_else_is_left_alone(argument: str) -> None:
    assert quote_paths([argument]) == [argument]


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(12, "Cannot allocate memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("std::bad_alloc"),
    ],
)
def test_memory_that_runs_out_anywhere_is_one_line(error: Exception) -> None:
    wrapped = ValueError("a library's own")
    wrapped.__cause__ = error
    for raised in (error, wrapped):
        assert str(describe(raised)).startswith("ResourceError: Memory ran out: let the command have more, or ")
    assert describe(ValueError("memory")) is None
