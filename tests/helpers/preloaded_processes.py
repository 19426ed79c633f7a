"""A fork server: a process with libraries imported that runs commands in forks of itself, which saves most test time.

Each request contains the command as JSON, its streams, and a socket on which the server reports the process id and,
later, the exit code. A fork imports satseg itself, gets its own arguments, folder, environment and streams, and
exits as a normal process does.
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
NOT_SHARED = "wandb"  # creates a temporary folder on import, which the first fork to exit would remove
MAX_REQUEST_BYTES = 1 << 20  # of a request
EXECUTE_CHILD_SIGNATURE = inspect.signature(subprocess.Popen._execute_child)


class ForkedPopen(subprocess.Popen[Any]):
    """A `subprocess.Popen` whose process is a fork with libraries imported instead of a new interpreter."""

    def fork(self, request: dict[str, Any], files: list[int]) -> int | None:
        """Run the request in a fork; return its process id, or None if no fork is available."""
        raise NotImplementedError

    def _execute_child(self, *args: Any) -> None:
        named = EXECUTE_CHILD_SIGNATURE.bind(self, *args).arguments
        streams = [
            own if (own := named[name]) != -1 else number
            for number, name in enumerate(("p2cread", "c2pwrite", "errwrite"))
        ]
        passed = [int(file) for file in named["pass_fds"]]
        request = {
            "command": [str(part) for part in named["args"]],
            "cwd": str(named["cwd"] or Path.cwd()),
            "environment": dict(named["env"] if named["env"] is not None else os.environ),
            "leads": named["start_new_session"],
            "passed": passed,
        }
        pid = self.fork(request, [*streams, *passed])
        if pid is None:
            super()._execute_child(*args)
            return
        self.pid, self._child_created = pid, True
        pipes = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
        self._close_pipe_fds(*(named[name] for name in pipes))


class SparePopen(ForkedPopen):
    """A `subprocess.Popen` for processes that a command starts, which uses forks made before the command began."""

    spares: list[tuple[int, socket.socket]]

    def fork(self, request: dict[str, Any], files: list[int]) -> int | None:
        if request["command"][0] != sys.executable or "-c" in request["command"] or not self.spares:
            return None
        pid, spare = self.spares.pop(0)
        with spare:
            socket.send_fds(spare, [json.dumps(request).encode()], files)
        return pid


def make_spares(count: int) -> list[tuple[int, socket.socket]]:
    """Fork processes that wait for a request, and exit with their parent."""
    made: list[tuple[int, socket.socket]] = []
    for _ in range(count):
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = os.fork()
        if pid == 0:
            for sock in (mine, *(other for _, other in made)):
                sock.close()
            message, files, _, _ = socket.recv_fds(theirs, MAX_REQUEST_BYTES, 16)
            theirs.close()
            if message:
                run_and_exit(json.loads(message), files)
            os._exit(0)
        theirs.close()
        made.append((pid, mine))
    return made


def run_and_exit(request: dict[str, Any], files: list[int]) -> None:
    """Run the command in this process, and exit with its code."""
    code = 1
    try:
        code = run(request, files)
    finally:
        os._exit(code)


def run(request: dict[str, Any], files: list[int]) -> int:
    """Run the command in this process; return its exit code."""
    if request["leads"]:
        os.setsid()
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    tempfile.tempdir = None  # cached by a library
    aside = [fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, 100) for file in files]  # out of the way of the target numbers
    for file in files:
        os.close(file)
    for file, number in zip(aside, (0, 1, 2, *request["passed"]), strict=True):
        os.dup2(file, number)
        os.close(file)
    sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    if request.get("spares"):
        SparePopen.spares = make_spares(request["spares"])
        subprocess.Popen = SparePopen  # type: ignore[misc]
    code = 0
    try:
        start_program([part for part in request["command"][1:] if part != "-u"], request["cwd"])
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


def main(requests: socket.socket) -> None:
    sys.modules[NOT_SHARED] = None  # type: ignore[assignment]
    for name in LIBRARIES:
        import_module(name)
    del sys.modules[NOT_SHARED]
    gc.freeze()
    running: dict[int, tuple[int, int]] = {}
    while True:
        for ready in select.select([requests.fileno(), *running], [], [])[0]:
            if ready in running:
                pid, status = running.pop(ready)
                send_number(status, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
                os.close(ready)
                os.close(status)
                continue
            message, files, _, _ = socket.recv_fds(requests, MAX_REQUEST_BYTES, 16)
            if not message:
                return
            status = files.pop()
            pid = os.fork()
            if pid == 0:
                for file in (requests.detach(), status, *running, *(other for _, other in running.values())):
                    os.close(file)
                run_and_exit(json.loads(message), files)
            send_number(status, pid)
            for file in files:
                os.close(file)
            running[os.pidfd_open(pid)] = (pid, status)


def send_number(sock: int, number: int) -> None:
    with contextlib.suppress(OSError):  # the client is gone
        os.write(sock, str(number).encode())


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
