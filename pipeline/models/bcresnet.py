"""BC-ResNet: residual blocks whose convolutions run over the bins, and over time on the mean of all bins.

Kim et al., "Broadcasted Residual Learning for Efficient Keyword Spotting", Interspeech 2021,
https://arxiv.org/abs/2106.04140, figure 2 and table 1. `width` is the paper's tau: 1 to 8.

The input is a feature (clips, frames, bins). The number of bins is halved three times, rounding up.
`subbands` must divide each of the three numbers, and the last must be at least 5: 39 and 40 bins work with 5
subbands. The size on log-mel features of 98 frames x 40 bins, with 8 labels:

=====  ==========  =============
width  parameters  multiply-adds
=====  ==========  =============
1      9.1 k       2.5 M
2      27 k        7.2 M
3      54 k        14 M
8      320 k       84 M
=====  ==========  =============
"""

from typing import Any

from pydantic import Field

from pipeline.models import Dropout, Widened

# For each stage: blocks, channels at width 1, stride over the bins, dilation over the frames (table 1).
STAGES = ((2, 8, 1, 1), (2, 12, 2, 2), (4, 16, 2, 4), (4, 20, 1, 8))
KERNEL = 5


class BCResNet(Widened):
    """Broadcasted residual blocks: convolve each frame's mean over time, and add the result to every bin."""

    subbands: int = Field(ge=1, le=10_000)
    dropout: Dropout

    def logits(self, inputs: Any, num_labels: int) -> Any:
        """Return the logits (clips, num_labels) of `inputs` (clips, frames, bins).

        Raises ValueError if `subbands` does not divide the bins, or if too few bins remain at the end.
        """
        from keras import layers

        x = layers.Reshape((*inputs.shape[1:], 1), name="image")(inputs)
        x = layers.Conv2D(self.wide(16), 5, (1, 2), padding="same", use_bias=False, name="stem")(x)
        x = layers.ReLU(name="stem_relu")(layers.BatchNormalization(name="stem_norm")(x))
        for stage, (blocks, channels, stride, dilation) in enumerate(STAGES, start=1):
            for block in range(1, blocks + 1):
                name = f"stage{stage}_{block}"
                first = block == 1
                x = self._block(x, self.wide(channels), (stride if first else 1, dilation), name, first=first)
        if x.shape[2] < KERNEL:
            raise ValueError(
                f"{inputs.shape[2]} bins become {x.shape[2]} in the last layers, expected at least {KERNEL}"
            )
        x = layers.ZeroPadding2D(((KERNEL // 2, KERNEL // 2), (0, 0)), name="tail_pad")(x)
        x = layers.DepthwiseConv2D(KERNEL, use_bias=False, name="tail_depthwise")(x)
        x = layers.Conv2D(self.wide(32), 1, use_bias=False, name="tail")(x)
        x = layers.ReLU(name="tail_relu")(layers.BatchNormalization(name="tail_norm")(x))
        x = layers.GlobalAveragePooling2D(name="pooled")(x)
        return layers.Dense(num_labels, name="logits")(x)

    def _block(
        self, x: Any, channels: int, stride_and_dilation: tuple[int, int], name: str, *, first: bool
    ) -> Any:
        """Return relu(x + f2(x) + f1(mean over the bins of f2(x))). The first block of a stage omits x."""
        from keras import layers

        stride, dilation = stride_and_dilation
        identity = [] if first else [x]
        if first:
            x = layers.Conv2D(channels, 1, use_bias=False, name=f"{name}_wide")(x)
            x = layers.ReLU(name=f"{name}_wide_relu")(layers.BatchNormalization(name=f"{name}_wide_norm")(x))
        x = layers.DepthwiseConv2D((1, 3), padding="same", use_bias=False, name=f"{name}_bins")(x)
        if stride > 1:  # TensorFlow has no depthwise convolution with a stride over only the bins
            x = layers.MaxPooling2D((1, 1), (1, stride), name=f"{name}_stride")(x)
        x = f2 = self._subband_norm(x, f"{name}_bins")
        _, frames, bins, _ = x.shape
        x = layers.AveragePooling2D((1, bins), name=f"{name}_mean")(x)
        x = layers.Reshape((frames, channels), name=f"{name}_one")(x)
        x = layers.DepthwiseConv1D(
            3, padding="same", dilation_rate=dilation, use_bias=False, name=f"{name}_frames"
        )(x)
        x = layers.BatchNormalization(name=f"{name}_frames_norm")(x)
        x = layers.Activation("silu", name=f"{name}_frames_silu")(x)
        x = layers.Conv1D(channels, 1, use_bias=False, name=f"{name}_mix")(x)
        x = layers.SpatialDropout1D(self.dropout, name=f"{name}_dropout")(x)
        x = layers.Reshape((frames, 1, channels), name=f"{name}_to_all")(x)
        return layers.ReLU(name=f"{name}_relu")(layers.Add(name=f"{name}_add")([f2, x, *identity]))

    def _subband_norm(self, x: Any, name: str) -> Any:
        """Normalise each of `subbands` equal parts of the bins with its own statistics.

        Raises ValueError if `subbands` does not divide the bins.
        """
        from keras import layers

        _, frames, bins, channels = x.shape
        if bins % self.subbands:
            raise ValueError(
                f"{bins} bins cannot be cut into {self.subbands} equal parts (models.bcresnet.subbands)"
            )
        x = layers.Reshape((frames, self.subbands, bins // self.subbands, channels), name=f"{name}_cut")(x)
        x = layers.Permute((1, 3, 2, 4), name=f"{name}_apart")(x)
        x = layers.Reshape(
            (frames, bins // self.subbands, self.subbands * channels), name=f"{name}_as_channels"
        )(x)
        x = layers.BatchNormalization(name=f"{name}_norm")(x)
        x = layers.Reshape(
            (frames, bins // self.subbands, self.subbands, channels), name=f"{name}_from_channels"
        )(x)
        x = layers.Permute((1, 3, 2, 4), name=f"{name}_together")(x)
        return layers.Reshape((frames, bins, channels), name=f"{name}_whole")(x)
