"""Stop signals that arrive where Python drops exceptions, such as in destructors."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import os, signal, time, weakref
from satseg import signals
from satseg.errors import InterruptedRunError

signal.signal(signal.SIGINT, signal.default_int_handler)  # background processes may start without it

def ask():
    os.kill(os.getpid(), getattr(signal, SIGNAL))
    time.sleep(0.01)

class Plain:
    pass

class Closing:
    def __del__(self):
        ask()

def reach():
    value = Closing() if PLACE == "destructor" else Plain()
    if PLACE == "weak reference":
        kept = weakref.ref(value, lambda _: ask())
    if PLACE == "fork":
        os.register_at_fork(after_in_parent=ask)
        if os.fork() == 0:
            os._exit(0)
    del value
    time.sleep(60)

try:
    with signals.listening():
        reach()
except InterruptedRunError as error:
    print(error)
except KeyboardInterrupt:
    print("Ctrl-C")
"""


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("destructor", "SIGTERM"),
        ("destructor", "SIGUSR1"),
        ("destructor", "SIGINT"),
        ("weak reference", "SIGTERM"),
        ("weak reference", "SIGINT"),
        ("fork", "SIGTERM"),
    ],
)
def test_a_stop_signal_whose_exception_python_drops_still_ends_the_process(place: str, name: str) -> None:
    code = f"SIGNAL, PLACE = {name!r}, {place!r}\n{CODE}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=True)
    expected = "Ctrl-C" if name == "SIGINT" else "The system asked the run to stop. To continue, repeat the command."
    assert (done.stdout.strip(), done.stderr) == (expected, "")


def test_a_stop_signal_during_interpreter_shutdown_does_not_affect_the_result(tmp_path: Path) -> None:
    """The signal is sent by an exit handler."""
    code = (
        "import atexit, os, runpy, signal, sys\n"
        "atexit.register(os.kill, os.getpid(), signal.SIGTERM)\n"
        "sys.argv = ['validate', *sys.argv[1:]]\n"
        "runpy.run_module('satseg.validate', run_name='__main__')\n"
    )
    options = ["dataset=synthetic", "dataset.scenes={train: 1, val: 1, test: 1}", "dataset.size=128", "output=out"]
    environment = os.environ | {"SATSEG_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-c", code, *options]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode in (0, 1) and "asked" not in done.stderr, (done.returncode, done.stderr)
    assert (tmp_path / "out/report.html").is_file()
