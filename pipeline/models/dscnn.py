"""DS-CNN: depthwise separable convolutions, each one over frames and bins and one over channels.

Zhang et al., "Hello Edge: Keyword Spotting on Microcontrollers", 2017, https://arxiv.org/abs/1711.07128,
section 4.3 and table 10. `channels` 64 is the paper's S. 172, and 276 with 5 blocks, have the channels of its
M and L, but the strides of S.

The input is any feature (clips, frames, bins). The size on log-mel features of 98 frames x 40 bins, with 8
labels:

========  ======  ==========  =============
channels  blocks  parameters  multiply-adds
========  ======  ==========  =============
64        4       23 k        21 M
172       4       136 k       129 M
276       5       413 k       396 M
========  ======  ==========  =============
"""

from typing import Any

from pydantic import Field

from pipeline.models import Channels, Dropout, Model


class DSCNN(Model):
    """A convolution of 10 frames x 4 bins that halves both, 3 x 3 separable convolutions, and a mean."""

    channels: Channels
    blocks: int = Field(ge=1, le=64)
    dropout: Dropout

    def logits(self, inputs: Any, num_labels: int) -> Any:
        """Return the logits (clips, num_labels) of `inputs` (clips, frames, bins)."""
        from keras import layers

        def normalise(x: Any, name: str) -> Any:
            return layers.ReLU(name=f"{name}_relu")(layers.BatchNormalization(name=f"{name}_norm")(x))

        x = layers.Reshape((*inputs.shape[1:], 1), name="image")(inputs)
        stem = layers.Conv2D(self.channels, (10, 4), 2, padding="same", use_bias=False, name="stem")
        x = normalise(stem(x), "stem")
        for number in range(1, self.blocks + 1):
            depthwise = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name=f"depthwise{number}")
            pointwise = layers.Conv2D(self.channels, 1, use_bias=False, name=f"pointwise{number}")
            x = normalise(depthwise(x), f"depthwise{number}")
            x = normalise(pointwise(x), f"pointwise{number}")
        x = layers.GlobalAveragePooling2D(name="pooled")(x)
        x = layers.Dropout(self.dropout, name="dropout")(x)
        return layers.Dense(num_labels, name="logits")(x)
