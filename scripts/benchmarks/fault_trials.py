"""Trials: run a command, inject a fault at a random moment, run the command again, and check the result."""

from __future__ import annotations

import random
import re
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

from fault_commands import Commands, Reference, lines
from fault_files import broken, differences, left_over
from fault_kinds import Fault, MemoryShort
from fault_processes import LOOK_S, OUT, Process

ERROR = re.compile(r"(?m)^\w+Error: .+$")
ORDERLY = (1, 2, 130)
ABORTED = (-signal.SIGABRT, -signal.SIGSEGV)  # native code that cannot allocate memory
DRAWS = 6  # retries if the process ended before the chosen moment
ORPHANS_S = 15.0  # until workers notice that their parent was killed


@dataclass
class Outcome:
    """Outcome of a trial.

    Attributes:
        phase: Phase in which the fault happened.
        problems: Problems afterwards; empty if the fault was survived.
        message: The last line of the process.
    """

    phase: str = ""
    problems: list[str] = field(default_factory=list)
    message: str = ""


def hit(
    command: str, fault: Fault, phase: str | None, commands: Commands, folder: Path, generator: random.Random
) -> Outcome:
    """Inject a fault into a command once, within a phase or at any time."""
    known = commands.reference(command)
    for number in range(DRAWS):
        where = folder.with_name(f"{folder.name}_{number}")
        with fault.place(where):
            process = commands.start(command, where)
            try:
                outcome = _hit(command, process, fault, phase, commands, where, generator, known, 0.75**number)
            finally:
                process.signal(signal.SIGKILL)
                process.wait()
                process.end_group()
        if outcome is not None:
            return outcome
    return Outcome(problems=[f"the process ended before the fault, {DRAWS} times"])


def _hit(
    command: str,
    process: Process,
    fault: Fault,
    phase: str | None,
    commands: Commands,
    folder: Path,
    generator: random.Random,
    known: Reference,
    share: float,
) -> Outcome | None:
    """Return None if the process ended first."""
    running = _wait_for(process, phase, known, generator) if phase else True
    begin, span = (time.monotonic() - process.started, _span(phase, known)) if phase else (0.0, known.seconds)
    if not running or not process.sleep(begin + generator.uniform(0, span) * share):
        return None
    outcome = Outcome(process.phase())
    if phase and outcome.phase != phase:
        return None
    if not fault.hit(process, folder, generator):
        return None
    code = process.wait()
    fault.remove(folder)
    outcome.problems += broken(folder / OUT)
    if isinstance(fault, MemoryShort) and code in ABORTED:
        outcome.phase += ", aborted"
    elif fault.can_report:
        outcome.message = _check_ending(process, code, known, outcome)
    _continue(command, commands, folder, known, outcome)
    if not _gone(process):
        outcome.problems.append("processes are left")
    return outcome


def _wait_for(process: Process, phase: str, known: Reference, generator: random.Random) -> bool:
    """Wait for one of the calls that start a phase; return whether it happened."""
    calls = generator.randint(1, max(sum(name == phase for name, _ in known.marks), 1))
    while not process.poll():
        if sum(name == phase for name, _ in process.marks()) >= calls:
            return True
        time.sleep(LOOK_S)
    return False


def _span(phase: str | None, known: Reference) -> float:
    """Return the mean duration of the phase that starts with a call."""
    ends = [at for _, at in known.marks[1:]] + [known.seconds]
    spans = [end - at for (name, at), end in zip(known.marks, ends, strict=True) if name == phase]
    return sum(spans) / max(len(spans), 1)


def _check_ending(process: Process, code: int, known: Reference, outcome: Outcome) -> str:
    """Check how a process that can report ended; return its last line."""
    text = process.stderr()
    errors = ERROR.findall(text)
    strange = [line for line in lines(ERROR.sub("", text)) if line not in known.lines]
    if "Traceback" in text:
        outcome.problems.append(f"traceback: {text.strip().splitlines()[-1]}")
    elif strange:
        outcome.problems.append(f"unexpected output: {strange[0][:200]}")
    if code == 0 and not errors:
        return ""
    if code == -signal.SIGTERM and outcome.phase == "start" and not text:
        return ""  # before signal handlers were installed, or any file was written
    if code not in ORDERLY:
        outcome.problems.append(f"exit code {code}")
    elif len(errors) != 1 and "Traceback" not in text:
        outcome.problems.append(f"{len(errors)} lines instead of one")
    return errors[-1] if errors else ""


def _continue(command: str, commands: Commands, folder: Path, known: Reference, outcome: Outcome) -> None:
    """Run the command again, or resume; check the output against the reference run."""
    out = folder / OUT
    options = None
    if command == "train" and (out / "summary.json").exists():
        options = []
    elif command == "train" and (out / "checkpoints/last.ckpt").exists():
        options = [f"resume_from={OUT}"]
    if options != []:
        again = commands.start(command, folder, "again", options)
        code = again.wait()
        if code != 0:
            last = (again.stderr().strip().splitlines() or [""])[-1]
            outcome.problems.append(f"does not continue, exit code {code}: {last[:300]}")
            return
    _compare(folder, known, outcome)


def _compare(folder: Path, known: Reference, outcome: Outcome) -> None:
    outcome.problems += broken(folder / OUT)
    outcome.problems += [f"left: {name}" for name in left_over(folder / OUT)]
    outcome.problems += differences(folder / OUT, known.contents)


def _gone(process: Process) -> bool:
    """Wait until all processes of a group have ended."""
    deadline = time.monotonic() + ORPHANS_S
    while time.monotonic() < deadline:
        if not _group(process.pid):
            return True
        time.sleep(0.05)
    return False


def _group(group: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, of = path.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(of) == group and state != "Z":
            found.append(int(path.parent.name))
    return found


def two_writers(command: str, commands: Commands, folder: Path, generator: random.Random) -> Outcome:
    """Run the same command twice, the second at a random moment during the first."""
    known, outcome = commands.reference(command), Outcome()
    folder.mkdir(parents=True)
    first = commands.start(command, folder, "first")
    first.sleep(generator.uniform(0, known.seconds))
    outcome.phase = first.phase()
    second = commands.start(command, folder, "second")
    codes = [process.wait() for process in (first, second)]
    ended = zip((first, second), codes, strict=True)
    messages = [_check_ending(process, code, known, outcome) for process, code in ended]
    outcome.message = next(filter(None, messages), "")
    if 0 not in codes:
        outcome.problems.append(f"neither succeeded: {messages}")
    if command == "train" and codes == [0, 0]:
        outcome.problems.append("both trained into one folder")
    _compare(folder, known, outcome)
    return outcome
