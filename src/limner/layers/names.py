"""Names of the choices in layers, for configs, which do not import torch."""

from typing import Literal

ActivationName = Literal["relu", "leaky_relu", "tanh", "elu", "silu"]
ObservationName = Literal[
    "bernoulli", "gaussian", "discretized_logistic", "discretized_logistic_mixture"
]
