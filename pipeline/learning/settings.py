"""The parameters of training, `train` in params.yaml."""

import math
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from pipeline.learning.augmentation import Augment
from pipeline.learning.batches import Cache
from pipeline.params import Section


class Train(Section):
    """`train`: how a model is trained."""

    seed: int = Field(ge=0)
    normalize: Literal["log", "linear", "none"]
    scale: Literal["feature", "bin"]
    cache: Cache
    clips_per_label: int | None = Field(ge=1)
    batch_size: int = Field(ge=1)
    epochs: int = Field(ge=1)
    optimizer: Literal["adam", "adamw", "sgd"]
    learning_rate: float = Field(gt=0)
    schedule: Literal["constant", "cosine"]
    warmup: float = Field(ge=0, lt=1)
    weight_decay: float = Field(ge=0)
    clip_norm: float | None = Field(gt=0)
    label_smoothing: float = Field(ge=0, lt=1)
    teacher: str | None
    teacher_md5: str | None = Field(pattern="^[0-9a-f]{32}$")
    teacher_feature: str | None
    teacher_weight: float = Field(gt=0, le=1)
    class_weights: Literal["none", "balanced"] | dict[str, float]  # weights by label
    monitor: Literal["accuracy", "loss"]
    patience: int = Field(ge=1)
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"]
    jit: bool
    deterministic: bool
    tensorboard: bool
    augment: Augment

    @field_validator("class_weights", mode="plain")
    @classmethod
    def _name_or_weights(cls, value: object) -> object:
        if value in ("none", "balanced"):
            return value
        if not isinstance(value, dict) or not all(
            type(weight) in (int, float) and 0 < weight < math.inf for weight in value.values()
        ):
            raise ValueError(
                "must be none, balanced, or weights above 0 by label, such as {_unknown_: 2.0}, is"
                f" {value!r}"
            )
        return {str(label): float(weight) for label, weight in value.items()}

    @model_validator(mode="after")
    def _options_fit_together(self) -> Self:
        if self.weight_decay and self.optimizer == "adam":
            raise ValueError("has a weight_decay, which adam ignores: choose adamw or sgd, or set it to 0")
        if self.warmup and self.schedule == "constant":
            raise ValueError("has a warmup, which only schedule cosine uses: choose cosine, or set it to 0")
        if self.jit and self.deterministic:
            raise ValueError("has jit and deterministic true, but XLA is not deterministic: choose one")
        if self.jit and self.augment.mixup and self.augment.noise.changes_waveforms:
            raise ValueError("has jit true with noise and mixup, which XLA cannot draw: set mixup to 0.0")
        return self

    def with_effect(self) -> dict[str, Any]:
        """Return the settings without those that cannot change the model."""
        noise = {} if self.augment.noise.changes_waveforms else {"augment": {"noise"}}
        return self.model_dump(exclude={"cache": True, "tensorboard": True, **noise})
