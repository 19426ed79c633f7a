"""The console script: `satseg COMMAND …` does the same as `python -m satseg.COMMAND …`."""

import os
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from satseg.__main__ import main

ROOT = Path(__file__).resolve().parents[1]


def run(code_or_module: str, *arguments: str, cwd: Path, is_code: bool = False) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c" if is_code else "-m", code_or_module, *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


def modules_with_a_command() -> set[str]:
    files = (ROOT / "satseg").rglob("*.py")
    commands = [path for path in files if "@entry_point(" in path.read_text(encoding="utf-8")]
    return {
        path.parent.name if path.stem == "__main__" else path.stem for path in commands if path.parent.name != "cli"
    }


def test_help_lists_every_command_without_importing_heavy_libraries(tmp_path: Path) -> None:
    script = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]["satseg"]
    module, _, function = script.partition(":")
    code = (
        f"import sys\nfrom {module} import {function}\n"
        f"try:\n    {function}()\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "sys.exit(' '.join({'torch', 'hydra', 'numpy'} & sys.modules.keys()) or 0)"
    )
    done = run(code, "--help", cwd=tmp_path, is_code=True)
    assert done.returncode == 0, done.stderr
    listed = {line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ")}
    assert listed == modules_with_a_command() and len(listed) == 9


def test_an_unknown_command_gives_an_error_of_one_line(tmp_path: Path) -> None:
    done = run("satseg", "trian", "dataset=folder", cwd=tmp_path)
    assert done.returncode == 2 and not done.stdout
    (line,) = done.stderr.splitlines()
    assert line.startswith("satseg: unknown command 'trian'; the commands are validate, train, ")
    none = run("satseg", cwd=tmp_path)
    assert none.returncode == 2 and "usage: satseg COMMAND" in none.stderr


@pytest.mark.parametrize(
    "arguments", [["--cfg", "job"], ["--cfg", "hydra"], ["dataset=folder", "dataset.root=/a (1), b", "--cfg", "job"]]
)
def test_a_command_gets_the_same_options_as_its_module(arguments: list[str], tmp_path: Path) -> None:
    both = [run(*name, *arguments, cwd=tmp_path) for name in (["satseg", "train"], ["satseg.train"])]
    assert both[0].returncode == both[1].returncode == 0, both[0].stderr
    assert both[0].stdout == both[1].stdout


def test_errors_and_exit_codes_equal_those_of_the_module(tmp_path: Path) -> None:
    both = [run(*name, "lr=abc", cwd=tmp_path) for name in (["satseg", "train"], ["satseg.train"])]
    assert both[0].returncode == both[1].returncode == 1
    assert both[0].stderr == both[1].stderr and "Traceback" not in both[0].stderr


def test_modules_in_the_current_folder_can_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["/where/the/script/lies"])
    monkeypatch.setattr(sys, "argv", ["satseg", "train"])
    monkeypatch.setattr(runpy, "run_module", lambda *_, **__: seen.append(sys.path[0]))
    main()
    assert seen == [str(tmp_path)]
