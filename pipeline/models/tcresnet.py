"""TC-ResNet: residual blocks of convolutions over time, for which the bins are channels.

Choi et al., "Temporal Convolution for Real-time Keyword Spotting on Mobile Devices", Interspeech 2019,
https://arxiv.org/abs/1904.03814, figure 2. `blocks: [24, 32, 48]` is the paper's TC-ResNet8 and
`[24, 24, 32, 32, 48, 48]` its TC-ResNet14; `width` is its multiplier k.

The input is any feature (clips, frames, bins). The size on log-mel features of 98 frames x 40 bins, with 8
labels:

==========  =====  ==========  =============
            width  parameters  multiply-adds
==========  =====  ==========  =============
TC-ResNet8  1.0    65 k        1.5 M
TC-ResNet8  1.5    144 k       3.3 M
TC-ResNet14 1.0    136 k       3.0 M
TC-ResNet14 1.5    303 k       6.7 M
TC-ResNet14 2.0    536 k       12 M
==========  =====  ==========  =============
"""

from typing import Any

from pydantic import Field

from pipeline.models import Blocks, Channels, Dropout, Widened


class TCResNet(Widened):
    """A convolution of 3 frames, residual blocks that halve the frames when channels change, and a mean."""

    stem: Channels  # of the first convolution
    blocks: Blocks
    kernel: int = Field(ge=1, le=10_000)  # frames
    dropout: Dropout

    def logits(self, inputs: Any, num_labels: int) -> Any:
        """Return the logits (clips, num_labels) of `inputs` (clips, frames, bins)."""
        from keras import layers

        def convolve(x: Any, channels: int, kernel: int, stride: int, name: str) -> Any:
            x = layers.Conv1D(channels, kernel, stride, padding="same", use_bias=False, name=name)(x)
            return layers.BatchNormalization(name=f"{name}_norm")(x)

        x = layers.Conv1D(self.wide(self.stem), 3, padding="same", use_bias=False, name="stem")(inputs)
        for number, base_channels in enumerate(self.blocks, start=1):
            channels, name = self.wide(base_channels), f"block{number}"
            changes = channels != x.shape[-1]
            stride = 2 if changes else 1
            shortcut = x
            if changes:
                shortcut = layers.ReLU(name=f"{name}_shortcut_relu")(
                    convolve(x, channels, 1, stride, f"{name}_shortcut")
                )
            x = layers.ReLU(name=f"{name}_relu1")(convolve(x, channels, self.kernel, stride, f"{name}_conv1"))
            x = convolve(x, channels, self.kernel, 1, f"{name}_conv2")
            x = layers.ReLU(name=f"{name}_relu2")(layers.Add(name=f"{name}_add")([x, shortcut]))
        x = layers.GlobalAveragePooling1D(name="pooled")(x)
        x = layers.Dropout(self.dropout, name="dropout")(x)
        return layers.Dense(num_labels, name="logits")(x)
