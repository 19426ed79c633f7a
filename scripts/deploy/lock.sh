#!/usr/bin/env bash
# Write the hashes of all packages of the image, for all platforms, at the versions of constraints.txt:
#   bash scripts/deploy/lock.sh
# Run it when constraints.txt has changed; it needs uv, and UV_DEFAULT_INDEX if the package registry is not the default.
set -euo pipefail
cd "$(dirname "$0")/../.."

lock() {
    uv pip compile --quiet --constraints constraints.txt --generate-hashes --universal --python-version 3.11 \
        --no-annotate --custom-compile-command "bash scripts/deploy/lock.sh" --output-file "scripts/deploy/requirements/$1.txt" "${@:2}"
}
lock serve pyproject.toml --extra serve
lock app pyproject.toml --extra app
lock build - <<< $'hatchling\nsetuptools' # build backends of source packages and of satseg itself
