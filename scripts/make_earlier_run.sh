#!/usr/bin/env bash
# Create tests/earlier_run with an earlier version: a run interrupted after two epochs, whose record contains the class
# names of that version. Usage: bash scripts/make_earlier_run.sh CHECKOUT (the current one is from commit 9ebf7fc).
set -euo pipefail
cd "$(dirname "$0")/.."
export PYTHONPATH="$1" WANDB_MODE=offline OMP_NUM_THREADS=1
folder=$(mktemp --directory)
trap 'rm -rf "$folder"' EXIT
python -m satseg.train experiment=demo logger=wandb backbone.encoder_name=tu-test_efficientnet \
    "model.decoder_channels=[16,8,8,8,8]" dataset.size=128 "dataset.scenes={train: 2, val: 1, test: 2}" \
    dataset.patch_size=64 dataset.batch_size=2 dataset.patches_per_epoch=200 trainer=cpu trainer.max_epochs=4 \
    trainer.enable_progress_bar=false ema=false run_dir="$folder/run" &
training=$!
until [ "$(cat "$folder/run/metrics.csv" 2> /dev/null | wc -l)" -ge 3 ]; do
    kill -0 "$training"
    sleep 0.2
done
kill -INT "$training"
wait "$training" || [ $? -eq 130 ]
rm -rf "$folder/run"/{wandb,wandb_id,train.log,checkpoints/best.ckpt}
rm -rf tests/earlier_run
mv "$folder/run" tests/earlier_run
