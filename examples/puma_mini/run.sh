#!/usr/bin/env bash
# Train puma-mini from nothing, score it, and put it into the package. Run it again after a stop: the
# training goes on from its last state.
#   examples/puma_mini/run.sh [RUNS_FOLDER]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
runs=${1:-runs}
model=$runs/puma-mini

[ -f "$runs/many-scenes/puma.json" ] ||
  puma data scenes --train-scenes 28000 --output-dir "$runs/many-scenes"
if [ ! -f "$model/puma.json" ]; then
  resume=()
  [ -d "$model/training" ] && resume=(--resume)
  puma distill fresh --config puma-mini --data "$runs/many-scenes" --output-dir "$model" "${resume[@]}"
fi
# Scored on what `puma data scenes` draws without options: the same held-out compositions.
[ -f "$runs/scenes/puma.json" ] || puma data scenes --output-dir "$runs/scenes"
[ -f "$runs/puma-mini-scores/puma.json" ] ||
  puma eval "$model" --data "$runs/scenes" --split test --output-dir "$runs/puma-mini-scores"
python "$here/package.py" "$model" "$runs/puma-mini-scores"
