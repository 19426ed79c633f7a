#!/usr/bin/env bash
# Set up and run the tests: the fast tier, or with --full all of them. More arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh

tier=(-m "not slow")
if [ "${1:-}" = "--full" ]; then
    tier=()
    shift
fi
ruff check .
ruff format --check .
mypy
lint-imports
# A process more than cores, up to four, since tests wait for other processes. A file's tests are in one of them: they
# share what its fixtures make.
export OMP_NUM_THREADS=1
processes=$(python -c "import os; print(min((os.cpu_count() or 1) + 1, 4))")
options=(--numprocesses "$processes" --dist loadfile --no-loadscope-reorder --durations 25)
run() { python -m pytest "${options[@]}" "${tier[@]}" "$@"; }
if [ $# -gt 0 ]; then
    run "$@"
    exit
fi
# Scenes and engines in processes of their own: a process that had run everything else crashed in them.
engines=(tests/inference tests/test_export.py)
status=0
run "${engines[@]/#/--ignore=}" || status=$?
run "${engines[@]}" || status=$?
exit "$status"
