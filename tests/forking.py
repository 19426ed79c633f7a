"""A process that has imported the libraries, and starts commands as copies of itself: a third of the tests' time.

It reads a JSON line for each command and answers with the exit code. A copy imports satseg itself, has the arguments,
folder, environment and output of its own, and ends as a process ends.
"""

import atexit
import contextlib
import gc
import json
import os
import runpy
import sys
import threading
import traceback
from typing import Any

LIBRARIES = (
    "captum.attr",
    "hydra.main",
    "matplotlib.pyplot",
    "pytorch_lightning",
    "rasterio",
    "scipy.ndimage",
    "segmentation_models_pytorch",
    "shapely",
    "timm",
    "torch",
    "torchmetrics",
)
NOT_SHARED = "wandb"  # makes a temporary folder when it is imported, which the first copy to end would remove


def run(asked: dict[str, Any]) -> int:
    """Be the command; return its exit code."""
    os.setsid()
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    for number, (path, mode) in enumerate(
        (("/dev/null", os.O_RDONLY), (asked["out"], os.O_WRONLY), (asked["err"], os.O_WRONLY))
    ):
        os.dup2(os.open(path, mode), number)
    sys.stdin, sys.stdout, sys.stderr = (open(n, "r" if n == 0 else "w", closefd=False) for n in range(3))  # noqa: SIM115
    sys.argv = [asked["module"], *asked["options"]]
    sys.path[0] = asked["cwd"]
    code = 0
    try:
        runpy.run_module(asked["module"], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    return code


def main() -> None:
    sys.modules[NOT_SHARED] = None  # type: ignore[assignment]
    for name in LIBRARIES:
        __import__(name)
    del sys.modules[NOT_SHARED]
    gc.freeze()
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                code = run(json.loads(line))
            finally:
                os._exit(code)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
