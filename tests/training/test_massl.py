"""Training: what `fit` takes, what it leaves behind, and what it refuses."""

import keras
import numpy as np
import pytest
import torch
from PIL import Image
from small_models import pictures, same_weights, small_cnn, small_crops, small_massl, small_vit

from memssl_keras import AdamW, MaSSL, ViT
from memssl_keras.images import Preprocessing
from memssl_keras.training.massl import NonFiniteLoss
from memssl_keras.training.randomness import CountedDraws
from memssl_keras.training.schedules import CosineSchedule, Schedules

METRICS = ["agreement", "loss", "memory_filled", "spread", "teacher_entropy"]


@pytest.fixture(autouse=True)
def seeded():
    keras.utils.set_random_seed(0)


def ready_views(count=8, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(count, size, size, 3)).astype("float32") for size in (32, 32, 16)]


@pytest.mark.numeric
def test_agreement_is_crosswise_and_spread_is_of_all_embeddings():
    model, views = small_massl(), ready_views(4)[:2]
    given = [model.teacher([torch.from_numpy(view)]).detach().numpy() for view in views]
    logs = model.train_step(([torch.from_numpy(view) for view in views],))
    # Before the first step the student is its teacher.
    assert float(logs["agreement"]) == pytest.approx(float((given[0] * given[1]).sum(1).mean()), abs=1e-5)
    spread = np.sqrt(np.concatenate(given).var(0).sum())
    assert float(logs["spread"]) == pytest.approx(float(spread), abs=1e-5)


def fit(model, x, batch_size=4, **arguments):
    return model.fit(x, views=small_crops(), batch_size=batch_size, verbose=0, **arguments)


def as_dataset(images):
    import datasets

    rows = {"picture": [Image.fromarray(i) for i in images], "label": list(range(len(images)))}
    features = datasets.Features({"picture": datasets.Image(), "label": datasets.Value("int64")})
    return datasets.Dataset.from_dict(rows, features=features)


def as_paths(images, folder):
    paths = [folder / f"{i}.png" for i in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(path)
    return paths


@pytest.fixture
def by_kind(tmp_path):
    images = pictures()
    return {
        "array": images,
        "tensor": torch.from_numpy(images),
        "dataset": as_dataset(images),
        "paths": as_paths(images, tmp_path),
        "pil": [Image.fromarray(image) for image in images],
    }


@pytest.mark.parametrize("kind", ["array", "tensor", "dataset", "paths", "pil"])
def test_every_form_of_images_trains_alike(by_kind, kind):
    models = []
    for x in (by_kind["array"], by_kind[kind]):
        keras.utils.set_random_seed(0)
        models.append(small_massl())
        before = models[-1].get_weights()
        history = fit(models[-1], x, epochs=2)
        assert sorted(history.history) == METRICS
        assert np.isfinite(history.history["loss"]).all()
        assert models[-1].step == 4 and models[-1].memory.filled == 16 / 40
        changed = [not np.array_equal(a, b) for a, b in zip(before, models[-1].get_weights(), strict=True)]
        assert np.mean(changed) > 0.9
    assert same_weights(*models)


@pytest.mark.parametrize("form", ["images", "images with labels", "dictionaries", "views"])
def test_loaders_of_images_and_of_views(form):
    images = torch.from_numpy(pictures())
    batches = {
        "images": [images[:4], images[4:]],
        "images with labels": [(images[:4], torch.arange(4)), (images[4:], torch.arange(4))],
        "dictionaries": [{"image": images[:4], "label": torch.arange(4)}],
        "views": [[torch.from_numpy(view[:4]) for view in ready_views()]],
    }[form]
    loader = torch.utils.data.DataLoader(batches, batch_size=None)
    model = small_massl()
    history = fit(model, loader, epochs=2)
    assert len(history.history["loss"]) == 2 and np.isfinite(history.history["loss"]).all()
    assert model.step == 2 * len(batches)


def test_ready_views_train_in_an_order_of_the_seed():
    models = []
    for seed in (1, 1, 2):
        keras.utils.set_random_seed(0)
        models.append(small_massl())
        fit(models[-1], ready_views(), seed=seed)
        assert models[-1].step == 2
    assert same_weights(models[0], models[1]) and not same_weights(models[0], models[2])


def test_workers_change_no_bit():
    models = []
    for workers, seed in ((0, 3), (2, 3), (0, 4)):
        keras.utils.set_random_seed(0)
        models.append(small_massl())
        fit(models[-1], pictures(), epochs=2, workers=workers, seed=seed)
    assert same_weights(models[0], models[1]) and not same_weights(models[0], models[2])


def test_another_epoch_shows_other_views():
    images, crops, seen = pictures(4), small_crops(), []

    class Watching(MaSSL):
        def train_step(self, data):
            seen.append(torch.cat([view.flatten() for view in data[0]]))
            return super().train_step(data)

    model = Watching(small_vit(), memory_size=40, block_size=10, hidden_dim=32, output_dim=16)
    model.compile(AdamW())
    model.fit(images, views=crops, batch_size=4, epochs=2, verbose=0)
    model.fit(images, views=crops, batch_size=4, epochs=2, initial_epoch=1, verbose=0)
    assert not torch.equal(seen[0], seen[1]) and torch.equal(seen[1], seen[2])


@pytest.mark.parametrize("batch_size", [1, 3, 7, 8])
def test_the_memory_takes_any_batch_size(batch_size):
    model = small_massl(memory_size=10, block_size=5)
    fit(model, pictures(), batch_size=batch_size, epochs=2)
    steps = 2 * (8 // batch_size)
    assert int(model.memory.pointer.numpy()) == steps * batch_size % 10
    assert model.memory.filled == min(steps * batch_size, 10) / 10


@pytest.mark.numeric
def test_the_memory_holds_the_teachers_embeddings_of_the_second_view():
    model, views = small_massl(teacher_momentum=1.0), ready_views(4)
    expected = model.teacher([torch.from_numpy(view) for view in views[:2]], training=False)[4:]
    order = np.random.Generator(np.random.Philox(key=[0, (1 << 40) - 1])).permutation(4)
    fit(model, views)
    np.testing.assert_allclose(model.memory.vectors.numpy()[:4], expected.detach().numpy()[order], atol=1e-5)


@pytest.mark.parametrize("momentum", [0.0, 1.0])
def test_momentum_one_keeps_the_teacher_and_zero_copies_the_student(momentum):
    model = small_massl(teacher_momentum=momentum)
    start = model.student.get_weights()
    assert same_weights(model.teacher, model.student)
    fit(model, pictures())
    expected = start if momentum else model.student.get_weights()
    for ours, theirs in zip(model.teacher.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert not same_weights(model.teacher, model.student) or not momentum


def test_weight_decay_leaves_out_what_is_flat():
    model = small_massl(small_vit(register_tokens=1, layer_scale=1e-5))
    optimizer = model.optimizer
    for variable in model.student.trainable_variables:
        assert optimizer._use_weight_decay(variable) == (len(variable.shape) > 1), variable.path
    assert optimizer._use_weight_decay(model.student.encoder.cls_token)
    assert optimizer._use_weight_decay(model.student.encoder.pos_embed)


def test_drop_path_differs_from_step_to_step_and_by_seed():
    kept = []
    for seed in (0, 1):
        model = small_massl(small_vit(drop_path=0.5), seed=seed)
        layer, draws = model.student.encoder.blocks[-1].drop_path, CountedDraws(seed)
        draws.set_model(model)
        draws.on_train_begin()
        for step in (0, 1):
            model.optimizer.iterations.assign(step)
            draws.on_train_batch_begin(0)
            kept.append(layer(torch.ones(64, 1, 1), training=True).flatten())
    assert all(not torch.equal(kept[i], kept[j]) for i in range(4) for j in range(i))


def test_the_teacher_has_no_drop_path():
    model = small_massl(small_vit(drop_path=0.9))
    images = torch.from_numpy(ready_views(4)[0])
    once, again = (model.teacher([images], training=True).detach() for _ in range(2))
    assert torch.equal(once, again)
    student, other = (model.student([images], training=True).detach() for _ in range(2))
    assert not torch.equal(student, other)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_another_keras_model_takes_the_place_of_the_vit(batch_norm):
    from keras import Input, Model, layers

    images = Input((None, None, 3))
    trunk = small_cnn()
    x = images
    for layer in trunk.layers[1:]:
        x = layer(x)
    encoder = Model(images, layers.Dense(10)(x), name="any_size")
    model = small_massl(encoder, batch_norm=batch_norm)
    statistics = model.encoder.model.get_layer("stem_norm").moving_mean.numpy().copy()
    before = encoder.get_weights()
    history = fit(model, pictures(), epochs=2)
    assert np.isfinite(history.history["loss"]).all()
    assert not np.array_equal(before[0], model.student.encoder.get_weights()[0])
    assert not np.array_equal(statistics, model.encoder.model.get_layer("stem_norm").moving_mean.numpy())
    assert tuple(model(np.zeros((2, 24, 24, 3), "float32")).shape) == (2, 10)


def test_a_keras_application_trains():
    encoder = keras.applications.MobileNetV3Small(
        input_shape=(32, 32, 3), alpha=0.35, weights=None, include_top=False, pooling="avg", minimalistic=True
    )
    model = small_massl(encoder)
    views = [view for view in ready_views(2) if view.shape[1] == 32]
    history = model.fit(views, batch_size=2, verbose=0)
    assert np.isfinite(history.history["loss"]).all() and model.memory.filled == 2 / 40


@pytest.mark.parametrize("make", [small_vit, lambda: small_vit(drop_path=0.3, register_tokens=1)])
def test_a_saved_model_trains_on_as_if_never_saved(tmp_path, make):
    def callbacks():
        return [Schedules(CosineSchedule(1e-3, 1e-5), CosineSchedule(0.04, 0.4), CosineSchedule(0.9, 1.0))]

    model = small_massl(make(), batch_norm=True, koleo_weight=0.1, memory_size=30, block_size=5)
    fit(model, pictures(), epochs=2, callbacks=callbacks())
    model.save(tmp_path / "model.keras")
    fit(model, pictures(), epochs=4, initial_epoch=2, callbacks=callbacks())
    keras.utils.set_random_seed(9)  # building draws weights, which loading replaces
    twin = keras.saving.load_model(tmp_path / "model.keras")
    assert twin.step == 4 and int(twin.memory.pointer.numpy()) == 16 and twin.memory.filled == 16 / 30
    fit(twin, pictures(), epochs=4, initial_epoch=2, callbacks=callbacks())
    assert same_weights(model, twin) and twin.step == 8
    for ours, theirs in zip(model.optimizer.variables, twin.optimizer.variables, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    assert twin.get_config() == model.get_config()
    assert isinstance(twin.encoder, ViT)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_stops_and_changes_nothing(bad):
    model, views = small_massl(batch_norm=True), ready_views(4)
    model.fit(views, batch_size=4, verbose=0)
    broken = [view.copy() for view in views]
    broken[2][1, 3, 3, 0] = bad
    before = [w.copy() for w in model.get_weights()]
    trained = [v.numpy().copy() for v in model.optimizer.variables]
    with pytest.raises(NonFiniteLoss, match="the loss is nan at step 1"):
        model.fit(broken, batch_size=4, verbose=0)
    for variable, ours, theirs in zip(model.weights, model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, theirs, err_msg=variable.path)
    for variable, theirs in zip(model.optimizer.variables, trained, strict=True):
        np.testing.assert_array_equal(variable.numpy(), theirs, err_msg=variable.path)
    assert model.step == 1
    model.fit(views, batch_size=4, verbose=0)
    assert model.step == 2


def test_the_teacher_keeps_the_preprocessing_of_any_encoder():
    encoder = small_cnn()
    encoder.preprocessing = Preprocessing(32, 40).to_dict()
    assert small_massl(encoder).encoder.preprocessing == encoder.preprocessing
    assert small_massl(small_vit(preprocessing={"image_size": 32})).encoder.preprocessing == {
        "image_size": 32
    }


def test_views_are_normalised_as_the_encoder_has_it():
    """White is 1.0 for an encoder of mean and deviation .5, in training as afterwards."""
    half = {
        "image_size": 32,
        "resize_size": 32,
        "interpolation": "bicubic",
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
    }
    model, seen = small_massl(small_vit(preprocessing=half)), []
    call = model.student.encoder.call
    model.student.encoder.call = lambda images, training=None: (
        seen.append(images.max().item()) or call(images)
    )
    white = np.full((4, 32, 32, 3), 255, "uint8")
    model.fit(white, views=small_crops(jitter=0.0, grey=0.0, solarize=0.0), batch_size=4, verbose=0)
    assert seen and max(seen) == pytest.approx(1.0) == model.encoder.preprocess(white[0]).max()


def test_what_fit_leaves_fine_tunes_as_any_keras_model():
    model = small_massl()
    model.fit(pictures(8), views=small_crops(), batch_size=4, verbose=0)
    encoder = model.encoder
    assert len(encoder.trainable_weights) == len(model.student.encoder.trainable_weights) > 0
    inputs = keras.Input((32, 32, 3))
    tuned = keras.Model(inputs, keras.layers.Dense(2)(encoder(inputs)))
    tuned.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    before = [w.numpy().copy() for w in encoder.trainable_weights]
    tuned.fit(encoder.preprocess.batch(pictures(8)), np.arange(8) % 2, batch_size=4, verbose=0)
    moved = [not np.array_equal(b, w.numpy()) for b, w in zip(before, encoder.trainable_weights, strict=True)]
    assert np.mean(moved) > 0.9


class Pairs(keras.utils.PyDataset):
    """Batches of images and labels, as Keras users have them."""

    def __init__(self, images, scale=1.0, **kwargs):
        super().__init__(**kwargs)
        self.images, self.scale = images, scale

    def __len__(self):
        return len(self.images) // 4

    def __getitem__(self, index):
        images = self.images[4 * index : 4 * index + 4]
        return images.astype("float32") * self.scale, np.zeros(4)


def weights_after(x, **options):
    keras.utils.set_random_seed(0)
    model = small_massl()
    model.fit(x, views=small_crops(), verbose=0, **options)
    return [w.copy() for w in model.encoder.get_weights()]


def test_what_keras_users_have_is_taken(tmp_path):
    """A folder's path, floats, a PyDataset and a generator train as the same images in an array do."""
    images = pictures(8)
    for i, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    expected = weights_after(images, batch_size=4)
    for x in (str(tmp_path), images.astype("float32"), images / np.float32(255)):
        for ours, theirs in zip(weights_after(x, batch_size=4), expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    batches = Pairs(images)
    from_dataset = weights_after(batches)
    from_generator = weights_after((batches[i] for i in range(2)), steps_per_epoch=2)
    for ours, theirs in zip(from_dataset, from_generator, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(ValueError, match="x holds floats from -1 to 1: expected 0 … 1, 0 … 255, or uint8"):
        weights_after(np.linspace(-1, 1, 8 * 32 * 32 * 3).reshape(8, 32, 32, 3), batch_size=4)


def test_labels_are_ignored_or_vote():
    images, labels = pictures(8), np.arange(8) % 2
    model = small_massl()
    with pytest.warns(UserWarning, match="y: labels are ignored"):
        model.fit(images, labels, views=small_crops(), batch_size=4, verbose=0)
    history = model.fit(
        images, labels, validation_data=(images, labels), views=small_crops(), batch_size=4, verbose=0
    ).history
    assert 0 <= history["knn"][0] <= 1


def test_what_makes_no_sense_is_said():
    model, images = small_massl(), pictures(8)
    with pytest.raises(
        ValueError, match="validation_data: expected a pair of images and labels, and the labels"
    ):
        model.fit(images, validation_data=(images, np.zeros(8)))
    with pytest.raises(ValueError, match="validation_split: expected 0"):
        model.fit(images, validation_split=0.2)
    with pytest.raises(ValueError, match="has no labels to be right about"):
        model.evaluate(images)
    with pytest.raises(ValueError, match="loss: expected none"):
        model.compile("sgd", loss="mse")
    with pytest.raises(ValueError, match="not compiled: call model.compile"):
        MaSSL(small_vit(), memory_size=40, block_size=10, hidden_dim=32, output_dim=16).fit(images)
