"""Commands, options, links and scripts in the README and the documentation exist."""

import re
import shlex
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from satseg.cli.quoting import quote_paths
from satseg.config import CONFIG_DIR

ROOT = Path(__file__).resolve().parents[1]
TEXTS = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "experiments").glob("*/README.md")),
    ROOT / "scripts/demo.sh",
]
COMMANDS = sorted(
    {
        re.split(r"\s{3,}|\s+#", line.strip())[0]
        for text in TEXTS
        for line in text.read_text(encoding="utf-8").splitlines()
        if line.strip().startswith("python -m satseg.") and "--config-dir" not in line  # see test_extending.py
    }
)


def test_the_documentation_contains_commands() -> None:
    assert len(COMMANDS) >= 10


@pytest.mark.parametrize("command", COMMANDS)
def test_documented_commands_compose(command: str) -> None:
    name, *options = shlex.split(command.removeprefix("python -m satseg."))
    if "-m" in options:  # the first run of a sweep
        options = [re.sub(r"=([^,\[{]+),.*", r"=\1", o) for o in options if o != "-m"]
    options = [o for o in quote_paths(options) if not o.startswith(("--", "$@"))]
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = compose(name, options, return_hydra_config=True)
    assert cfg.runs_dir == "runs"


@pytest.mark.parametrize("text", TEXTS, ids=lambda t: str(t.relative_to(ROOT)))
def test_linked_files_and_scripts_exist(text: Path) -> None:
    content = text.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#]+)\)", content)
    assert all((text.parent / link).exists() for link in links if "://" not in link)
    assert all((ROOT / script).is_file() for script in re.findall(r"\b(scripts/\w+\.(?:sh|py))", content))
