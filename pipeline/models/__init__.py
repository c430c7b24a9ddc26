"""Models: one file per model, features (clips, frames, bins) → logits (clips, num_labels).

The name of a section under `models` in params.yaml is the name of a file here. The file defines a class of
the same name, ignoring case and underscores: `TCResNet` is in tcresnet.py.
"""

from abc import abstractmethod
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import Field

from pipeline.params import Plugin

PROJECT = "speech-command-pipeline"

# Types that several models use.
Channels = Annotated[int, Field(ge=1, le=65_536)]
Blocks = Annotated[list[Channels], Field(min_length=1, max_length=64)]  # channels of each block
Dropout = Annotated[float, Field(ge=0, le=0.99)]


class Model(Plugin):
    """A model and its parameters, `models.<name>`. A subclass must implement `logits`.

    Attributes:
        train_overrides: the section `train` in `models.<name>`. For this model, its values replace those of
            the top-level section `train`.
    """

    train_overrides: dict[str, Any] = Field(default_factory=dict, alias="train")

    @abstractmethod
    def logits(self, inputs: Any, num_labels: int) -> Any:
        """Return the logits (clips, num_labels) of `inputs` (clips, frames, bins). Both are Keras tensors.

        Raises ValueError if the model cannot take inputs of this shape.
        """

    def licences(self) -> list[dict[str, str]]:
        """Return the licences of what a trained model contains, each as `part`, `licence` and `source`."""
        return [{"part": "code of the front end and of the network", "licence": "MIT", "source": PROJECT}]

    def problems(self, feature: dict[str, Any], sample_rate: int) -> list[str]:
        """Return one message for each reason why this model cannot be trained on a feature.

        A message continues the words "models.<name>".

        Args:
            feature: the feature's parameters, its section in params.yaml.
            sample_rate: of the clips, in Hz.
        """
        del feature, sample_rate
        return []

    def phases(self, network: Any, epochs: int) -> Iterator[tuple[int, float]]:
        """Yield, for each phase of training, its last epoch and its factor of the learning rate.

        An implementation may freeze or unfreeze layers of `network` before it yields.

        Args:
            network: the Keras model that contains this model's layers.
            epochs: the last epoch of training.
        """
        del network
        yield epochs, 1.0


class Widened(Model):
    """A model whose numbers of channels are all multiplied by `width`."""

    width: float = Field(ge=0.01, le=100)

    def wide(self, channels: int) -> int:
        """Return `channels` times `width`, rounded, but at least 1."""
        return max(1, round(channels * self.width))
