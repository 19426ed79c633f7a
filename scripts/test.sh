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
# A process that crashes in native code leaves its stacks here; they are printed at the end.
SATSEG_CRASHES=$(mktemp -d)
export SATSEG_CRASHES
trap 'find "$SATSEG_CRASHES" -type f -size +0 -exec tail -n +1 {} + >&2; rm -rf "$SATSEG_CRASHES"' EXIT
run() { python -m pytest "${options[@]}" "${tier[@]}" "$@"; }
if [ $# -gt 0 ]; then
    run "$@"
    exit
fi
# Scenes and engines in processes of their own: a process that had run everything else crashed in them, in November 2026.
# Not pinned down: only such a process has OpenVINO's threads (oneTBB) and compiler beside two OpenMP runtimes (torch's
# and scikit-learn's libgomp), and the GDALs of rasterio and pyogrio. The stacks of the next crash will name the library.
engines=(tests/inference tests/test_export.py)
status=0
run "${engines[@]/#/--ignore=}" || status=$?
run "${engines[@]}" || status=$?
exit "$status"
