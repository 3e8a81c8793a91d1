#!/usr/bin/env bash
# Train the teachers that predictions are tested on beside puma-mini and the emoji model: two small
# retrievers of other depths, width and seeds, from nothing. Run it again after a stop.
#   benchmarks/analyze/teachers.sh [RUNS_FOLDER]
set -euo pipefail
runs=${1:-runs}

[ -f "$runs/many-scenes/puma.json" ] ||
  puma data scenes --train-scenes 28000 --output-dir "$runs/many-scenes"

teach() { # NAME LAYERS SEED STEPS
  local model=$runs/$1 resume=()
  [ -f "$model/puma.json" ] && return
  [ -d "$model/training" ] && resume=(--resume)
  puma distill fresh --config puma-mini --data "$runs/many-scenes" --output-dir "$model" \
    --seed "$3" --set fresh.layers="$2" --set fresh.hidden_size=128 \
    --set fresh.intermediate_size=352 --set train.steps="$4" "${resume[@]}"
}

teach narrow-8 8 1 3000
teach narrow-16 16 2 3000
