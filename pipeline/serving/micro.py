"""The files for micro-controllers: two models as .tflite and as C arrays.

The front end computes the feature of one waveform, in float32. The network takes this feature as int8 and
returns int8 probabilities. A device that computes the feature itself needs only the network.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.progress import quietly
from pipeline.serving.description import Description

FRONT_END, NETWORK = "front_end.tflite", "network.tflite"
SOURCE, HEADER = "model.cc", "model.h"
PER_LINE = 16


def write(folder: Path, front_end: bytes, network: bytes, description: Description) -> None:
    """Make `folder`; write the models, the C source and header with both, and the description into it."""
    folder.mkdir()
    (folder / FRONT_END).write_bytes(front_end)
    (folder / NETWORK).write_bytes(network)
    arrays = {"front_end": front_end, "network": network}
    (folder / HEADER).write_text(_header(arrays, description), encoding="utf-8")
    (folder / SOURCE).write_text(_source(arrays, description), encoding="utf-8")
    description.write(folder)


def _header(arrays: dict[str, bytes], description: Description) -> str:
    sound = description.audio
    lines = [
        "// front_end: float32 waveform (1, samples) -> float32 feature (1, frames, bins).",
        "// network: int8 feature -> int8 probabilities (1, labels). The scales are in the model.",
        "// The licences are in metadata.json.",
        "#pragma once",
        "",
        f"constexpr int sample_rate = {sound.sample_rate};  // Hz",
        f"constexpr int num_samples = {sound.samples};",
        f"constexpr int num_labels = {len(description.labels)};",
        "extern const char* const labels[num_labels];",
        *(f"extern const unsigned char {name}[{len(content)}];" for name, content in arrays.items()),
    ]
    return "\n".join(lines) + "\n"


def _source(arrays: dict[str, bytes], description: Description) -> str:
    labels = ", ".join(_quoted(label) for label in description.labels)
    lines = [f'#include "{HEADER}"', "", f"const char* const labels[num_labels] = {{{labels}}};"]
    for name, content in arrays.items():
        lines.append(f"alignas(16) const unsigned char {name}[{len(content)}] = {{")
        rows = (content[start : start + PER_LINE] for start in range(0, len(content), PER_LINE))
        lines += ["".join(f"{byte}," for byte in row) for row in rows] + ["};"]
    return "\n".join(lines) + "\n"


def _quoted(label: str) -> str:
    return '"' + label.replace("\\", "\\\\").replace('"', '\\"') + '"'


def size(folder: Path) -> int:
    """Return the bytes of both models, as they are on a device."""
    return sum((folder / name).stat().st_size for name in (FRONT_END, NETWORK))


def load(folder: Path) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """Return the function from waveforms (clips, samples) to probabilities (clips, labels), under LiteRT."""
    front_end, network = (Model((folder / name).read_bytes()) for name in (FRONT_END, NETWORK))
    return lambda waveforms: np.concatenate([network(front_end(waveform[None])) for waveform in waveforms])


class Model:
    """A .tflite model under LiteRT's interpreter that takes and returns float32, whatever it computes in.

    Args:
        content: the file's bytes.
        reference: use LiteRT's reference code, and not the faster code for this processor. Both round int8
            differently; micro-controllers round as the reference does.
    """

    def __init__(self, content: bytes, *, reference: bool = False) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        resolver = OpResolverType.BUILTIN_REF if reference else OpResolverType.AUTO
        with quietly():
            self._interpreter = Interpreter(
                model_content=content, num_threads=1, experimental_op_resolver_type=resolver
            )
            self._interpreter.allocate_tensors()
        self.input = self._interpreter.get_input_details()[0]
        self.output = self._interpreter.get_output_details()[0]

    def __call__(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the output for `values`, whose shape is the model's."""
        self._interpreter.set_tensor(self.input["index"], quantized(values, self.input))
        self._interpreter.invoke()
        return dequantized(self._interpreter.get_tensor(self.output["index"]), self.output)


def quantized(values: NDArray[np.float32], details: dict[str, Any]) -> NDArray[Any]:
    """Return `values` in the type of the tensor with these `details`."""
    if details["dtype"] != np.int8:
        return values
    scale, zero_point = details["quantization"]
    levels: NDArray[np.float32] = np.rint(values / np.float32(scale)) + zero_point
    return np.clip(levels, -128, 127).astype(np.int8)


def dequantized(values: NDArray[Any], details: dict[str, Any]) -> NDArray[np.float32]:
    """Return `values`, of the tensor with these `details`, as float32."""
    if details["dtype"] != np.int8:
        return np.asarray(values, np.float32)
    scale, zero_point = details["quantization"]
    levels: NDArray[np.float32] = values.astype(np.float32) - zero_point
    return levels * np.float32(scale)
