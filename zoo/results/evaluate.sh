#!/bin/sh
# Scores models beside pixels and the first one untrained, on photographs, clothes, sketches and emoji:
#
#     zoo/results/evaluate.sh DATA OUT MODEL...
#
# DATA holds the folders cifar10, quickdraw, emoji and fashion_mnist, each with Parquet files; MODEL is what
# `memssl evaluate` takes, such as massl_vitn4.cifar10@fp32. OUT gets results.json, table.md and report.html.
# QuickDraw has no test set: a fifth of each class becomes it, always the same one. Emoji have no labels: Noto's are
# looked for among Twemoji's, among Fluent's, and among both.
set -eu
data=$1 out=$2
shift 2
exec memssl evaluate "$@" \
    --data "$data/cifar10" --data "$data/quickdraw" --data "$data/emoji" --data "$data/fashion_mnist" \
    --tasks knn,linear,lowshot,retrieval,clustering \
    --test-share 0.2 --group codepoint --by vendor --query Noto --gallery Twemoji --gallery Fluent --gallery Twemoji,Fluent \
    --pixels 16 --threads 1 --out "$out"
