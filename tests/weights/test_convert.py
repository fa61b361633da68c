"""Checkpoints of others: the same features, strict loading, and nothing run that a stranger wrote."""

import argparse
import os
import pickle

import numpy as np
import pytest
import torch
from golden_runs import FOLDER, Golden
from other_libraries import need
from safetensors.torch import load_file, save_file
from small_models import pictures, rich_vit, same_weights, small_vit, varied

from memssl_keras import AdamW, MaSSL, MultiCrop, ResNet, ViT, from_pretrained
from memssl_keras.conversion import convert
from memssl_keras.weights.checkpoint import CheckpointError, read_checkpoint
from memssl_keras.weights.torch_names import encoder_names, to_state

GOLDEN = FOLDER / "massl_vit_checkpoint.pth"


def state_of(encoder):
    return {name: torch.from_numpy(array) for name, array in to_state(encoder_names(encoder)).items()}


def prefixed(state, prefix):
    return {prefix + name: tensor for name, tensor in state.items()}


def renamed(state, *pairs):
    for old, new in pairs:
        state = {name.replace(old, new): tensor for name, tensor in state.items()}
    return state


HEAD = {f"mlp.{i}.weight": torch.ones(2, 2) for i in (0, 2, 4)} | {"last_layer.weight_g": torch.ones(3, 1)}


# The reference's checkpoint.


@pytest.mark.numeric
def test_a_massl_checkpoint_gives_its_features():
    features = Golden(FOLDER / "massl_vit_features.npz")
    encoder = from_pretrained(GOLDEN, num_heads=3)
    for size in (32, 16, 48):
        tokens = encoder.tokens(features[f"pixels_{size}"].transpose(0, 2, 3, 1)).detach().numpy()
        np.testing.assert_allclose(tokens, features[f"tokens_{size}"], atol=1e-5)


def test_a_massl_checkpoint_is_trained_on(tmp_path):
    run = Golden(FOLDER / "massl_vit_train.npz")
    convert(GOLDEN, tmp_path, num_heads=3)
    model = MaSSL.from_pretrained(tmp_path, teacher_temperature=0.05)
    assert (model.memory.size, model.memory.block_size, model.teacher_temperature) == (64, 16, 0.05)
    np.testing.assert_array_equal(model.memory.vectors.numpy(), run["step3/memory"])
    assert int(model.memory.pointer.numpy()) == int(run["step3/pointer"])
    for kind, branch in (("student", model.student), ("teacher", model.teacher)):
        from memssl_keras.weights.training_state import branch_names

        ours, theirs = to_state(branch_names(branch)), run.under(f"step3/{kind}/")
        for name in ours:
            np.testing.assert_array_equal(ours[name], theirs[name])
    model.compile(AdamW(1e-3, clipnorm=3.0))
    before, start = model.get_weights(), int(run["step3/pointer"])
    model.fit(pictures(8), views=MultiCrop(32, 16, 2), batch_size=4, epochs=1, verbose=0)
    assert model.step == 2 and not all(map(np.array_equal, before, model.get_weights()))
    assert int(model.memory.pointer.numpy()) == start + 8
    kept = np.ones(64, bool)
    kept[start : start + 8] = False
    np.testing.assert_array_equal(model.memory.vectors.numpy()[kept], run["step3/memory"][kept])


def test_the_student_is_there_on_request(tmp_path):
    run = Golden(FOLDER / "massl_vit_train.npz")
    student = convert(GOLDEN, tmp_path, network="student", num_heads=3)
    expected = run["step3/student/backbone.blocks.0.attn.qkv.weight"]
    np.testing.assert_array_equal(state_of(student)["blocks.0.attn.qkv.weight"], expected)
    assert not (tmp_path / "training").exists()
    with pytest.raises(CheckpointError, match="network='both': expected 'teacher' or 'student'"):
        convert(GOLDEN, tmp_path, network="both", num_heads=3)


def test_massl_saves_and_goes_on(tmp_path):
    from small_models import small_crops, small_massl

    model = small_massl(batch_norm=True)
    model.fit(pictures(8), views=small_crops(), batch_size=4, verbose=0)
    model.save_pretrained(tmp_path)
    twin = MaSSL.from_pretrained(tmp_path)
    assert same_weights(model.student, twin.student) and same_weights(model.teacher, twin.teacher)
    assert same_weights(model.memory, twin.memory)
    with pytest.raises(FileNotFoundError, match="no config.json, .*the model has no training state"):
        MaSSL.from_pretrained("massl_vitn4.cifar10")


def write_resnet(folder):
    ResNet((1, 1), 8, "cifar").save_pretrained(folder)
    return folder


def test_nothing_of_the_model_that_was_there_stays(tmp_path):
    out, mine = tmp_path / "out", tmp_path / "out" / "notes.txt"
    varied(small_vit()).save_pretrained(tmp_path / "first")
    convert(tmp_path / "first", out, exports=["fp32", "transformers", "keras"])
    (out / "results.json").write_text('{"results": []}')
    for derived in ("raw_pixels.onnx", "model.ort", "raw_pixels_fp16.verify.json"):
        (out / "onnx" / derived).write_bytes((out / "onnx" / "model.onnx").read_bytes())
    mine.write_text("mine")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(
        ValueError, match="transformers"
    ):  # nothing of the old model goes before the new one is there
        convert(write_resnet(tmp_path / "resnet"), out, exports=["transformers"])
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    varied(small_vit(), 1).save_pretrained(tmp_path / "second")
    convert(tmp_path / "second", out)
    assert not (out / "results.json").exists() and not any((out / "onnx").iterdir())
    assert not [path for path in out.iterdir() if path.name in ("transformers.safetensors", "model.keras")]
    assert mine.read_text() == "mine" and "onnx" not in (out / "README.md").read_text()
    with pytest.raises(ValueError, match="is what is converted; expected another"):
        convert(out, out)
    others = tmp_path / "others" / "training"  # a folder of something else keeps what it has
    others.mkdir(parents=True)
    for path in (others.parent / "config.json", others / "config.json"):
        path.write_text('{"mine": 1}')
    convert(tmp_path / "second", others.parent)
    assert (others / "config.json").read_text() == '{"mine": 1}'


# The other families, written as their training writes them.


def dino(state):
    branch = lambda at: prefixed(state, f"{at}backbone.") | prefixed(HEAD, f"{at}head.")  # noqa: E731
    extra = {
        "args": argparse.Namespace(arch="vit_small"),
        "epoch": np.float64(3),
        "dino_loss": {"center": torch.ones(1)},
    }
    return {"student": branch("module."), "teacher": branch(""), "optimizer": {"state": {}}, **extra}


def ibot(state):
    state = renamed(state, ("ls1.gamma", "gamma_1"), ("ls2.gamma", "gamma_2"))
    return {"state_dict": state | {"masked_embed": torch.ones(1, 24), **prefixed(HEAD, "head.")}}


def dinov2(state):
    return {**state, "mask_token": torch.zeros(1, 24)}


def dinov2_training(state):
    chunked = renamed(state, ("blocks.0.", "blocks.0.0."), ("blocks.1.", "blocks.1.1."))
    heads = {"dino_head.mlp.0.weight": torch.ones(2, 2), "ibot_head.mlp.0.weight": torch.ones(2, 2)}
    return {"teacher": prefixed(dinov2(chunked), "backbone.") | heads, "iteration": 5}


def msn(state):
    target = prefixed(state, "module.") | {"module.fc.fc1.weight": torch.ones(2, 2)}
    zeros = {name: tensor * 0 for name, tensor in target.items()}
    return {"encoder": zeros, "target_encoder": target, "epoch": 3, "prototypes": torch.ones(2)}


def mocov3(state):
    zeros = {name: tensor * 0 for name, tensor in state.items()}
    heads = {
        "module.predictor.0.weight": torch.ones(2, 2),
        "module.momentum_encoder.head.0.weight": torch.ones(2, 2),
    }
    both = prefixed(state, "module.momentum_encoder.") | prefixed(zeros, "module.base_encoder.")
    return {"epoch": 3, "arch": "vit_small", "state_dict": both | heads}


FAMILIES = [
    (dino, {}),
    (ibot, {"layer_scale": 0.1}),
    (dinov2, {"layer_scale": 0.1}),
    (dinov2, {"layer_scale": 0.1, "register_tokens": 4}),
    (dinov2_training, {"layer_scale": 0.1, "register_tokens": 4}),
    (msn, {}),
    (mocov3, {}),
]


@pytest.mark.parametrize("wrap, settings", FAMILIES)
def test_a_checkpoint_of_each_family_is_read(tmp_path, wrap, settings):
    encoder = varied(small_vit(**settings))
    torch.save(wrap(state_of(encoder)), tmp_path / "checkpoint.pth")
    twin = from_pretrained(tmp_path / "checkpoint.pth", num_heads=3)
    assert same_weights(encoder, twin)


@pytest.mark.parametrize("head", [{}, {"head.weight": torch.ones(5, 24), "head.bias": torch.ones(5)}])
def test_a_bare_state_dict_is_read(tmp_path, head):
    encoder = varied(small_vit())
    torch.save({"model": state_of(encoder) | head}, tmp_path / "checkpoint.pth")
    assert same_weights(from_pretrained(tmp_path / "checkpoint.pth", num_heads=3, trained_size=32), encoder)


def test_heads_that_shapes_do_not_tell(tmp_path):
    wide = ViT(embed_dim=384, depth=1, num_heads=12, patch_size=16, image_size=32)
    torch.save(mocov3(state_of(wide)), tmp_path / "moco.pth")
    torch.save(state_of(wide), tmp_path / "plain.pth")
    assert from_pretrained(tmp_path / "moco.pth").num_heads == 12  # MoCo v3's small ViT
    torch.save(state_of(wide), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    told = from_pretrained(tmp_path / "old.pth", num_heads=12, trained_size=32)
    assert same_weights(told, wide) and told.num_heads == 12
    assert from_pretrained(tmp_path / "plain.pth", trained_size=32).num_heads == 6
    torch.save(state_of(small_vit()), tmp_path / "small.pth")
    with pytest.raises(CheckpointError, match="width 24 is none of 192, 384, 768, 1024; pass num_heads"):
        from_pretrained(tmp_path / "small.pth", trained_size=32)
    with pytest.raises(CheckpointError, match="num_heads=5: expected a divisor of the width, 24"):
        from_pretrained(tmp_path / "small.pth", num_heads=5, trained_size=32)


@pytest.mark.parametrize("wrap", [dino, dinov2_training, msn, mocov3])
def test_the_student_of_each_family(tmp_path, wrap):
    encoder = varied(small_vit(layer_scale=0.1))
    content = wrap(state_of(encoder))
    if wrap in (msn, mocov3):  # whose students are zeros here
        torch.save(content, tmp_path / "a.pth")
        student = from_pretrained(tmp_path / "a.pth", network="student", num_heads=3)
        assert not any(weight.any() for weight in student.get_weights())
    else:
        torch.save({**content, "student": content["teacher"], "teacher": {}}, tmp_path / "a.pth")
        assert same_weights(from_pretrained(tmp_path / "a.pth", network="student", num_heads=3), encoder)


def test_a_student_that_is_not_there_is_named(tmp_path):
    torch.save(state_of(small_vit()), tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="network='student': a ViT checkpoint holds one model"):
        from_pretrained(tmp_path / "a.pth", network="student", num_heads=3)


@pytest.mark.parametrize("wrap, interpolation", [(msn, "bilinear"), (mocov3, "bilinear"), (dino, "bicubic")])
def test_their_preprocessing(tmp_path, wrap, interpolation):
    torch.save(wrap(state_of(small_vit(image_size=224, patch_size=32))), tmp_path / "a.pth")
    preprocess = from_pretrained(tmp_path / "a.pth", num_heads=3).preprocess
    assert (preprocess.image_size, preprocess.resize_size, preprocess.interpolation) == (
        224,
        256,
        interpolation,
    )


def test_the_folder_says_where_it_came_from(tmp_path):
    torch.save(dino(state_of(small_vit())), tmp_path / "dino.pth")
    convert(tmp_path / "dino.pth", tmp_path / "out", num_heads=3)
    text = (tmp_path / "out" / "README.md").read_text()
    assert "Converted from DINO or iBOT checkpoint dino.pth" in text and "MaSSL" not in text


# What is wrong with a file.


@pytest.mark.parametrize("wrap", [dino, dinov2, msn, mocov3, lambda state: state])
def test_missing_unexpected_and_misshapen_weights_are_all_named(tmp_path, wrap):
    state = state_of(varied(small_vit()))
    del state["blocks.1.norm2.bias"]
    state |= {"blocks.0.attn.scale": torch.ones(3), "norm.weight": torch.ones(7)}
    torch.save(wrap(state), tmp_path / "odd.pth")
    with pytest.raises(CheckpointError) as error:
        from_pretrained(tmp_path / "odd.pth", num_heads=3, trained_size=32)
    for words in (
        "odd.pth",
        "missing blocks.1.norm2.bias",
        "unexpected blocks.0.attn.scale",
        "norm.weight has shape (7,), expected (24,)",
    ):
        assert words in str(error.value)


def test_prefixes_are_stripped_at_the_start_alone(tmp_path):
    state = state_of(small_vit())
    state["blocks.0.module.norm1.weight"] = state.pop("blocks.0.norm1.weight")
    torch.save(dino(state), tmp_path / "odd.pth")
    with pytest.raises(
        CheckpointError, match=r"missing blocks.0.norm1.weight; unexpected blocks.0.module.norm1"
    ):
        from_pretrained(tmp_path / "odd.pth", num_heads=3)


class Runs:
    """What a pickle calls when it is opened."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("save", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value, 2))])
def test_nothing_in_a_pickle_is_run(tmp_path, save):
    save({"teacher": {}, "state_dict": {}, "x": Runs(tmp_path / "made")}, tmp_path / "bad.pth")
    with pytest.raises(CheckpointError, match=r"bad\.pth: refers to \w+\.mkdir, which could run code"):
        from_pretrained(tmp_path / "bad.pth")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "content, words",
    [
        (
            {"a": torch.ones(2), "b": torch.ones(2)},
            "of no known family; expected a ViT of MaSSL, DINO.*has a, b",
        ),
        ({}, "of no known family.*has no entries"),
        ([torch.ones(2)], "holds a list; expected a dict of weights"),
        ({"state_dict": {"patch_embed.proj.weight": torch.ones(2)}}, "missing cls_token, pos_embed"),
    ],
)
def test_files_of_another_kind_are_named(tmp_path, content, words):
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=words):
        from_pretrained(tmp_path / "other.pth")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_truncated_files_are_named(tmp_path, suffix, share):
    path = tmp_path / f"cut.{suffix}"
    (save_file if suffix == "safetensors" else torch.save)(state_of(small_vit()), path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(CheckpointError, match=rf"cut\.{suffix}: (damaged|not a checkpoint)"):
        from_pretrained(path)


def test_nothing_is_written_where_a_checkpoint_does_not_fit(tmp_path):
    torch.save({"a": torch.ones(2)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError):
        convert(tmp_path / "other.pth", tmp_path / "out")
    assert not (tmp_path / "out").exists()


# transformers and timm, by their own hand.

SIZES = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "image_size": 28,
    "patch_size": 7,
    "initializer_range": 0.1,
}
MODELS = {
    "ViT": {"intermediate_size": 96, "layer_norm_eps": 1e-12},
    "ViTMSN": {"intermediate_size": 96},
    "Dinov2": {"mlp_ratio": 2, "layerscale_value": 0.5},
    "Dinov2WithRegisters": {"mlp_ratio": 2, "layerscale_value": 0.5, "num_register_tokens": 3},
}
# From version 5's names to those of version 4, by hand.
OLDER = {
    "ViT": (
        ("layers.", "encoder.layer."),
        ("attention.q_proj", "attention.attention.query"),
        ("attention.k_proj", "attention.attention.key"),
        ("attention.v_proj", "attention.attention.value"),
        ("attention.o_proj", "attention.output.dense"),
        ("mlp.fc1", "intermediate.dense"),
        ("mlp.fc2", "output.dense"),
    ),
}
OLDER |= {"ViTMSN": OLDER["ViT"], "Dinov2": OLDER["ViT"][1:5], "Dinov2WithRegisters": OLDER["ViT"][1:5]}


def theirs(kind):
    """A model of transformers with random weights, biases and tokens included."""
    transformers = need("transformers")
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**SIZES, **MODELS[kind])
    model = getattr(transformers, f"{kind}Model")(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def cls_of(model, pixels):
    with torch.no_grad():
        return model(pixels).last_hidden_state[:, 0].numpy()


def ours_of(encoder, pixels):
    return encoder(pixels.permute(0, 2, 3, 1).numpy()).detach().numpy()


@pytest.mark.numeric
@pytest.mark.parametrize("scheme", ["newer", "older"])
@pytest.mark.parametrize("kind", MODELS)
def test_parity_with_transformers(kind, scheme, tmp_path):
    model = theirs(kind)
    model.save_pretrained(tmp_path)
    names = model.state_dict()
    if scheme == "older":
        names = renamed(names, *OLDER[kind])
        assert any("attention.attention.query" in name for name in names)
    save_file({name: tensor.contiguous() for name, tensor in names.items()}, tmp_path / "model.safetensors")
    pixels = torch.randn(3, 3, 28, 28)
    encoder = from_pretrained(tmp_path)
    np.testing.assert_allclose(ours_of(encoder, pixels), cls_of(model, pixels), atol=1e-4)


@pytest.mark.parametrize("kind", MODELS)
def test_what_transformers_itself_saves_is_read(kind, tmp_path):
    model = theirs(kind)
    model.save_pretrained(tmp_path)
    pixels = torch.randn(3, 3, 28, 28)
    np.testing.assert_allclose(ours_of(from_pretrained(tmp_path), pixels), cls_of(model, pixels), atol=1e-4)


def test_a_classifier_and_half_precision_are_read(tmp_path):
    transformers = need("transformers")
    model = transformers.ViTForImageClassification(transformers.ViTConfig(**SIZES, **MODELS["ViT"])).eval()
    model.to(torch.bfloat16).save_pretrained(tmp_path)
    pixels = torch.randn(2, 3, 28, 28)
    theirs = model.float().vit(pixels).last_hidden_state[:, 0].detach().numpy()
    np.testing.assert_allclose(ours_of(from_pretrained(tmp_path), pixels), theirs, atol=1e-4)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"hidden_act": "gelu_new"}, "hidden_act='gelu_new'; expected 'gelu'"),
        ({"model_type": "beit"}, "model_type='beit'; expected vit, vit_msn, dinov2"),
    ],
)
def test_models_that_compute_otherwise_are_refused(change, words, tmp_path):
    import json

    theirs("ViT").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | change
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=words):
        from_pretrained(tmp_path)


TIMM = [
    {},
    {"init_values": 0.1},
    {"reg_tokens": 3, "no_embed_class": True, "init_values": 0.1},
    {"reg_tokens": 3},
    {"qkv_bias": False},
]


@pytest.mark.numeric
@pytest.mark.parametrize("settings", TIMM)
def test_parity_with_timm(settings, tmp_path):
    timm = need("timm")
    torch.manual_seed(0)
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 3, "num_classes": 4}
    model = timm.create_model("vit_small_patch16_224", **sizes, **settings).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    timm.models.save_for_hf(model, tmp_path)
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = model.forward_features(pixels)[:, 0].numpy()
    np.testing.assert_allclose(ours_of(from_pretrained(tmp_path), pixels), expected, atol=1e-4)


# Repositories as they are on the Hub, preprocessing included.


NORMAL = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225], "do_normalize": True}


def test_facebook_dino_vits16(hub, tmp_path):
    """A pickle of version 4's names, and the preprocessing of an old feature extractor: squashed to a square."""
    import json

    model = theirs("ViT")
    model.config.save_pretrained(tmp_path)
    torch.save(renamed(model.state_dict(), *OLDER["ViT"]), tmp_path / "pytorch_model.bin")
    settings = {
        "do_resize": True,
        "feature_extractor_type": "ViTFeatureExtractor",
        "resample": 3,
        "size": 28,
        **NORMAL,
    }
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    hub.add_folder("facebook/dino-vits16", tmp_path)
    encoder = from_pretrained("facebook/dino-vits16")
    preprocess = encoder.preprocess
    assert preprocess.squash and (preprocess.image_size, preprocess.interpolation) == (28, "bicubic")
    processor = need("transformers").ViTImageProcessorPil(**settings | {"size": {"height": 28, "width": 28}})
    wide = pictures(1, size=40)[0][:25]
    pixels = processor(wide, return_tensors="pt")["pixel_values"]
    np.testing.assert_allclose(preprocess(wide).transpose(2, 0, 1), pixels[0], atol=1e-6)
    np.testing.assert_allclose(encoder(preprocess.batch([wide])).detach(), cls_of(model, pixels), atol=1e-4)


@pytest.mark.numeric
@pytest.mark.parametrize(
    "kind, name", [("Dinov2", "dinov2-small"), ("Dinov2WithRegisters", "dinov2-with-registers-small")]
)
def test_facebook_dinov2(hub, tmp_path, kind, name):
    """Made for larger images than its preprocessing gives: positions are resized as transformers does it."""
    import json

    model = theirs(kind)
    model.save_pretrained(tmp_path)
    crop = {"crop_size": {"height": 21, "width": 21}, "size": {"shortest_edge": 24}, "do_center_crop": True}
    settings = {
        "image_processor_type": "BitImageProcessor",
        "resample": 3,
        "do_resize": True,
        **crop,
        **NORMAL,
    }
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    hub.add_folder(f"facebook/{name}", tmp_path)
    encoder = from_pretrained(f"facebook/{name}")
    assert (encoder.preprocess.image_size, encoder.preprocess.resize_size) == (21, 24)
    pixels = torch.randn(2, 3, 21, 21)
    np.testing.assert_allclose(ours_of(encoder, pixels), cls_of(model, pixels), atol=1e-4)
    encoder.save_pretrained(tmp_path / "ours", exports=["transformers"])
    again = need("transformers").AutoModel.from_pretrained(tmp_path / "ours").eval()
    np.testing.assert_allclose(cls_of(again, pixels), cls_of(model, pixels), atol=1e-4)
    # At another size positions are resized once, from those that were trained, again as transformers does it.
    larger = from_pretrained(f"facebook/{name}", image_size=35)
    assert (larger.preprocess.image_size, larger.preprocess.resize_size, larger.image_size) == (35, 40, 35)
    pixels = torch.randn(2, 3, 35, 35)
    np.testing.assert_allclose(ours_of(larger, pixels), cls_of(model, pixels), atol=1e-4)
    with pytest.raises(ValueError, match="image_size=30: expected a multiple of the patch of 7 px"):
        from_pretrained(f"facebook/{name}", image_size=30)


@pytest.mark.numeric
def test_timm_vit_small_patch16_224_dino(hub, tmp_path):
    import json

    timm = need("timm")
    model = timm.create_model("vit_small_patch16_224.dino", img_size=32, depth=2).eval()
    timm.models.save_for_hf(model, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["pretrained_cfg"] |= {"crop_pct": 0.9, "input_size": [3, 32, 32]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    hub.add_folder("timm/vit_small_patch16_224.dino", tmp_path)
    encoder = from_pretrained("timm/vit_small_patch16_224.dino")
    preprocess = encoder.preprocess
    assert (preprocess.image_size, preprocess.resize_size, preprocess.interpolation) == (32, 35, "bicubic")
    assert (encoder.num_heads, encoder.embed_dim) == (6, 384)
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        np.testing.assert_allclose(ours_of(encoder, pixels), model(pixels).numpy(), atol=1e-4)
    larger = from_pretrained("timm/vit_small_patch16_224.dino", image_size=64)
    assert (larger.preprocess.image_size, larger.preprocess.resize_size, larger.image_size) == (64, 70, 64)


def test_read_checkpoint_takes_what_training_scripts_write(tmp_path):
    content = {
        "args": argparse.Namespace(lr=1e-3),
        "lr": np.float64(0.5),
        "count": np.int64(3),
        "x": [1, "a", None],
    }
    torch.save(content, tmp_path / "a.pth")
    assert read_checkpoint(tmp_path / "a.pth") == content
    save_file(state_of(rich_vit()), tmp_path / "b.bin")  # the content counts, not the name
    assert read_checkpoint(tmp_path / "b.bin").keys() == load_file(tmp_path / "b.bin").keys()


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: {"model": s},
        lambda s: {"model": {f"teacher.backbone.{k}": v for k, v in s.items()}},
        lambda s: {"model": {f"{b}.backbone.{k}": v for b in ("student", "teacher") for k, v in s.items()}},
        lambda s: {f"_orig_mod.{k}": v for k, v in s.items()},
        lambda s: {f"_orig_mod.module.{k}": v for k, v in s.items()},
        lambda s: {f"model.{k}": v for k, v in s.items()},
        lambda s: {f"encoder.{k}": v for k, v in s.items()} | {"decoder.weight": torch.zeros(2)},
        lambda s: {"backbone": s},
        lambda s: {"epoch": 3, "state_dict": {"model": {f"module.{k}": v for k, v in s.items()}}},
    ],
)
def test_wrappings_of_tools_are_taken_off(tmp_path, wrap):
    vit = varied(small_vit())
    state = {name: torch.from_numpy(array) for name, array in to_state(encoder_names(vit)).items()}
    torch.save(wrap(state), tmp_path / "a.pth")
    assert same_weights(from_pretrained(tmp_path / "a.pth", num_heads=vit.num_heads, trained_size=32), vit)


def test_what_is_in_an_unknown_file_is_named_with_what_it_lies_in(tmp_path):
    torch.save({"model": {"inner": {"conv1.weight": torch.zeros(2)}}, "epoch": 1}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="the file has model › inner › conv1.weight, epoch"):
        from_pretrained(tmp_path / "a.pth")


def test_weights_that_are_no_numbers_are_refused(tmp_path):
    state = {name: torch.from_numpy(array) for name, array in to_state(encoder_names(small_vit())).items()}
    state["norm.bias"][3] = float("nan")
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"norm.bias holds NaN or infinity, as 1 of \d+ weights do"):
        convert(tmp_path / "a.pth", tmp_path / "out", num_heads=3, trained_size=32)
    assert not (tmp_path / "out").exists()
