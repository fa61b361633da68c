"""What whitening does to few-shot classification: features of a bundled model before it, and after it in several forms.

    python zoo/experiments/lowshot_search.py MODEL DATA [--fit DATA]

takes the features of MODEL (a `ResNet` with PCA whitening) before that layer, fits the forms on unlabelled pictures of
`--fit` (of DATA by default), and prints the accuracy on DATA (a folder with `train*` and `test*` Parquet) of the class
mean and of logistic regression taught 1, 2, 5 and 10 pictures a class, means over draws.
"""

import argparse
import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
import torch

from memssl_keras import from_pretrained
from memssl_keras.data.classes import open_classes
from memssl_keras.evaluate.embedders import pixels
from memssl_keras.evaluate.protocols.lowshot import low_shot
from memssl_keras.training.whiten import raw_features

SHOTS = (1, 2, 5, 10)


def forms(features, forms_of, ranks=(16, 32, 64, 128, 256, 512), powers=(0.5, 0.25)):
    """Name → features, for each of `forms_of` (a list of arrays), by what `features` say."""
    mean = features.mean(0)
    values, axes = np.linalg.eigh(np.cov((features - mean).T))
    values, axes = np.maximum(values[::-1], 0), axes[:, ::-1]
    yield "as they are", forms_of
    yield "mean-centred", [x - mean for x in forms_of]
    for power in powers:
        for rank in [r for r in ranks if r < len(values)] + [len(values)]:
            for shrinkage in (0.1, 1.0):
                scales = (values[:rank] + shrinkage * values.mean()) ** -power
                made = [((x - mean) @ axes[:, :rank]) * scales for x in forms_of]
                yield f"rank {rank}, power {power}, shrinkage {shrinkage}", made


def untrained(encoder):
    keras.utils.set_random_seed(0)
    return type(encoder).from_config(encoder.get_config())


def before_whitening(encoder):
    inner = type(encoder).from_config(encoder.get_config() | {"whitening": None})
    for layer in inner.layers:
        layer.set_weights(encoder.get_layer(layer.name).get_weights())
    return inner


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("--fit")
    parser.add_argument(
        "--images", type=int, default=3000, help="Of each: to fit on, to draw from, to test on."
    )
    parser.add_argument("--draws", type=int, default=10)
    args = parser.parse_args()
    torch.set_num_threads(1)
    data, rng = open_classes(args.data), np.random.default_rng(0)
    rows = [rng.permutation(len(part))[: args.images] for part in (data.train, data.test)]
    labels = [part[r] for part, r in zip((data.train_labels, data.test_labels), rows, strict=True)]
    images = [[part[int(i)] for i in r] for part, r in zip((data.train, data.test), rows, strict=True)]
    fitted = images[0]
    if args.fit:
        source = open_classes(args.fit).train
        fitted = [source[int(i)] for i in rng.permutation(len(source))[: args.images]]

    def report(name, parts):
        found, _ = low_shot(
            parts[0], labels[0], parts[1], labels[1], SHOTS, args.draws, ("logistic", "class mean")
        )
        cells = [f"{found[shot][c]['mean']:6.1%}" for c in ("class mean", "logistic") for shot in found]
        print(f"{name:45}", *cells, flush=True)

    print(f"{'':45} class mean, then logistic regression, of {', '.join(map(str, SHOTS))} pictures a class")
    report("pixels, 16 px, centred", [pixels(part, 16, centred=True) for part in images])
    encoder = from_pretrained(args.model)
    report("untrained", [raw_features(before_whitening(untrained(encoder)), part) for part in images])
    inner = before_whitening(encoder)
    raw = [raw_features(inner, part) for part in images]
    for name, made in forms(raw_features(inner, fitted) if args.fit else raw[0], raw):
        report(name, made)


if __name__ == "__main__":
    main()
