#!/usr/bin/env bash
# Start the server as a container does: settings come from the environment, more options as arguments.
#   SATSEG_CHECKPOINT  run folder or model file (/model)        SATSEG_AUTH  user:password
#   SATSEG_UPLOADS     folder for images that are worked on, with nothing else in it (the folder for temporary files)
set -euo pipefail
[ -n "${SATSEG_AUTH:-}" ] || unset SATSEG_AUTH # the server reads it itself: arguments can be seen in a list of processes
if [ -n "${SATSEG_UPLOADS:-}" ]; then
    rm -rf "$SATSEG_UPLOADS"/satseg-* # of a server that was killed
    export TMPDIR="$SATSEG_UPLOADS"
fi
exec "${SATSEG_PYTHON:-/opt/satseg/bin/python}" -m satseg.serve "checkpoint=${SATSEG_CHECKPOINT:-/model}" \
    "host=${SATSEG_HOST:-0.0.0.0}" "port=${SATSEG_PORT:-8000}" "jobs_dir=${SATSEG_JOBS:-/jobs}" "$@"
