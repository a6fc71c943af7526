"""The config of a run. Its file is all that is needed to reproduce the run."""

import json
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    SerializeAsAny,
    model_validator,
)

from limner.data import DataConfig
from limner.errors import InputError
from limner.estimators import Gradient, ObjectiveKind, check_objective
from limner.models import ModelConfig, RecurrentConfig, config_from
from limner.settings import Hidden, Settings, read_json

SCHEMA_VERSION = 1
EPOCHS = 20
"""Passes over the training images, at least, if a command gives no budget."""
USUAL_DEVICES = ("auto", "cpu", "cuda", "mps")


def _named_device(device: object) -> object:
    """The name of a device; only a name of torch, such as cuda:1, needs torch to be checked."""
    if device in USUAL_DEVICES:
        return device
    from limner.device import named_device

    return named_device(device)  # pyright: ignore[reportArgumentType]


Decay = Annotated[float, Field(ge=0, lt=1)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Samples = Annotated[int, Field(gt=0, le=2**20)]
Share = Annotated[float, Field(gt=0, lt=1)]
DeviceName = Annotated[str, BeforeValidator(_named_device)]
AnyModelConfig = Annotated[SerializeAsAny[ModelConfig], BeforeValidator(config_from)]
"""The config of a registered model, or plain data with its `kind`."""


class OptimizerConfig(Settings):
    """The optimizer and its schedule."""

    prefix: ClassVar[str] = "optimizer."
    name: Literal["adam", "adamw"] = Field(default="adam", description="Adam, or AdamW")
    learning_rate: PositiveFloat = Field(default=2e-3, description="peak learning rate")
    weight_decay: NonNegativeFloat = Field(
        default=0.0, description="of all parameters: L2 (adam) or decoupled (adamw)"
    )
    betas: tuple[Decay, Decay] = Field(default=(0.9, 0.999), description="decay of both moments")
    epsilon: PositiveFloat = Field(
        default=1e-8, description="added to the root of the second moment"
    )
    clip_norm: PositiveFloat = Field(default=10.0, description="largest norm of the whole gradient")
    warmup_steps: NonNegativeInt = Field(
        default=200, description="steps of linear learning-rate warm-up"
    )
    schedule: Literal["cosine", "constant"] = Field(
        default="cosine",
        description="after warm-up: down to zero at the end of the budget, or constant",
    )


class ObjectiveConfig(Settings):
    """The objective that training maximises."""

    prefix: ClassVar[str] = "objective."
    kind: ObjectiveKind = Field(default="elbo", description="ELBO, or importance-weighted bound")
    num_samples: Samples = Field(
        default=1, description="samples K of the importance-weighted bound, or draws for the ELBO"
    )
    gradient: Gradient = Field(
        default="plain",
        description="estimator: plain, sticking the landing, doubly reparameterised",
    )
    kl_warmup_epochs: NonNegativeFloat = Field(
        default=0.0,
        description="epochs in which the weight of the KL rises from 0 to beta; that of conv-draw "
        "also rises in its first 400 steps",
    )
    beta: PositiveFloat = Field(default=1.0, description="weight of the KL after warm-up")
    free_bits: NonNegativeFloat = Field(
        default=0.0, description="nats of KL per group that are not penalised"
    )

    @property
    def traced(self) -> bool:
        """Whether the gradient needs every step in memory, in eager mode."""
        return self.gradient != "plain"


class RunConfig(Settings):
    """All settings of a training: those that decide its result, and how it is carried out."""

    schema_version: Annotated[Literal[1], Hidden] = SCHEMA_VERSION
    model: AnyModelConfig
    data: DataConfig = DataConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    start_from: Annotated[str, Field(min_length=1)] | None = Field(
        default=None, description="run folder or trained model whose best weights to start from"
    )
    epochs: PositiveInt | None = Field(
        default=None,
        description="passes over the training images; by default at least 20 and 2,000 steps",
    )
    minutes: PositiveFloat | None = Field(
        default=None, description="training time, instead of epochs or as well"
    )
    growth: tuple[tuple[Share, PositiveInt], ...] = Field(
        default=(),
        description="train a recurrent model with fewer steps at first: pairs of a share of the "
        "budget and the steps until then, such as 0.3 4 0.6 8",
    )
    batch_size: PositiveInt = Field(default=128, description="images per step, over all processes")
    seed: Seed = Field(default=0, description="seed of initialisation, order of images and noise")
    ema_decay: Decay = Field(
        default=0.999, description="decay per step of the averaged weights; 0: no averaging"
    )
    validate_every: PositiveInt = Field(default=1, description="epochs between validations")
    checkpoint_minutes: PositiveFloat = Field(
        default=5.0, description="longest time between checkpoints"
    )
    evaluate_samples: Samples = Field(
        default=50, description="importance samples in the evaluation after training"
    )
    compile: Literal["auto", "always", "never", "cuda-graph"] = Field(
        default="auto",
        description="use torch.compile; auto: if it saves time, and on CUDA repeat the step as a "
        "CUDA graph. cuda-graph: do so, or end with a reason. never: eager",
    )
    precision: Literal["float32", "tf32", "bfloat16"] = Field(
        default="float32",
        description="tf32: float32, multiplied in TF32 (CUDA); bfloat16: autocast, canvas, KL and "
        "likelihood stay float32",
    )
    device: DeviceName = Field(
        default="auto",
        description="where to train: auto, cpu, cuda, mps or another name of torch, such as cuda:1",
    )
    trackers: tuple[Literal["tensorboard", "wandb"], ...] = Field(
        default=(), max_length=2, description="loggers to use (extra [trackers])"
    )

    @model_validator(mode="after")
    def _is_whole(self) -> "RunConfig":
        if self.epochs is None and self.minutes is None:
            raise ValueError("a run needs a budget; give --epochs or --minutes")
        self._check_growth()
        aim = self.objective
        check_objective(aim.kind, aim.num_samples, aim.gradient, aim.free_bits)
        memory = self.model.memory if isinstance(self.model, RecurrentConfig) else None
        if aim.traced and memory == "recompute":
            raise ValueError(
                f"the {aim.gradient} gradient needs every step kept; choose --model.memory auto "
                "or store"
            )
        return self

    def _check_growth(self) -> None:
        """Refuse growth that does not end at the model's own number of steps."""
        if not self.growth:
            return
        if not isinstance(self.model, RecurrentConfig):
            raise ValueError(
                f"--growth is for recurrent models, and {self.model.kind} has no steps"
            )
        if "num_steps" not in self.model.free:
            raise ValueError("--growth needs steps that share their weights; choose --model.tied")
        shares, steps = zip(*self.growth, strict=True)
        if list(shares) != sorted(set(shares)):
            raise ValueError("the shares of --growth must rise")
        if (grown := [*steps, self.model.num_steps]) != sorted(set(grown)):
            raise ValueError(
                f"the steps of --growth must rise, up to the model's {self.model.num_steps}"
            )

    def steps_at(self, share: float) -> int:
        """Steps T of a recurrent model when a share of the budget is spent."""
        assert isinstance(self.model, RecurrentConfig)
        return next((steps for end, steps in self.growth if share < end), self.model.num_steps)

    def to_json(self) -> str:
        return json.dumps(self.model_dump(mode="json"), indent=2) + "\n"

    @classmethod
    def read(cls, path: Path) -> "RunConfig":
        """The config in a JSON file.

        Raises:
            InputError: no such file, not JSON, or not a config of this schema version.
        """
        values = read_json(path)
        version = values.get("schema_version") if isinstance(values, dict) else None
        if version != SCHEMA_VERSION:
            raise InputError(
                f"{path} has schema version {version!r}; this Limner reads {SCHEMA_VERSION}."
            )
        return cls.parse(values)
