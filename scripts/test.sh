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
exec python -m pytest "${tier[@]}" "$@"
