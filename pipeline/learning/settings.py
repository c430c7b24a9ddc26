"""The parameters of training, `train` in params.yaml."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, TypeAdapter, field_validator, model_validator

from pipeline.learning.augmentation import Augment
from pipeline.learning.batches import Cache
from pipeline.params import Section, Seed, Text, shown

ClassWeight = Annotated[float, Field(ge=1e-6, le=1e6)]


class Train(Section):
    """`train`: how a model is trained."""

    seed: Seed
    normalize: Literal["log", "linear", "none"]
    scale: Literal["feature", "bin"]
    cache: Cache
    clips_per_label: int | None = Field(ge=1, le=1_000_000_000)
    batch_size: int = Field(ge=1, le=1_000_000)
    epochs: int = Field(ge=1, le=1_000_000)
    optimizer: Literal["adam", "adamw", "sgd"]
    learning_rate: float = Field(ge=1e-12, le=1000)
    schedule: Literal["constant", "cosine"]
    warmup: float = Field(ge=0, lt=1)
    weight_decay: float = Field(ge=0, le=1000)
    clip_norm: float | None = Field(ge=1e-9, le=1e9)
    label_smoothing: float = Field(ge=0, lt=1)
    teacher: Text | None
    teacher_md5: str | None = Field(pattern="^[0-9a-f]{32}$")
    teacher_feature: Text | None
    teacher_weight: float = Field(ge=1e-6, le=1)
    class_weights: Literal["none", "balanced"] | dict[Text, ClassWeight]  # weights by label
    monitor: Literal["accuracy", "loss"]
    patience: int = Field(ge=1, le=1_000_000)
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
        try:
            weights = TypeAdapter(dict[Text | int, ClassWeight]).validate_python(value, strict=True)
            return {str(label): weight for label, weight in weights.items()}
        except ValueError:
            raise ValueError(
                "must be none, balanced, or weights above 0 by label, from 1e-6 to 1e6, such as"
                f" {{_unknown_: 2.0}}, is {shown(value)}"
            ) from None

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


def divergence_advice(settings: Train) -> str:
    """Return what to change in `settings` after a training whose loss became infinite or not a number.

    It continues a message after a colon.
    """
    rate, decay = settings.learning_rate, settings.weight_decay
    if rate * decay < 1:
        remedies = [f"lower train.learning_rate, {rate:g}"]
    else:
        product = f"times train.learning_rate, {rate:g}, it must be far below 1, is {rate * decay:g}"
        remedies = [f"lower train.weight_decay, {decay:g}: {product}"]
    if settings.clip_norm is None:
        remedies.append("set train.clip_norm, null, to 1.0")
    if settings.precision == "mixed_float16":
        remedies.append("set train.precision, mixed_float16, to mixed_bfloat16")
    return f"params.yaml: {', or '.join(remedies)}"
