"""AdamW as torch defines it, as a Keras optimiser for the torch backend.

References:
    Loshchilov and Hutter, Decoupled Weight Decay Regularization, ICLR 2019 (arXiv 1711.05101).
"""

import math

import keras
import torch


@keras.saving.register_keras_serializable("memssl_keras")
class AdamW(keras.optimizers.AdamW):
    """Keras's AdamW with epsilon where torch has it, in four in-place operations per weight.

    Keras divides by √v + ε before the bias correction of v is taken out, torch after it. In the first steps
    that is a factor of 30 on ε, and the small gradients of queries and keys feel it. Weight decay, clipping
    and everything else are Keras's.

    Example:
        >>> from memssl_keras import AdamW
        >>> optimizer = AdamW(5e-4, weight_decay=0.04, clipnorm=3.0)
    """

    def __init__(self, learning_rate=5e-4, weight_decay=0.04, epsilon=1e-8, **kwargs):
        super().__init__(learning_rate=learning_rate, weight_decay=weight_decay, epsilon=epsilon, **kwargs)
        if self.amsgrad:
            raise ValueError("amsgrad=True: expected False, this AdamW has no AMSGrad variant")

    @torch.no_grad()
    def update_step(self, gradient, variable, learning_rate):
        index, step = self._get_variable_index(variable), int(self.iterations.value) + 1
        first, second = self._momentums[index].value, self._velocities[index].value
        first.lerp_(gradient.to(first.dtype), 1 - self.beta_1)
        second.mul_(self.beta_2).addcmul_(gradient, gradient, value=1 - self.beta_2)
        correction = math.sqrt(1 - self.beta_2**step)
        scale = float(learning_rate) * correction / (1 - self.beta_1**step)
        variable.value.addcdiv_(first, second.sqrt().add_(self.epsilon * correction), value=-scale)
