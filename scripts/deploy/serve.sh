#!/usr/bin/env bash
# Start the server as a container does: settings come from the environment, more options as arguments.
#   SATSEG_CHECKPOINT  run folder or model file (/model)        SATSEG_AUTH  user:password
set -euo pipefail
auth=()
[ -z "${SATSEG_AUTH:-}" ] || auth=("auth=$SATSEG_AUTH")
exec "${SATSEG_PYTHON:-/opt/satseg/bin/python}" -m satseg.serve "checkpoint=${SATSEG_CHECKPOINT:-/model}" \
    "host=${SATSEG_HOST:-0.0.0.0}" "port=${SATSEG_PORT:-8000}" "jobs_dir=${SATSEG_JOBS:-/jobs}" "${auth[@]}" "$@"
