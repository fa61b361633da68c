"""The projection head beside torch's layers."""

import keras
import numpy as np
import pytest
import torch
from keras import ops

from memssl_keras import ProjectionHead
from memssl_keras.weights import torch_names

pytestmark = pytest.mark.numeric


def pair(batch_norm, dim=10, hidden=20, output=6):
    """A head and the same in torch."""
    head = ProjectionHead(hidden, output, batch_norm)
    head.build((None, dim))
    norm = lambda: [torch.nn.BatchNorm1d(hidden)] if batch_norm else []  # noqa: E731
    gelu = torch.nn.GELU
    mlp = [torch.nn.Linear(dim, hidden), *norm(), gelu(), torch.nn.Linear(hidden, hidden), *norm(), gelu()]
    twin = torch.nn.ModuleDict({"mlp": torch.nn.Sequential(*mlp, torch.nn.Linear(hidden, output))})
    state = {k: v for k, v in twin.state_dict().items() if "num_batches" not in k}
    torch_names.load_state(torch_names.head_names(head), {k: v.numpy() for k, v in state.items()})
    return head, twin["mlp"]


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_it_is_torchs_mlp_normalised(batch_norm, training):
    torch.manual_seed(0)
    head, mlp = pair(batch_norm)
    features = torch.randn(16, 10)
    expected = torch.nn.functional.normalize(mlp.train(training)(features), dim=-1, eps=1e-6)
    ours = head(features, training=training)
    np.testing.assert_allclose(ops.convert_to_numpy(ours), expected.detach().numpy(), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(ops.convert_to_numpy(ours), axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("rows", [2, 5, 64])
def test_batch_norm_keeps_torchs_statistics_and_gradients(rows):
    torch.manual_seed(0)
    head, mlp = pair(batch_norm=True)
    for _ in range(4):
        features = 2 * torch.randn(rows, 10) + 1
        ours, theirs = features.clone().requires_grad_(), features.clone().requires_grad_()
        target = torch.randn(rows, 6)
        (head(ours, training=True) * target).sum().backward()
        (torch.nn.functional.normalize(mlp(theirs), dim=-1, eps=1e-6) * target).sum().backward()
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-4)
    state = torch_names.to_state(torch_names.head_names(head))
    for place in (1, 4):
        for name in ("running_mean", "running_var"):
            theirs = getattr(mlp[place], name).numpy()
            np.testing.assert_allclose(state[f"mlp.{place}.{name}"], theirs, rtol=1e-5, atol=1e-6)


def test_batch_norm_holds_where_features_hardly_differ():
    """A large common part must not drown the differences, as it does in E[x²] - E[x]²."""
    torch.manual_seed(0)
    head, mlp = pair(batch_norm=True)
    features = 300 + 0.01 * torch.randn(32, 10)
    exact = torch.nn.functional.normalize(mlp.double()(features.double()), dim=-1).detach().numpy()
    ours = ops.convert_to_numpy(head(features, training=True))
    assert np.abs(ours - exact).max() < 0.05


def test_a_batch_of_one_and_a_zero_feature_stay_finite():
    head, _ = pair(batch_norm=True)
    assert np.isfinite(ops.convert_to_numpy(head(torch.zeros(1, 10), training=True))).all()
    plain, _ = pair(batch_norm=False)
    plain.linears[-1].kernel.assign(np.zeros((20, 6)))
    plain.linears[-1].bias.assign(np.zeros(6))
    assert np.array_equal(ops.convert_to_numpy(plain(torch.ones(2, 10))), np.zeros((2, 6)))


def test_the_config_rebuilds_it():
    head = ProjectionHead(20, 6, batch_norm=True, name="projection")
    twin = ProjectionHead.from_config(head.get_config())
    assert twin.get_config() == head.get_config() and len(twin.norms) == 2
    layer = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(head))
    assert isinstance(layer, ProjectionHead)


def test_the_output_is_float32_under_mixed_precision():
    head = ProjectionHead(20, 6, dtype="mixed_bfloat16")
    head.build((None, 10))
    output = head(torch.randn(4, 10))
    assert output.dtype == torch.float32
    np.testing.assert_allclose(output.norm(dim=1).detach().numpy(), 1, atol=1e-6)
