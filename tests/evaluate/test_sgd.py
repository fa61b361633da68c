"""The linear classifier by SGD beside torch's own layer and optimiser, and the blocks that it is taught on."""

import numpy as np
import pytest
import torch
from labelled_images import Counting, coloured, write
from small_models import pictures, rich_vit, small_cnn

from memssl_keras.evaluate import run
from memssl_keras.evaluate.blocks import embed_blocks
from memssl_keras.evaluate.outcome import Settings
from memssl_keras.evaluate.protocols.sgd import fit_sgd, sgd_probe
from memssl_keras.models import open_embedder


def clusters(count, classes=4, dim=6, seed=0, spread=0.5):
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    return (np.eye(dim)[labels] + rng.normal(0, spread, (count, dim))).astype("float32"), labels


@pytest.mark.numeric
def test_each_classifier_is_that_of_a_layer_and_an_optimiser_of_its_own():
    features, labels = clusters(70)
    rates, epochs, batch = (0.01, 0.3), 5, 32
    weights, biases = fit_sgd(features, labels, 4, rates, epochs, batch, seed=3)
    for index, rate in enumerate(rates):
        generator = torch.Generator().manual_seed(3)
        layer = torch.nn.Linear(6, 4)
        layer.weight.data = (torch.randn(6, 4, generator=generator) * 0.01).T.contiguous()
        layer.bias.data.zero_()
        optimizer = torch.optim.SGD(layer.parameters(), lr=rate * batch / 256, momentum=0.9)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
        for _ in range(epochs):
            for rows in torch.randperm(70, generator=generator).split(batch):
                loss = torch.nn.functional.cross_entropy(
                    layer(torch.tensor(features)[rows]), torch.tensor(labels)[rows]
                )
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            schedule.step()
        np.testing.assert_allclose(weights[index], layer.weight.detach().numpy().T, atol=1e-5)
        np.testing.assert_allclose(biases[index], layer.bias.detach().numpy(), atol=1e-5)
    assert np.abs(weights[0] - weights[1]).max() > 0.1


def test_the_rate_is_chosen_on_train_alone():
    (train, labels), (test, truth) = clusters(400), clusters(100, seed=1)
    predicted, about = sgd_probe(train, labels, test, rates=(1e-6, 0.3), epochs=30)
    assert np.mean(predicted == truth) > 0.7 and about["rate"] == 0.3
    assert about["held_out"]["0.3"] == max(about["held_out"].values()) and list(about["held_out"]) == [
        "1e-06",
        "0.3",
    ]
    alone, same = sgd_probe(train, labels, test[:7], rates=(1e-6, 0.3), epochs=30)
    assert np.array_equal(alone, predicted[:7]) and same == about


@pytest.mark.numeric
def test_blocks_are_those_of_the_encoder():
    encoder, images = rich_vit(depth=3), list(pictures(5))
    pixels = encoder.preprocess.batch(images)
    with torch.no_grad():
        tokens = encoder.tokens(pixels).numpy()
        x = encoder._embed_patches(pixels)
        second = encoder.norm(encoder.blocks[1](encoder.blocks[0](x))).numpy()
    last = embed_blocks(encoder, images, 1, True, batch_size=2)
    np.testing.assert_allclose(last[:, :24], tokens[:, 0], atol=1e-5)
    np.testing.assert_allclose(last[:, 24:], tokens[:, 3:].mean(1), atol=1e-5)  # behind CLS and two registers
    both = embed_blocks(encoder, images, 2, False)
    np.testing.assert_allclose(both, np.concatenate([second[:, 0], tokens[:, 0]], axis=1), atol=1e-5)
    with pytest.raises(ValueError, match="blocks=4: expected 1 … 3"):
        embed_blocks(encoder, images, 4, False)
    with pytest.raises(ValueError, match="has no blocks; expected a ViT"):
        embed_blocks(small_cnn(), images, 1, False)


def test_the_task_takes_blocks_where_there_are_some(tmp_path):
    for split, count, seed in (("train", 40, 0), ("test", 20, 1)):
        labels = [i % 4 for i in range(count)]
        write(tmp_path / f"{split}-0.parquet", coloured(labels, seed), label=labels)
    rich_vit().save_pretrained(tmp_path / "model")
    vit, settings = open_embedder(tmp_path / "model"), Settings(blocks=2, patches=True, epochs=40)
    (one,) = run.evaluate([vit, Counting().embedder], [tmp_path], ["sgd"], settings=settings)
    assert all(outcome.scores["accuracy"] > 0.9 for outcome in one.outcomes.values())
    few, no_vit = one.notes
    assert few.startswith("40 steps of SGD are few") and no_vit.startswith("mean colour: no ViT in Keras")
    assert "last 2 blocks and mean patch token, no augmentation" in one.outcomes[vit.name].protocol


EYE, THREE = np.eye(3), np.array([0, 1, 1])


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"train_labels": [1, 1, 1]}, "one class only"),
        ({"train_labels": [1, 1]}, "its 2 labels and test .* do not fit together"),
        ({"test": np.eye(2)}, "do not fit together"),
        ({"test": EYE * np.nan}, "test: 3 of 3 features hold NaN"),
        ({"train": EYE + np.inf}, "train: 3 of 3 features hold NaN or infinity"),
        ({"rates": ()}, "rates=.* expected positive"),
        ({"held_out": 1}, "held_out=1: expected"),
        ({"held_out": 0.7}, "too few to hold out a share of 0.7"),
        ({"epochs": 0}, "epochs=0, batch=1024: expected 1 or more"),
    ],
)
def test_bad_arguments_are_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        sgd_probe(**{"train": EYE, "train_labels": THREE, "test": EYE, **arguments})
