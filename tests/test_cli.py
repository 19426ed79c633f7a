"""The command line: paths as people have them, types, one-line errors."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hypothesis import example, given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from satseg.cli import describe
from satseg.quoting import quote_paths


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
    assert quote_paths(["-m", "dataset.images=a/{train,val},b"])[1] == "dataset.images='a/{train,val}','b'"


PATHS = st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0\n\r,[]{}'\"\\"), min_size=1)


def value_of(argument: str) -> object:
    (quoted,) = quote_paths([argument])
    (override,) = OverridesParser.create().parse_overrides([quoted])
    return override.value()


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("input=[site] 1/a.tif", "[site] 1/a.tif"),
        ("input={x}/a (1).tif", "{x}/a (1).tif"),
        ("input=[a", "[a"),
        ("input=[/x/[site] 1/*.tif, b.tif]", ["/x/[site] 1/*.tif", "b.tif"]),
        ("dataset.vectors.attribute=Land use (2020), main", "Land use (2020), main"),
        ("runs=[x (1),'y, z']", ["x (1)", "y, z"]),
        ("checkpoint=[lr=1/a.ckpt,it's=2]", ["lr=1/a.ckpt", "it's=2"]),
        ("input=[https://h/x?a=1&b=2,c]", ["https://h/x?a=1&b=2", "c"]),
        ("dataset.images={B02: [s]2/*_B02 (1).jp2, B03: 'a, b'}", {"B02": "[s]2/*_B02 (1).jp2", "B03": "a, b"}),
        ("input=[{B1: a=1, B2: b (2)},c]", [{"B1": "a=1", "B2": "b (2)"}, "c"]),
    ],
)
def test_lists_and_what_looks_like_one_hold_paths_as_people_have_them(argument: str, expected: object) -> None:
    assert value_of(argument) == expected


def is_plain_text(path: str) -> bool:
    special = path.lower() in ("null", "???", "true", "false") or re.fullmatch(
        r"[\d.+_-]*(e[\d+_-]+|inf|nan)?", path, re.I
    )
    return path == path.strip() and not path.startswith("~") and not special


@given(st.lists(PATHS.filter(is_plain_text), min_size=1, max_size=3))
@example(["a (1)", "b=c", "it is", "$x", "*?"])
def test_every_path_of_a_list_reaches_the_configuration(paths: list[str]) -> None:
    assert value_of(f"input=[{','.join(paths)}]") == paths


def test_a_folder_that_is_there_is_no_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "[a,b]").mkdir()
    assert value_of("input=[a,b]") == "[a,b]" and value_of("input=[a,c]") == ["a", "c"]
    assert quote_paths(["-m", "input=[a,c],[c] 1/d.tif"])[1] == "input=['a','c'],'[c] 1/d.tif'"


def test_what_hydra_cannot_read_is_one_line_with_the_way_to_write_it() -> None:
    with pytest.raises(HydraException) as caught:
        OverridesParser.create().parse_overrides(["dataset.classes=[low (1),high]]"])
    said = str(describe(caught.value))
    assert said.startswith(
        "ConfigError: dataset.classes=[low (1),high]] cannot be read as an option: put single quotes"
    )
    assert "mismatched" not in said and "\n" not in said


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
        RuntimeError("could not execute a primitive"),
    ],
)
def test_memory_that_runs_out_anywhere_is_one_line(error: Exception) -> None:
    wrapped = ValueError("a library's own")
    wrapped.__cause__ = error
    for raised in (error, wrapped):
        assert str(describe(raised)).startswith("ResourceError: Memory ran out: let the command have more, or ")
    assert describe(ValueError("memory")) is None


FULL = """
import atexit, resource
from pathlib import Path
from satseg.cli import entry_point

kept = []

def fill(cfg):
    limit = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + (50 << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    while True:
        kept.append(bytes(1 << 20))

atexit.register(lambda: print(len(bytes(30 << 20))))  # what tidies up needs some
entry_point("validate")(fill)()
"""


def test_where_no_memory_is_left_one_line_tells_of_it_and_there_is_some_for_the_end() -> None:
    done = subprocess.run([sys.executable, "-c", FULL], capture_output=True, text=True)
    line = "ResourceError: Memory ran out: let the command have more, or make less of it at once"
    assert done.returncode == 1 and done.stderr.startswith(line) and done.stderr.count("\n") == 1, done
    assert done.stdout == f"{30 << 20}\n"
