"""A small residual network of ordinary convolutions on the feature as an image.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, https://arxiv.org/abs/1512.03385,
figure 2. The shortcuts are those of He et al. 2019, https://arxiv.org/abs/1812.01187, figure 2c: average
pooling, then a 1 x 1 convolution. Like the networks of Tang & Lin 2018, https://arxiv.org/abs/1710.10361, it
is shallow and works at a low resolution: its first convolution halves frames and bins.

The input is any feature (clips, frames, bins). The size on log-mel features of 101 frames x 40 bins, with 8
labels:

=======  ==========  =============
width    parameters  multiply-adds
=======  ==========  =============
0.5      78 k        13 M
1.0      308 k       49 M
1.5      691 k       111 M
2.0      1.2 M       196 M
=======  ==========  =============
"""

from typing import Any

from pipeline.models import Blocks, Channels, Dropout, Widened


class ResNet(Widened):
    """A 5 x 5 convolution, residual blocks that halve frames and bins when channels change, and a mean."""

    stem: Channels  # of the first convolution
    blocks: Blocks
    dropout: Dropout

    def logits(self, inputs: Any, num_labels: int) -> Any:
        """Return the logits (clips, num_labels) of `inputs` (clips, frames, bins)."""
        from keras import layers

        def convolve(x: Any, channels: int, kernel: int, stride: int, name: str) -> Any:
            x = layers.Conv2D(channels, kernel, stride, padding="same", use_bias=False, name=name)(x)
            return layers.BatchNormalization(name=f"{name}_norm")(x)

        x = layers.Reshape((*inputs.shape[1:], 1), name="image")(inputs)
        x = layers.ReLU(name="stem_relu")(convolve(x, self.wide(self.stem), 5, 2, "stem"))
        for number, base_channels in enumerate(self.blocks, start=1):
            channels, name = self.wide(base_channels), f"block{number}"
            changes = channels != x.shape[-1]
            stride = 2 if changes else 1
            shortcut = x
            if changes:
                shortcut = layers.AveragePooling2D(2, padding="same", name=f"{name}_mean")(x)
                shortcut = convolve(shortcut, channels, 1, 1, f"{name}_shortcut")
            x = layers.ReLU(name=f"{name}_relu1")(convolve(x, channels, 3, stride, f"{name}_conv1"))
            x = convolve(x, channels, 3, 1, f"{name}_conv2")
            x = layers.ReLU(name=f"{name}_relu2")(layers.Add(name=f"{name}_add")([x, shortcut]))
        x = layers.GlobalAveragePooling2D(name="pooled")(x)
        x = layers.Dropout(self.dropout, name="dropout")(x)
        return layers.Dense(num_labels, name="logits")(x)
