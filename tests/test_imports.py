"""The import rule: one way, and light where it has to be."""

import ast
import os
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "satseg"
# Lowest first; a module imports from lower layers, or from its own room.
LAYERS = [
    {"errors", "lost_workers", "progress", "spec"},
    {
        "config",
        "documents",
        "quoting",
        "environment",
        "signatures",
        "slots",
        "runs",
        "named_models",
        "devices",
        "files",
        "locks",
        "ranks",
        "ending",
        "torch_file",
    },
    {"data", "models", "losses", "metrics", "visualization", "optimization", "mapping", "calibration", "estimation"},
    {"model_file", "checkpoint"},
    {"exporting", "inference"},
    {"evaluation", "score_files"},
    {"early", "next_steps", "task", "sharding", "callbacks", "reporting", "runconfig", "choosing", "attribution"},
    {
        "training",
        "cli",
        "pictures",
        "explaining",
        "diagnosis",
        "predicting",
        "sweeping",
        "comparing",
        "evaluating",
        "unseen",
        "publishing",
        "repeating",
        "fitting",
        "launching",
        "validation",
        "judging",
        "run_report",
    },
    {"serving"},
    {"rank"},
]
ENTRY_POINTS = {"train", "evaluate", "explain", "predict", "export", "app", "serve", "report", "validate"}
CHAINS = [
    ("errors", "spec", "lost_workers"),
    ("locks", "files", "documents", "config", "slots", "runs", "named_models"),
    ("ranks", "ending"),
    ("model_file", "checkpoint"),
    ("sharding", "task", "callbacks"),
    ("runconfig",),
    ("cli", "sweeping"),
    ("repeating", "publishing", "training", "fitting"),
    ("repeating", "unseen"),
    ("validation", "judging", "run_report", "training", "fitting"),
    ("pictures", "explaining"),
    ("diagnosis",),
    ("data", "mapping"),
    ("exporting", "inference"),
    ("evaluation", "score_files"),
]


def room(module: str) -> str:
    return module.split(".")[1]


def layer(name: str) -> int:
    return len(LAYERS) if name in ENTRY_POINTS else next(i for i, names in enumerate(LAYERS) if name in names)


def imports() -> list[tuple[str, str]]:
    found = []
    for path in PACKAGE.rglob("*.py"):
        importer = path.relative_to(PACKAGE).with_suffix("").parts[0]
        if importer == "__init__":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [f"{node.module}.{a.name}" for a in node.names] if node.module == "satseg" else [node.module]
            found += [(importer, room(n)) for n in names if n.startswith("satseg.")]
    return found


def allowed(importer: str, imported: str) -> bool:
    if importer == imported:
        return True
    same_chain = any(
        importer in chain and imported in chain and chain.index(imported) < chain.index(importer) for chain in CHAINS
    )
    return same_chain or layer(imported) < layer(importer)


def test_imports_point_one_way() -> None:
    found = imports()
    assert len(found) > 50
    assert not [f"{a} imports {b}" for a, b in found if not allowed(a, b)]


def test_help_does_not_import_torch(tmp_path: Path) -> None:
    for command in ENTRY_POINTS:
        code = (
            "import sys, runpy\n"
            f"sys.argv = ['{command}', '--help']\n"
            "try:\n"
            f"    runpy.run_module('satseg.{command}', run_name='__main__')\n"
            "except SystemExit:\n"
            "    pass\n"
            "sys.exit('torch' in sys.modules or 'pytorch_lightning' in sys.modules)"
        )
        environment = os.environ | {"PYTHONPATH": str(PACKAGE.parent)}
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert "dataset" in done.stdout


def test_predicting_does_without_what_trains_and_draws() -> None:
    """Each would take memory, and a second to start, of everyone who makes a map."""
    code = (
        "import sys, satseg.predict\n"
        "sys.exit(' '.join({'pytorch_lightning', 'torchmetrics', 'matplotlib'} & sys.modules.keys()) or 0)"
    )
    environment = os.environ | {"PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
