"""Run in another environment: features of a saved ViT on the backend that KERAS_BACKEND names.

Called as `python backend_features.py FOLDER`; reads `vit.json` and `weights.npz` (torch's names) and
`inputs.npz` there, and writes `BACKEND.npz`. Neither torch nor safetensors is needed.
"""

import json
import pathlib
import sys

import keras
import numpy as np

from memssl_keras import ViT
from memssl_keras.weights import torch_names


def main(folder):
    backend = keras.backend.backend()
    encoder = ViT(**json.loads((folder / "vit.json").read_text()))
    torch_names.load_state(torch_names.encoder_names(encoder), dict(np.load(folder / "weights.npz")))
    rebuilt = keras.saving.load_model(folder / "encoder.keras")
    loaded = ViT(**json.loads((folder / "vit.json").read_text()))
    loaded.load_weights(folder / "encoder.weights.h5")
    array, results = keras.ops.convert_to_numpy, {}
    for name, images in np.load(folder / "inputs.npz").items():
        results[f"tokens/{name}"] = array(encoder.tokens(images))
        results[f"cls/{name}"] = array(encoder(images))
        results[f"attention/{name}"] = array(encoder.attention(images))
        results[f"predict/{name}"] = encoder.predict(images, verbose=0)
        results[f"keras/{name}"] = array(rebuilt(images))
        results[f"h5/{name}"] = array(loaded(images))
        if backend == "tensorflow":
            import tensorflow as tf

            spec = tf.TensorSpec((None, None, None, 3), tf.float32)
            results[f"graph/{name}"] = tf.function(encoder, input_signature=[spec])(images).numpy()
        if backend == "jax":
            import jax

            state = [
                [v.value for v in vs] for vs in (encoder.trainable_variables, encoder.non_trainable_variables)
            ]
            function = jax.jit(lambda x, s=state: encoder.stateless_call(*s, x)[0])
            results[f"graph/{name}"] = np.asarray(function(images))
    np.savez(folder / f"{backend}.npz", loaded_torch=np.array("torch" in sys.modules), **results)


main(pathlib.Path(sys.argv[1]))
