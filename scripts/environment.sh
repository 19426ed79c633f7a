# Sourced by the other scripts: creates a virtual environment from the constraints and activates it.
# It is cached in a folder named by a hash of the dependency files; satseg itself is installed every time.

satseg_environment() {
    local python="${PYTHON:-python3}" key root
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        { echo "satseg needs Python 3.11 or newer; set PYTHON to one (found: $("$python" --version))." >&2; return 1; }
    key=$("$python" - pyproject.toml constraints.txt <<'PY'
import hashlib, sys
digest = hashlib.sha256(sys.version.encode())
for name in sys.argv[1:]:
    digest.update(open(name, "rb").read())
print(digest.hexdigest()[:16])
PY
)
    root="${SATSEG_ENVIRONMENTS:-${XDG_CACHE_HOME:-$HOME/.cache}/satseg/environments}/$key"
    if [ ! -e "$root/complete" ]; then
        echo "Setting up the environment in $root (about 6 GB, a few minutes)"
        rm -rf "$root"
        "$python" -m venv "$root"
        "$root/bin/python" -m pip install --quiet --constraint constraints.txt ".[dev]"
        touch "$root/complete"
    fi
    "$root/bin/python" -m pip install --quiet --no-deps --no-build-isolation --editable .
    export PATH="$root/bin:$PATH" VIRTUAL_ENV="$root"
}

satseg_environment
