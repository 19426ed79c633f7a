#!/usr/bin/env bash
# Run the whole workflow on synthetic data: generate and validate it, train, evaluate, explain, diagnose, and segment a
# larger scene. Options are passed to training. With --app, open the app on the newest model, after training one if there
# is none.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh

if [ "${1:-}" = "--app" ]; then
    compgen -G "runs/*/summary.json" > /dev/null || python -m satseg.train experiment=demo
    exec python -m satseg.app checkpoint=latest browser=true "${@:2}"
fi
python -m satseg.validate dataset=synthetic
python -m satseg.train experiment=demo "$@"
python -m satseg.evaluate checkpoint=latest split=test
python -m satseg.explain checkpoint=latest split=test target=building
python -m satseg.explain checkpoint=latest split=test report=true
python scripts/make_scene.py runs/demo_scene.tif
python -m satseg.predict checkpoint=latest input=runs/demo_scene.tif output=runs/demo_map.tif areas=true vectors=gpkg preview=true
cat <<'NEXT'

Next, in this folder (first: source scripts/environment.sh):
  python -m satseg.app checkpoint=latest                                 the model in a browser; or bash scripts/demo.sh --app
  python -m satseg.serve checkpoint=latest                               the model for programs, over HTTP
  runs/demo_map_preview.png, runs/demo_map.tif, runs/demo_map.gpkg      the larger scene, segmented
  python -m satseg.train dataset=folder dataset.root=/path/to/my/data    your own images/ and masks/
  python -m satseg.train experiment=demo model=fpn loss=lovasz           other choices
  python -m satseg.train -m experiment=demo loss=dice,ce_dice            a sweep
  python -m satseg.train --help                                          every option
NEXT
