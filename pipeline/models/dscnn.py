"""DS-CNN: convolutions that are separable into one over space and one over channels.

Zhang et al., "Hello Edge: Keyword Spotting on Microcontrollers", 2017, https://arxiv.org/abs/1711.07128,
section 4.3 and table 10. `channels` 64, 172 and 276 are the paper's S, M and L (L with 5 blocks).

Takes any feature: (clips, frames, bins). On log-mel features of 98 frames x 40 bins with 8 labels:

========  ======  ==========  =============
channels  blocks  parameters  multiply-adds
========  ======  ==========  =============
64        4       23 k        21 M
172       4       136 k       129 M
276       5       413 k       396 M
========  ======  ==========  =============
"""

from typing import Any

from pydantic import Field, PositiveInt

from pipeline.models import Model


class Dscnn(Model):
    """A convolution of 10 frames x 4 bins that halves both, separable ones of 3 x 3, and a mean."""

    channels: PositiveInt
    blocks: PositiveInt
    dropout: float = Field(ge=0, lt=1)

    def logits(self, inputs: Any, labels: int) -> Any:
        """Return the logits (clips, labels) of `inputs` (clips, frames, bins)."""
        from keras import layers

        def normalised(x: Any, name: str) -> Any:
            return layers.ReLU(name=f"{name}_relu")(layers.BatchNormalization(name=f"{name}_norm")(x))

        x = layers.Reshape((*inputs.shape[1:], 1), name="image")(inputs)
        stem = layers.Conv2D(self.channels, (10, 4), 2, padding="same", use_bias=False, name="stem")
        x = normalised(stem(x), "stem")
        for number in range(1, self.blocks + 1):
            over_space = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name=f"depthwise{number}")
            over_channels = layers.Conv2D(self.channels, 1, use_bias=False, name=f"pointwise{number}")
            x = normalised(over_space(x), f"depthwise{number}")
            x = normalised(over_channels(x), f"pointwise{number}")
        x = layers.GlobalAveragePooling2D(name="pooled")(x)
        x = layers.Dropout(self.dropout, name="dropout")(x)
        return layers.Dense(labels, name="logits")(x)
