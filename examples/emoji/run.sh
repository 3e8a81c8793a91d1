#!/usr/bin/env bash
# The whole path on a real data set: train, analyze, prune, distil, score. Run it again after a stop:
# finished stages are skipped and trainings go on from their last state.
#   EMOJI_ROOT=/data/emoji_mbeir examples/emoji/run.sh [RUNS_FOLDER [RESULTS_PAGE]]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
data=${EMOJI_ROOT:?set EMOJI_ROOT to the folder of the emoji data set}
runs=${1:-runs/emoji}
layers=4

train() { # OUTPUT, then the arguments of puma distill
  local output=$1
  shift
  [ -f "$output/puma.json" ] && return
  local resume=()
  [ -d "$output/training" ] && resume=(--resume)
  puma distill "$@" --data "$data" --output-dir "$output" "${resume[@]}"
}

stage() { # OUTPUT, then a whole command
  local output=$1
  shift
  [ -f "$output/puma.json" ] || "$@" --output-dir "$output"
}

train "$runs/teacher" fresh --config "$here/teacher.yaml"
stage "$runs/profile" puma analyze "$runs/teacher" --data "$data"
stage "$runs/cut" puma prune "$runs/teacher" --keep "$layers"
train "$runs/student" "$runs/cut" --teacher "$runs/teacher" --config "$here/student.yaml"
for model in teacher cut student; do
  stage "$runs/scores/$model" puma eval "$runs/$model" --data "$data" --split test
done
for metric in hit@1 hit@5; do
  puma compare "$runs/scores/teacher" "$runs/scores/cut" "$runs/scores/student" --metric "$metric"
done
python "$here/page.py" "$runs" "${2:-$runs/results.md}"
