"""AdamW as torch defines it, as a Keras optimiser for the torch backend.

References:
    Loshchilov and Hutter, Decoupled Weight Decay Regularization, ICLR 2019 (arXiv 1711.05101).
"""

import math
from typing import Any

import keras
import torch


@keras.saving.register_keras_serializable("memssl_keras")
class AdamW(keras.optimizers.AdamW):
    """Keras's AdamW with epsilon where torch has it, all weights at once and in place.

    Keras divides by √v + ε before the bias correction of v is taken out, torch after it. In the first steps
    that is a factor of 30 on ε, and the small gradients of queries and keys feel it. All else is Keras's. On a GPU
    a step waits for the device twice, not twice for every weight.

    Attributes:
        shares: For each variable the learning rate it gets, as a share of the optimiser's; None for 1 throughout.
            Weight decay, which the rate multiplies, goes with it.
        starts: For each variable the steps after which it was first trained, which its bias corrections count from;
            None for 0 throughout.

    Example:
        >>> from memssl_keras import AdamW
        >>> optimizer = AdamW(5e-4, weight_decay=0.04, clipnorm=3.0)
    """

    def __init__(
        self, learning_rate: Any = 5e-4, weight_decay: float = 0.04, epsilon: float = 1e-8, **kwargs
    ):
        super().__init__(learning_rate=learning_rate, weight_decay=weight_decay, epsilon=epsilon, **kwargs)
        self.shares: list[float] | None = None
        self.starts: list[int] | None = None
        if self.amsgrad:
            raise ValueError("amsgrad=True: expected False, this AdamW has no AMSGrad variant")

    def _clip_gradients(self, grads):
        if not self.clipnorm:
            return super()._clip_gradients(grads)
        norms = torch.stack(torch._foreach_norm(grads))
        return torch._foreach_mul(grads, list((self.clipnorm / norms.clamp(min=self.clipnorm)).unbind()))

    @torch.no_grad()
    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        if not trainable_variables:
            return
        step, rate = int(self.iterations.value) + 1, float(learning_rate)
        places = [self._get_variable_index(variable) for variable in trainable_variables]
        values = [variable.value for variable in trainable_variables]
        first = [self._momentums[place].value for place in places]
        second = [self._velocities[place].value for place in places]
        grads = [gradient.to(moment.dtype) for gradient, moment in zip(grads, first, strict=True)]
        torch._foreach_lerp_(first, grads, 1 - self.beta_1)
        torch._foreach_mul_(second, self.beta_2)
        torch._foreach_addcmul_(second, grads, grads, value=1 - self.beta_2)
        starts = [self.starts[place] if self.starts else 0 for place in places]
        roots = [math.sqrt(1 - self.beta_2 ** (step - start)) for start in starts]
        scales = [
            -rate * share * root / (1 - self.beta_1 ** (step - start))
            for share, root, start in zip(self._shares(places), roots, starts, strict=True)
        ]
        divisors = torch._foreach_sqrt(second)
        torch._foreach_add_(divisors, [self.epsilon * root for root in roots])
        torch._foreach_addcdiv_(values, first, divisors, scales)

    def _shares(self, places):
        return [self.shares[place] if self.shares else 1.0 for place in places]

    def _apply_weight_decay(self, variables):
        if not self.shares:
            super()._apply_weight_decay(variables)
            return
        decay = float(self.learning_rate) * (self.weight_decay or 0)
        places = [self._get_variable_index(variable) for variable in variables]
        for variable, share in zip(variables, self._shares(places), strict=True):
            if self._use_weight_decay(variable):
                variable.assign(variable * (1 - decay * share))
