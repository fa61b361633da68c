"""AdamW beside torch's own."""

import keras
import numpy as np
import pytest
import torch

from memssl_keras import AdamW

pytestmark = pytest.mark.numeric


def run(scale, steps=20, clip=None, **settings):
    """Both optimisers on the same gradients; the weights after the last step and where they began."""
    rng = np.random.default_rng(0)
    shapes = [(5, 7), (7,), (3, 2, 4)]
    start = [rng.normal(size=shape).astype("float32") for shape in shapes]
    gradients = [[(scale * rng.normal(size=s)).astype("float32") for s in shapes] for _ in range(steps)]
    variables = [keras.Variable(value) for value in start]
    ours = AdamW(1e-2, weight_decay=0.1, clipnorm=clip, **settings)
    ours.exclude_from_weight_decay(var_list=[variables[1]])
    ours.build(variables)
    theirs = [torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in start]
    options = {"lr": 1e-2, "betas": (settings.get("beta_1", 0.9), settings.get("beta_2", 0.999)), "eps": 1e-8}
    groups = [
        {"params": [theirs[0], theirs[2]], "weight_decay": 0.1},
        {"params": [theirs[1]], "weight_decay": 0.0},
    ]
    other = torch.optim.AdamW(groups, **options)
    for step in gradients:
        ours.apply([torch.from_numpy(g) for g in step], variables)
        for weight, gradient in zip(theirs, step, strict=True):
            gradient = torch.from_numpy(gradient).double()
            if clip:
                gradient = gradient * min(1, clip / float(gradient.norm()))
            weight.grad = gradient
        other.step()
    return [v.numpy() for v in variables], [t.detach().numpy() for t in theirs], start


@pytest.mark.parametrize("scale", [1e3, 1.0, 1e-4, 1e-7, 1e-8, 1e-9])
def test_twenty_steps_are_torchs(scale):
    ours, theirs, start = run(scale)
    for a, b, c in zip(ours, theirs, start, strict=True):
        assert np.linalg.norm(a - b) / np.linalg.norm(b) < 1e-6
        # Steps themselves, of which float32 weights hold four digits.
        assert np.linalg.norm(a - b) / np.linalg.norm(b - c) < 1e-4


def test_kerass_own_is_not_torchs_at_small_gradients():
    variable = keras.Variable(np.ones(4, "float32"))
    theirs = keras.optimizers.AdamW(1e-2, weight_decay=0.0, epsilon=1e-8)
    theirs.build([variable])
    theirs.apply([torch.full((4,), 1e-8)], [variable])
    other = keras.Variable(np.ones(4, "float32"))
    ours = AdamW(1e-2, weight_decay=0.0)
    ours.build([other])
    ours.apply([torch.full((4,), 1e-8)], [other])
    assert (1 - other.numpy() == pytest.approx(0.005, rel=1e-3)) and (1 - variable.numpy() < 0.001).all()


def test_other_betas():
    ours, theirs, _ = run(1.0, beta_1=0.8, beta_2=0.95)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_each_tensor_is_clipped_by_its_own_norm():
    ours, theirs, _ = run(1.0, clip=0.5, steps=3)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)
    # Adam takes scale out of a constant gradient, so clipping shows where the scale changes.
    rows = []
    for clip in (None, 1.0):
        variable = keras.Variable(np.zeros(2, "float32"))
        optimizer = AdamW(1e-2, weight_decay=0.0, clipnorm=clip)
        optimizer.build([variable])
        for size in (0.1, 100.0):
            optimizer.apply([torch.tensor([size, 0.0])], [variable])
        rows.append(optimizer._momentums[0].numpy()[0])
    np.testing.assert_allclose(rows, [0.9 * 0.01 + 10, 0.9 * 0.01 + 0.1], rtol=1e-5)


def test_weight_decay_spares_what_is_excluded():
    ours, theirs, start = run(0.0, steps=5)
    np.testing.assert_array_equal(ours[1], start[1])
    np.testing.assert_allclose(ours[0], start[0] * (1 - 1e-3) ** 5, rtol=1e-6)


def test_weight_decay_spares_what_is_excluded_at_shares_of_the_rate_too():
    variables = [keras.Variable(np.ones((3, 2), "float32")), keras.Variable(np.ones(2, "float32"))]
    optimizer = AdamW(1e-2, weight_decay=0.1)
    optimizer.exclude_from_weight_decay(var_list=[variables[1]])
    optimizer.build(variables)
    optimizer.shares = [0.5, 0.5]
    optimizer.apply([torch.zeros(3, 2), torch.zeros(2)], variables)
    np.testing.assert_allclose(variables[0].numpy(), 1 - 1e-3 / 2, rtol=1e-6)
    np.testing.assert_array_equal(variables[1].numpy(), 1)


def test_it_survives_serialisation():
    optimizer = AdamW(3e-4, weight_decay=0.2, epsilon=1e-7, clipnorm=2.0, beta_2=0.95)
    twin = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert type(twin) is AdamW and twin.get_config() == optimizer.get_config()


def test_amsgrad_is_refused():
    with pytest.raises(ValueError, match="amsgrad=True: expected False"):
        AdamW(amsgrad=True)
