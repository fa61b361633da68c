"""Two layers that encoder and head are made of, each a pass over memory shorter than Keras's own."""

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable("memssl_keras")
class Linear(layers.Dense):
    """`Dense` with truncated-normal weights; on torch the bias is added within the matrix product."""

    def __init__(self, units, **kwargs):
        kwargs.setdefault("kernel_initializer", keras.initializers.TruncatedNormal(stddev=0.02))
        super().__init__(units, **kwargs)

    def call(self, inputs, training=None):
        if keras.backend.backend() != "torch" or self.activation is not keras.activations.linear:
            return super().call(inputs, training=training)
        from torch.nn.functional import linear

        weights = [
            w if w is None else ops.convert_to_tensor(w, self.compute_dtype) for w in (self.kernel, self.bias)
        ]
        return linear(inputs, weights[0].mT, weights[1])


@keras.saving.register_keras_serializable("memssl_keras")
class DropPath(layers.Dropout):
    """Stochastic depth: drops a residual branch `(B, …)` for whole images, and scales it up for the others.

    References:
        Huang et al., Deep Networks with Stochastic Depth, ECCV 2016 (arXiv 1603.09382).
    """

    def call(self, inputs, training=False):
        if not training or not self.rate:
            return inputs
        shape = (ops.shape(inputs)[0],) + (1,) * (len(inputs.shape) - 1)
        kept = keras.random.uniform(shape, dtype="float32", seed=self.seed_generator) >= self.rate
        return inputs * (ops.cast(kept, inputs.dtype) / (1 - self.rate))
