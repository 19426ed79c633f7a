"""The console script: `satseg train …` runs a command as `python -m satseg.train …` does."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

COMMANDS = {
    "validate": "check a dataset before training",
    "train": "train, evaluate and save one model, or sweep over many",
    "evaluate": "score a model on a split",
    "predict": "map scenes of any size",
    "explain": "show what a prediction rests on",
    "export": "write a model for other runtimes",
    "report": "compare runs",
    "app": "use a model in a browser",
    "serve": "serve a model over HTTP",
}


def main() -> None:
    """Run the command that the first argument names; exit with 2 if it names none."""
    name = sys.argv[1] if len(sys.argv) > 1 else None
    if name is None or name in ("-h", "--help"):
        print(_usage(), file=sys.stdout if name else sys.stderr)
        sys.exit(0 if name else 2)
    if name not in COMMANDS:
        print(f"satseg: unknown command {name!r}; the commands are {', '.join(COMMANDS)}.", file=sys.stderr)
        sys.exit(2)
    del sys.argv[1]
    folder = str(Path.cwd())
    if not sys.flags.safe_path and folder not in sys.path:  # as by `python -m`: the user's own modules are there
        sys.path.insert(0, folder)
    runpy.run_module(f"satseg.{name}", run_name="__main__", alter_sys=True)


def _usage() -> str:
    commands = "\n".join(f"  {name:<10}{what}" for name, what in COMMANDS.items())
    return f"usage: satseg COMMAND [OPTION=VALUE ...]\n\n{commands}\n\nsatseg COMMAND --help lists a command's options."


if __name__ == "__main__":
    main()
