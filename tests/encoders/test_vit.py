"""The encoder: shapes, sizes, refusals, saving, and each optional part."""

import keras
import numpy as np
import pytest
import torch
from keras import ops
from rounding import assert_within_rounding
from small_models import rich_vit, same_weights, small_vit

from memssl_keras import ViT
from memssl_keras.encoders.positions import resize_positions

pytestmark = pytest.mark.numeric


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def array(tensor):
    return ops.convert_to_numpy(tensor)


@pytest.mark.parametrize("registers", [0, 3])
@pytest.mark.parametrize("height, width", [(32, 32), (16, 16), (48, 24), (8, 40), (35, 47)])
def test_shapes_follow_the_image(registers, height, width):
    encoder, images = small_vit(register_tokens=registers), noise(2, height, width, 3)
    count = 1 + registers + (height // 8) * (width // 8)
    assert tuple(encoder(images).shape) == (2, 24)
    assert tuple(encoder.tokens(images).shape) == (2, count, 24)
    assert tuple(encoder.attention(images).shape) == (2, 3, count, count)
    # Two orders of the same sums: the last block computes the first token alone where no other is asked for.
    np.testing.assert_allclose(array(encoder(images)), array(encoder.tokens(images))[:, 0], atol=1e-5)


def test_the_remainder_of_a_size_is_cut_off():
    encoder, images = rich_vit(), noise(1, 35, 47, 3)
    np.testing.assert_allclose(array(encoder(images)), array(encoder(images[:, :32, :40])), atol=1e-6)


@pytest.mark.parametrize(
    "size, parameters", [("tiny", 5.5e6), ("small", 21.7e6), ("base", 85.8e6), ("large", 303.3e6)]
)
def test_published_sizes_have_their_parameters(size, parameters):
    with keras.device("meta"):  # shapes without values
        encoder = ViT.from_size(size, patch_size=16)
    assert encoder.count_params() == pytest.approx(parameters, rel=0.01)
    assert encoder.output_shape == (None, encoder.embed_dim)
    assert encoder.grid_size == 14


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"embed_dim": 0}, "embed_dim=0: expected an integer of at least 1"),
        ({"embed_dim": 24.0}, "embed_dim=24.0"),
        ({"depth": 0}, "depth=0"),
        ({"num_heads": -3}, "num_heads=-3"),
        ({"patch_size": "8"}, "patch_size='8'"),
        ({"num_heads": 5}, "embed_dim=24 is not a multiple of num_heads=5"),
        ({"image_size": 30}, "image_size=30 is not a multiple of patch_size=8"),
        ({"image_size": 0}, "image_size=0 is not a multiple"),
        ({"drop_path": 1.0}, "drop_path=1.0: expected a rate"),
        ({"drop_path": -0.1}, "drop_path=-0.1: expected a rate"),
        ({"register_tokens": -1}, "register_tokens=-1: expected 0 or more"),
    ],
)
def test_bad_arguments_are_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        small_vit(**arguments)


def test_an_unknown_size_lists_those_there_are():
    with pytest.raises(ValueError, match="size='huge': expected one of tiny, small, base, large"):
        ViT.from_size("huge")


def test_images_below_a_patch_are_refused():
    with pytest.raises(ValueError, match="7 × 32 px, smaller than a patch of 8"):
        small_vit()(noise(1, 7, 32, 3))


def test_registers_take_part_and_have_no_position():
    encoder, images = small_vit(register_tokens=2), noise(2, 32, 32, 3)
    before = array(encoder(images))
    encoder.registers.assign(noise(1, 2, 24))
    assert np.abs(array(encoder(images)) - before).max() > 1e-3
    assert tuple(encoder.pos_embed.shape) == (1, 17, 24)


def test_layer_scale_of_zero_leaves_the_input_of_the_blocks():
    encoder, images = small_vit(layer_scale=0.0), noise(2, 32, 32, 3)
    expected = encoder.norm(encoder._embed_patches(images))
    np.testing.assert_allclose(array(encoder.tokens(images)), array(expected), atol=1e-6)
    encoder.blocks[1].ls2.gamma.assign(np.ones(24, "float32"))
    assert np.abs(array(encoder.tokens(images)) - array(expected)).max() > 1e-3


def test_drop_path_is_off_in_inference_and_rises_with_depth():
    encoder, images = small_vit(drop_path=0.5, depth=3), noise(4, 32, 32, 3)
    np.testing.assert_array_equal(array(encoder(images)), array(encoder(images, training=False)))
    assert [block.drop_path.rate for block in encoder.blocks] == [0, 0.25, 0.5]
    first, second = (array(encoder(images, training=True)) for _ in range(2))
    assert np.abs(first - second).max() > 1e-4


def test_drop_path_drops_whole_images_and_keeps_the_mean():
    keras.utils.set_random_seed(0)
    block, x = small_vit(drop_path=0.5).blocks[-1], torch.ones(2000, 4, 24)
    dropped = array(block.drop_path(x, training=True))
    assert {len(np.unique(image)) for image in dropped} == {1}
    kept = dropped[:, 0, 0]
    assert set(np.unique(kept)) == {0.0, 2.0}
    assert np.mean(kept) == pytest.approx(1, abs=0.1)


def test_attention_rows_sum_to_one():
    attention = array(rich_vit().attention(noise(2, 32, 48, 3)))
    np.testing.assert_allclose(attention.sum(-1), 1, atol=1e-6)
    assert attention.min() >= 0 and attention[:, :, 0].std() > 1e-4


def test_the_attention_map_is_what_the_fused_path_uses():
    encoder, images = rich_vit(), noise(2, 40, 24, 3)
    x = encoder._embed_patches(images)
    x = encoder.blocks[0](x)
    last = encoder.blocks[1]
    (values,) = last.attn._heads(last.norm1(x), 2, 1)
    mixed = ops.einsum("bhqk,bkhd->bqhd", encoder.attention(images), values)
    x = x + last.ls1(last.attn.proj(ops.reshape(mixed, x.shape)))
    x = x + last.ls2(last.fc2(ops.gelu(last.fc1(last.norm2(x)), approximate=False)))
    np.testing.assert_allclose(array(encoder.tokens(images)), array(encoder.norm(x)), atol=1e-5)


@pytest.mark.parametrize("target", [(2, 2), (4, 4), (3, 7), (9, 4), (14, 14), (1, 1), (37, 20)])
@pytest.mark.parametrize("source", [(4, 4), (14, 14)])
def test_positions_are_resized_as_torch_does_with_the_offset(source, target):
    positions = torch.from_numpy(noise(1, source[0] * source[1], 6))

    def torchs(positions):
        grid = positions.reshape(1, *source, 6).permute(0, 3, 1, 2)
        if target != source:
            scale = tuple((t + 0.1) / s for t, s in zip(target, source, strict=True))
            grid = torch.nn.functional.interpolate(grid, scale_factor=scale, mode="bicubic")
        return {"positions": grid.flatten(2).transpose(1, 2)}

    assert_within_rounding({"positions": resize_positions(positions, source, target)}, torchs, positions)


def test_the_config_rebuilds_the_encoder():
    encoder = rich_vit(drop_path=0.2, mlp_ratio=2.0, qkv_bias=False, norm_epsilon=1e-5)
    twin = ViT.from_config(encoder.get_config())
    assert twin.get_config() == encoder.get_config()
    twin.set_weights(encoder.get_weights())
    images = noise(2, 24, 40, 3)
    np.testing.assert_array_equal(array(twin(images)), array(encoder(images)))


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
def test_keras_files_keep_every_bit(tmp_path, suffix):
    encoder, path, images = rich_vit(drop_path=0.1), tmp_path / f"encoder{suffix}", noise(2, 32, 16, 3)
    if suffix == ".keras":
        encoder.save(path)
        twin = keras.saving.load_model(path)
    else:
        encoder.save_weights(path)
        twin = ViT.from_config(encoder.get_config())
        twin.load_weights(path)
    assert same_weights(encoder, twin)
    np.testing.assert_array_equal(array(twin(images)), array(encoder(images)))


def test_half_precision_stays_near():
    encoder, images = rich_vit(), noise(2, 32, 40, 3)
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        twin = rich_vit()
    finally:
        keras.config.set_dtype_policy("float32")
    assert same_weights(encoder, twin)
    features = twin(images)
    assert features.dtype == torch.bfloat16 and twin.blocks[0].fc1.kernel.dtype == "float32"
    np.testing.assert_allclose(array(features.float()), array(encoder(images)), atol=0.2)
