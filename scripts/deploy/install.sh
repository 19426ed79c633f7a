#!/usr/bin/env bash
# Install satseg with its server into a virtual environment, in the image or directly on a machine.
#   bash scripts/deploy/install.sh TARGET [cpu|gpu] [EXTRA]
# TARGET is the environment's folder, EXTRA is serve (default) or app. With `cpu`, torch comes without CUDA libraries
# where TORCH_INDEX names an index that has such builds (see the Dockerfile); with `gpu`, from the package registry.
# Every archive is compared with its hash in requirements/ (written by lock.sh), except torch and torchvision from such an index.
set -euo pipefail
cd "$(dirname "$0")/../.."

target="${1:?name the folder of the environment}" device="${2:-gpu}" extra="${3:-serve}"
python="${PYTHON:-python3}"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    { echo "satseg needs Python 3.11 or newer; set PYTHON to one (found: $("$python" --version))." >&2; exit 1; }
case "$device" in cpu | gpu) ;; *) echo "The second argument is cpu or gpu, not $device." >&2; exit 2 ;; esac
case "$extra" in serve | app) ;; *) echo "The third argument is serve or app, not $extra." >&2; exit 2 ;; esac

"$python" -m venv "$target"
pip() { "$target/bin/python" -m pip --disable-pip-version-check --quiet "$@"; }
locks=scripts/deploy/requirements
pip install --require-hashes --requirement "$locks/build.txt"
requirements="$locks/$extra.txt"
if [ "$device" = cpu ] && [ -n "${TORCH_INDEX:-}" ]; then
    # The hashes of builds from another index are not known, so these two are not compared.
    pip install --no-deps --constraint constraints.txt --index-url "$TORCH_INDEX" torch torchvision
    requirements="$target/requirements.txt"
    awk '/^[a-z]/ { kept = !/^(torch|torchvision|triton|nvidia-[a-z0-9-]+|cuda-[a-z0-9-]+)==/ } kept' "$locks/$extra.txt" > "$requirements"
fi
pip install --require-hashes --no-deps --no-build-isolation --requirement "$requirements"
pip install --no-deps --no-build-isolation .
"$target/bin/python" -m satseg.serve --help > /dev/null
echo "Installed: $target/bin/python -m satseg.$([ "$extra" = app ] && echo app || echo serve) checkpoint=PATH"
