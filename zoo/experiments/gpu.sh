#!/bin/sh
# Everything that wants a CUDA GPU, one run after the other: zoo/experiments/gpu.sh DATA OUT [NAME=VALUE ...]
#
# DATA holds `cifar10` (train and test as Parquet) and `icons/train.parquet`, which icons.py and icons_train.py make.
# `icons_emoji` trains `icons` further, with emoji eight times as often. A run whose folder holds `done` is left out, so
# that the command can be repeated after an interruption. NAME=VALUE changes settings of all recipes, such as epochs=1
# batch_size=32 memory_size=128 block_size=64 to try it all on a processor. The runs fit side by side on one large card:
# RUNS="icons cifar10" takes some of them.
set -eu
data=$1 out=$2
shift 2
here=$(dirname "$0") processes=${PROCESSES:-$(nproc)}
mkdir -p "$out/pictures"
ln -sf "$(realpath "$data/cifar10")"/train* "$out/pictures/"

run() {
    name=$1 recipe=$2 pictures=$3
    shift 3
    case " ${RUNS:-icons icons_emoji icons_small cifar10 vit resnet18} " in *" $name "*) ;; *) return 0 ;; esac
    [ -e "$out/$name/done" ] && return 0
    rm -rf "${out:?}/$name"
    python "$here/gpu_train.py" "$recipe" "$pictures" "$out/$name" --processes "$processes" "$@"
    touch "$out/$name/done"
}
settings=${*:+--set $*}
paired="--group group --pairs 0.6"
judged="--labelled $data/cifar10 --every 10"
# shellcheck disable=SC2086
{
    run icons resnet14_icons "$data/icons/train.parquet" $paired $settings
    run icons_emoji resnet14_icons "$data/icons/train.parquet" --group group --pairs 0.8 --emoji 8 --view-size 64 \
        --init "$out/icons" ${settings:---set epochs=14 learning_rate=4e-4}
    run icons_small resnet8_icons "$data/icons/train.parquet" $paired $settings
    run cifar10 resnet14_cifar10 "$out/pictures" $judged ${settings:---set epochs=590}
    run vit vitn4_cifar10_long "$out/pictures" $judged $settings
    run resnet18 resnet18_cifar10 "$out/pictures" $judged $settings
}
