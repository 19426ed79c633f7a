#!/usr/bin/env bash
# Write the hashes of all packages of the image, for every platform that has them, at the versions of constraints.txt:
#   bash scripts/deploy/lock.sh
# To be run when constraints.txt has changed; needs uv, and UV_DEFAULT_INDEX where the package registry is not the usual.
set -euo pipefail
cd "$(dirname "$0")/../.."

lock() {
    uv pip compile --quiet --constraints constraints.txt --generate-hashes --universal --python-version 3.11 \
        --no-annotate --custom-compile-command "bash scripts/deploy/lock.sh" --output-file "scripts/deploy/requirements/$1.txt" "${@:2}"
}
lock serve pyproject.toml --extra serve
lock app pyproject.toml --extra app
lock build - <<< $'hatchling\nsetuptools' # which make packages that come as source, and satseg itself
