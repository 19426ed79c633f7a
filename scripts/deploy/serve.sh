#!/usr/bin/env bash
# Start the server in a container: settings come from the environment, more options are passed as arguments.
#   SATSEG_CHECKPOINT  run folder or model file (/model)        SATSEG_AUTH  user:password
#   SATSEG_UPLOADS     folder for uploads in progress, otherwise empty (default: the folder for temporary files)
set -euo pipefail
[ -n "${SATSEG_AUTH:-}" ] || unset SATSEG_AUTH # read by the server itself, since arguments are visible in process lists
if [ -n "${SATSEG_UPLOADS:-}" ]; then
    rm -rf "$SATSEG_UPLOADS"/satseg-* # left by a killed server
    export TMPDIR="$SATSEG_UPLOADS"
fi
exec "${SATSEG_PYTHON:-/opt/satseg/bin/python}" -m satseg.serve "checkpoint=${SATSEG_CHECKPOINT:-/model}" \
    "host=${SATSEG_HOST:-0.0.0.0}" "port=${SATSEG_PORT:-8000}" "jobs_dir=${SATSEG_JOBS:-/jobs}" "$@"
