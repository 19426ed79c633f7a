#!/usr/bin/env bash
# Install satseg with its server into a virtual environment: what the image does, and a bare machine can do as well.
#   bash scripts/deploy/install.sh TARGET [cpu|gpu] [EXTRA]
# TARGET is the environment's folder, EXTRA is serve (default) or app. With `cpu`, torch comes without CUDA libraries
# where TORCH_INDEX names an index that has such builds (see the Dockerfile); with `gpu`, from the package registry.
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
if [ "$device" = cpu ] && [ -n "${TORCH_INDEX:-}" ]; then
    pip install --constraint constraints.txt --index-url "$TORCH_INDEX" torch torchvision
fi
pip install --constraint constraints.txt ".[$extra]"
"$target/bin/python" -m satseg.serve --help > /dev/null
echo "Installed: $target/bin/python -m satseg.$([ "$extra" = app ] && echo app || echo serve) checkpoint=PATH"
