#!/bin/sh
# Scores models on icons that none of them has seen, beside pixels and HOG of trimmed pictures:
#
#     zoo/results/icons.sh DATA OUT MODEL...
#
# DATA is the folder that zoo/experiments/icons.py, icons_train.py and icons_benchmark.py have filled; MODEL is what
# `memssl evaluate` takes. OUT gets a JSON file for each question. HOG needs scikit-image.
set -eu
data=$1/icons/benchmark sketches=$1/icons/sketches out=$2
shift 2
mkdir -p "$out"
experiments=$(dirname "$0")/../experiments
export PYTHONPATH="$experiments${PYTHONPATH:+:$PYTHONPATH}"
score() {
    name=$1
    shift
    memssl evaluate "$@" icons_baselines:pixels icons_baselines:hog --no-baselines --threads 1 --out "$out/$name.json"
}
score lucide-tabler "$@" --task retrieval --data "$data/all.parquet" \
    --group group --by set --query lucide --gallery tabler
for size in 16 20 24 32 48; do
    score "screen-$size" "$@" --task retrieval --data "$data/screen.parquet" \
        --group name --by set --query "screen $size" --gallery lucide
done
score emoji "$@" --task retrieval --data "$data/emoji.parquet" \
    --group codepoint --by vendor --query Noto --gallery Twemoji --gallery Fluent
score lowshot "$@" --task lowshot --data "$data/lowshot"
score sketches "$@" --task lowshot --data "$sketches"
