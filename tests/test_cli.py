"""The command line: quoting of paths, and errors of one line."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from commands import error_line
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hypothesis import example, given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from satseg.cli import describe
from satseg.cli.checks import CHOICES, VECTOR_SUFFIXES
from satseg.cli.quoting import quote_paths


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0\n\r"), min_size=1))
@example("/data/Tile (1), a=b/Größe 北京.tif")
@example("it's here\\")
@example("a\\'b")
@example("${oc.env:HOME}")
@example("3")
@example("true")
def test_a_path_reaches_the_configuration_unchanged(path: str) -> None:
    if path[0] in "'\"" or path in ("null", "???") or path.startswith("~"):
        return  # already quoted by the user, or a special value
    (argument,) = quote_paths([f"dataset.root={path}"])
    (override,) = OverridesParser.create().parse_overrides([argument])
    cfg = OmegaConf.create({"dataset": {"root": None}})
    OmegaConf.update(cfg, override.key_or_group, override.value())
    assert cfg.dataset.root == path


def test_a_sweep_over_paths_quotes_each(tmp_path: Path) -> None:
    path = tmp_path / "a, b.safetensors"
    path.touch()
    swept, one = quote_paths(["-m", "backbone.weights=none,/x (1)/y.pth", f"init_from={path}"])[1:]
    assert swept == "backbone.weights='none','/x (1)/y.pth'" and one == f"init_from='{path}'"
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
def test_lists_may_contain_paths_with_brackets_spaces_and_commas(argument: str, expected: object) -> None:
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


def test_an_existing_folder_named_like_a_list_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "[a,b]").mkdir()
    assert value_of("input=[a,b]") == "[a,b]" and value_of("input=[a,c]") == ["a", "c"]
    assert quote_paths(["-m", "input=[a,c],[c] 1/d.tif"])[1] == "input=['a','c'],'[c] 1/d.tif'"


def test_an_option_that_hydra_cannot_parse_gives_one_line_with_the_remedy() -> None:
    with pytest.raises(HydraException) as caught:
        OverridesParser.create().parse_overrides(["dataset.classes=[low (1),high]]"])
    message = str(describe(caught.value))
    assert message.startswith(
        "ConfigError: dataset.classes=[low (1),high]] cannot be read as an option: put single quotes"
    )
    assert "mismatched" not in message and "\n" not in message


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
def test_all_other_arguments_are_unchanged(argument: str) -> None:
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
def test_out_of_memory_errors_of_all_libraries_give_one_line(error: Exception) -> None:
    wrapped = ValueError("raised by a library")
    wrapped.__cause__ = error
    for raised in (error, wrapped):
        assert str(describe(raised)).startswith("ResourceError: Memory ran out: provide more, or ")
    assert describe(ValueError("memory")) is None


OUT_OF_MEMORY = """
import atexit, resource
from pathlib import Path
from satseg.cli import entry_point

kept = []

def fill(cfg):
    limit = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + (50 << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    while True:
        kept.append(bytes(1 << 20))

atexit.register(lambda: print(len(bytes(30 << 20))))  # clean-up needs memory
entry_point("validate")(fill)()
"""


def test_running_out_of_memory_gives_one_line_and_leaves_memory_for_clean_up() -> None:
    done = subprocess.run([sys.executable, "-c", OUT_OF_MEMORY], capture_output=True, text=True)
    line = "ResourceError: Memory ran out: provide more, or reduce its use"
    started, _, error = done.stderr.partition("\n")
    assert started.startswith("satseg validate: starting")
    assert done.returncode == 1 and error.startswith(line) and error.count("\n") == 1, done
    assert done.stdout == f"{30 << 20}\n"


COMMAND = """
from satseg.cli import entry_point

def send(cfg):
    {}

entry_point("validate")(send)()
"""


def test_a_closed_stdout_ends_a_command_quietly_but_other_broken_pipes_are_reported() -> None:
    cases = (
        ("print('map')", ""),
        ("print('map', flush=True)", ""),
        ("raise BrokenPipeError('of a worker')", "of a worker"),
    )
    for body, expected in cases:
        reader, writer = os.pipe()
        if not expected:
            os.close(reader)
        command = [sys.executable, "-c", COMMAND.format(body)]
        done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True)
        os.close(writer)
        errors = done.stderr.partition("\n")[2]  # after the first line, which names the command
        assert done.returncode == 1 and expected in errors and bool(errors) == bool(expected), done.stderr


RUN_WITHOUT_TORCH = """
import os, runpy, sys
sys.argv[1:], given = [], sys.argv[1:]
for line in given:
    command, *options = line.split("|")
    sys.argv = [command, *options]
    try:
        runpy.run_module(f"satseg.{command}", run_name="__main__")
    except SystemExit as end:
        assert end.code == 1, line
    found = {"torch", "pytorch_lightning", "timm", "segmentation_models_pytorch"} & sys.modules.keys()
    assert not found, f"{line} imports {found}"
"""


def test_invalid_options_give_one_line_before_torch_is_imported(tmp_path: Path) -> None:
    (tmp_path / "scene.tif").touch()
    (tmp_path / "empty").mkdir()
    expected = {
        "train|trainer.max_epoch=2": "there is no option trainer.max_epoch; did you mean trainer.max_epochs",
        "train|optimizer.lr=abc": "optimizer.lr=abc: expected a number",
        "train|seed=-1": "seed=-1: expected a whole number from 0",
        "train|dataset.patch_size=0": "dataset.patch_size=0: expected a whole number from 1 up",
        "train|dataset=folder|dataset.root=empty|dataset.scale=-1": "dataset.scale=-1: expected auto, or",
        "train|dataset=folder": "This dataset needs its folder: give dataset.root=",
        "train|dataset=folder|dataset.root=none, such": "dataset.root=none, such is not a folder",
        "train|init_from=gone": "gone does not exist",
        "train|resume_from=latest": "There is no unfinished run in",
        "train|from_run=latest": "There is no complete run in",
        "train|backbone.weights=gone.pth": "backbone.weights=gone.pth does not exist",
        "validate|dataset=dubai|dataset.root=gone": "dataset.root=gone is not a folder",
        "evaluate|split=tset": "split=tset: choose train, val, test.",
        "train|dataset=base": "dataset._target_ is missing",
        "evaluate|dataset=base": "dataset._target_ is missing",
        "evaluate|checkpoint=gone": "checkpoint=gone does not exist",
        "predict": "input= has no default",
        "predict|checkpoint=[]|input=scene.tif": "checkpoint=[]: give a run folder",
        "predict|checkpoint=scene.tif|input=gone.tif": "gone.tif is not there",
        "predict|checkpoint=scene.tif|input=empty": "input=empty: there is no image",
        "predict|checkpoint=[scene.tif,gone]|input=scene.tif": "checkpoint=gone does not exist",
        "predict|input=scene.tif|engine=tensorrt": "engine=tensorrt: choose auto, torch,",
        "predict|input=scene.tif|window=[1,2]": "window=[1, 2]: expected",
        "explain|checkpoint=scene.tif": "Give input= (a file, a folder or a pattern) or split=",
        "explain|checkpoint=scene.tif|report=true": "report=true needs labels: give a split",
        "export|format=tflite": "format=tflite: choose onnx,",
        "report|runs=gone*": "runs=gone* matches no folder",
        "serve|checkpoint=empty": "empty/model.safetensors does not exist",
        "app|tta=d8": "tta=d8: choose none, flips, d4.",
    }
    done = subprocess.run(
        [sys.executable, "-c", RUN_WITHOUT_TORCH, *expected], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == len(expected), done.stderr
    for line, (options, part) in zip(lines, expected.items(), strict=True):
        assert "Error: " in line and part in line, (options, line)
    assert {path.name for path in tmp_path.iterdir()} == {"scene.tif", "empty"}


def test_choices_checked_early_equal_those_in_the_code() -> None:
    from satseg.attribution import METHODS
    from satseg.inference.averaging import VIEWS
    from satseg.inference.engines.selection import NAMES
    from satseg.inference.products import PROBABILITIES
    from satseg.mapping.layers import DRIVERS
    from satseg.runtimes.request import SUFFIXES

    taken = {
        "engine": NAMES,
        "format": SUFFIXES,
        "method": (None, *METHODS),
        "probabilities": PROBABILITIES,
        "tta": VIEWS,
    }
    assert {key: CHOICES[key] for key in taken} == {key: tuple(choices) for key, choices in taken.items()}
    assert tuple(DRIVERS) == VECTOR_SUFFIXES


def test_if_there_are_only_unfinished_runs_the_error_says_how_to_resume(tmp_path: Path) -> None:
    (tmp_path / "runs/one/checkpoints").mkdir(parents=True)
    for name in ("config.yaml", "checkpoints/last.ckpt"):
        (tmp_path / "runs/one" / name).touch()
    assert "python -m satseg.train resume_from=latest" in error_line("evaluate", cwd=tmp_path)
