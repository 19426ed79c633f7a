"""A process that has imported the libraries, and starts commands as copies of itself: most of the tests' time is saved.

For each command it is sent what to run, as JSON, with the command's streams and a socket on which it tells the
process's number and, later, how it ended. A copy imports satseg itself, has the arguments, folder, environment and
streams of its own, and ends as a process ends.
"""

import atexit
import contextlib
import fcntl
import gc
import inspect
import json
import os
import runpy
import select
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

LIBRARIES = (
    "captum.attr",
    "fastapi",
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
    "uvicorn",
)
NOT_SHARED = "wandb"  # makes a temporary folder when it is imported, which the first copy to end would remove
LARGEST_BYTES = 1 << 20  # of what is sent
START = inspect.signature(subprocess.Popen._execute_child)


class Handed(subprocess.Popen[Any]):
    """A process that is started as `subprocess.Popen` starts it, but as a copy of another that is told what to be."""

    def hand_over(self, asked: dict[str, Any], files: list[int]) -> int | None:
        """Have a copy be the command; return its number, or None where there is no copy for this one."""
        raise NotImplementedError

    def _execute_child(self, *given: Any) -> None:
        named = START.bind(self, *given).arguments
        streams = [
            own if (own := named[name]) != -1 else number
            for number, name in enumerate(("p2cread", "c2pwrite", "errwrite"))
        ]
        passed = [int(file) for file in named["pass_fds"]]
        asked = {
            "command": [str(part) for part in named["args"]],
            "cwd": str(named["cwd"] or Path.cwd()),
            "environment": dict(named["env"] if named["env"] is not None else os.environ),
            "leads": named["start_new_session"],
            "passed": passed,
        }
        number = self.hand_over(asked, [*streams, *passed])
        if number is None:
            super()._execute_child(*given)
            return
        self.pid, self._child_created = number, True
        pipes = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
        self._close_pipe_fds(*(named[name] for name in pipes))


class FromSpare(Handed):
    """What a command starts: as one of the copies that were made for it before it began, and are its children."""

    spares: list[tuple[int, socket.socket]]

    def hand_over(self, asked: dict[str, Any], files: list[int]) -> int | None:
        if asked["command"][0] != sys.executable or "-c" in asked["command"] or not self.spares:
            return None
        number, spare = self.spares.pop(0)
        with spare:
            socket.send_fds(spare, [json.dumps(asked).encode()], files)
        return number


def make_spares(count: int) -> list[tuple[int, socket.socket]]:
    """Make copies that wait for what to be, and end with who made them."""
    made: list[tuple[int, socket.socket]] = []
    for _ in range(count):
        mine, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        number = os.fork()
        if number == 0:
            for sock in (mine, *(other for _, other in made)):
                sock.close()
            message, files, _, _ = socket.recv_fds(its, LARGEST_BYTES, 16)
            its.close()
            if message:
                be(json.loads(message), files)
            os._exit(0)
        its.close()
        made.append((number, mine))
    return made


def be(asked: dict[str, Any], files: list[int]) -> None:
    """Be the command, and end."""
    code = 1
    try:
        code = run(asked, files)
    finally:
        os._exit(code)


def run(asked: dict[str, Any], files: list[int]) -> int:
    """Be the command; return its exit code."""
    if asked["leads"]:
        os.setsid()
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    tempfile.tempdir = None  # which a library had asked for
    aside = [fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, 100) for file in files]  # from the numbers that they shall have
    for file in files:
        os.close(file)
    for file, number in zip(aside, (0, 1, 2, *asked["passed"]), strict=True):
        os.dup2(file, number)
        os.close(file)
    sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    if asked.get("spares"):
        FromSpare.spares = make_spares(asked["spares"])
        subprocess.Popen = FromSpare  # type: ignore[misc]
    code = 0
    try:
        start_program([part for part in asked["command"][1:] if part != "-u"], asked["cwd"])
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


def start_program(arguments: list[str], cwd: str) -> None:
    """Run `-m module option...`, `-c code option...` or `script option...`."""
    kind = arguments[0] if arguments[0] in ("-m", "-c") else "script"
    sys.argv = arguments[kind == "-m" :]
    sys.path[0] = str(Path(sys.argv[0]).resolve().parent) if kind == "script" else cwd
    named = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[1:1] = [path for path in named if path not in sys.path]
    if kind == "-m":
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    elif kind == "-c":
        code = sys.argv.pop(1)
        sys.modules["__main__"] = ModuleType("__main__")
        exec(compile(code, "<string>", "exec"), vars(sys.modules["__main__"]))
    else:
        runpy.run_path(sys.argv[0], run_name="__main__")


def main(orders: socket.socket) -> None:
    sys.modules[NOT_SHARED] = None  # type: ignore[assignment]
    for name in LIBRARIES:
        import_module(name)
    del sys.modules[NOT_SHARED]
    gc.freeze()
    running: dict[int, tuple[int, int]] = {}
    while True:
        for ready in select.select([orders.fileno(), *running], [], [])[0]:
            if ready in running:
                number, told = running.pop(ready)
                tell(told, os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]))
                os.close(ready)
                os.close(told)
                continue
            message, files, _, _ = socket.recv_fds(orders, LARGEST_BYTES, 16)
            if not message:
                return
            told = files.pop()
            number = os.fork()
            if number == 0:
                for file in (orders.detach(), told, *running, *(other for _, other in running.values())):
                    os.close(file)
                be(json.loads(message), files)
            tell(told, number)
            for file in files:
                os.close(file)
            running[os.pidfd_open(number)] = (number, told)


def tell(sock: int, number: int) -> None:
    with contextlib.suppress(OSError):  # who asked is no more
        os.write(sock, str(number).encode())


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
