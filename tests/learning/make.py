"""Makes what the tests of training share: small clips, a store of them, settings, and models."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.corpus.members import Member
from pipeline.features.logmel import LogMel
from pipeline.learning import network, runtime
from pipeline.learning.augmentation import Augment
from pipeline.learning.batches import Subset, select_rows
from pipeline.learning.fit import fit
from pipeline.learning.noise import Noise, NoiseSettings
from pipeline.learning.saving import save
from pipeline.learning.settings import Train
from pipeline.models import Model
from pipeline.models.bcresnet import BCResNet
from pipeline.models.cnn import CNN
from pipeline.models.dscnn import DSCNN
from pipeline.models.resnet import ResNet
from pipeline.models.rnn import RNN
from pipeline.models.speech import FEATURE, Speech
from pipeline.models.tcresnet import TCResNet
from pipeline.store.layout import Rows, Store, describe
from tests.serving.make import BANDS
from tests.store.make import make_feature, make_store

FRAMES, BINS = 12, 40
# The store's description of itself: a feature whose frames are 0.1 s apart.
PARAMS: dict[str, Any] = {
    "audio": {"sample_rate": 22050},
    "feature": {
        "name": "x",
        "params": {},
        "scale": None,
        "axis": None,
        "frame_times": {"first": 0, "step": 0.1},
    },
}
NO_NOISE = NoiseSettings(probability=0.0, min_snr=0.0, max_snr=20.0, gain=0.0, folder=None, folder_md5=None)
NO_AUGMENT = Augment(
    time_shift=0.0,
    time_stretch=0.0,
    frequency_warp=0.0,
    time_masks=0,
    time_mask=0.0,
    frequency_masks=0,
    frequency_mask=0,
    mixup=0.0,
    noise=NO_NOISE,
)
TRAIN = Train(
    seed=0,
    normalize="log",
    scale="bin",
    cache="auto",
    clips_per_label=None,
    batch_size=16,
    epochs=12,
    optimizer="adam",
    learning_rate=0.01,
    schedule="constant",
    warmup=0.0,
    weight_decay=0.0,
    clip_norm=None,
    label_smoothing=0.0,
    teacher=None,
    teacher_md5=None,
    teacher_feature=None,
    teacher_weight=0.5,
    class_weights="none",
    monitor="loss",
    patience=5,
    precision="float32",
    jit=False,
    deterministic=True,
    tensorboard=False,
    augment=NO_AUGMENT,
)
# Everything that may be drawn at random, at once.
LIVELY = TRAIN.model_copy(
    update={
        "optimizer": "adamw",
        "schedule": "cosine",
        "warmup": 0.1,
        "weight_decay": 0.01,
        "clip_norm": 1.0,
        "label_smoothing": 0.1,
        "class_weights": "balanced",
        "augment": Augment(
            time_shift=0.2,
            time_stretch=0.1,
            frequency_warp=0.1,
            time_masks=1,
            time_mask=0.2,
            frequency_masks=1,
            frequency_mask=3,
            mixup=0.3,
            noise=NO_NOISE,
        ),
    }
)
MODELS: dict[str, Model] = {
    "rnn": RNN(units=8, dropout=0.1),
    "cnn": CNN(filters=[4, 4], pool=[[2, 2]] * 2, units=8, dropout=0.1),
    "tcresnet": TCResNet(width=1.0, stem=4, blocks=[6, 8], kernel=3, dropout=0.1),
    "bcresnet": BCResNet(width=0.5, subbands=1, dropout=0.1),
    "resnet": ResNet(width=0.25, stem=16, blocks=[16, 32], dropout=0.1),
    "dscnn": DSCNN(channels=8, blocks=2, dropout=0.1),
}


SPEECH = Speech(
    weights="google",
    padding=40,
    units=8,
    dropout=0.1,
    frozen_epochs=1,
    fine_tuning=0.3,
    train={"normalize": "none"},
)


def make_rows(bins: int = BINS) -> Rows:
    """Return 120 clips of two labels: a burst in the lower bins, or a dip in the upper, at a random time."""
    rows = np.zeros((120, FRAMES, bins), np.float32)
    for number, row in enumerate(rows):
        generator = np.random.default_rng(number)
        row[:] = generator.normal(size=(FRAMES, bins))
        frame, low = generator.integers(2, FRAMES - 2), 0 if number < 60 else bins // 2
        row[frame - 2 : frame + 2, low : low + bins // 2] += 3 if number < 60 else -3
    return rows * np.logspace(-3, 3, bins, dtype=np.float32) + 5


def make_subsets(folder: Path, bins: int = BINS) -> dict[str, Subset]:
    """Write a store of these clips into `folder`, and return its splits by name."""
    clips = [f"{'no' if n < 60 else 'yes'}/{n:03}" for n in range(120)]
    make_store(folder / "x.h5", make_rows(bins), clips=clips, params=PARAMS)
    names = ["train", "train", "train", "val", "test"]
    store = describe(folder / "x.h5")
    return {
        name: subset_of(store, [row for row in range(120) if names[row % 5] == name]) for name in set(names)
    }


def subset_of(store: Store, indices: Sequence[int] | None = None) -> Subset:
    """Return the clips of `store` with these rows, or all clips. Their labels are their folders."""
    joined = [Member(clip, clip.partition("/")[0], "train", noise=False) for clip in store.clips]
    return select_rows(store, joined, range(len(joined)) if indices is None else indices)


def make_waveforms() -> Rows:
    """Return 60 low tones, 60 high tones and 30 pieces of noise: (150, 8000), at 16 kHz."""
    generator, time = np.random.default_rng(0), np.arange(8000) / 16000
    hertz = np.concatenate([generator.uniform(200, 400, 60), generator.uniform(2000, 4000, 60)])
    tones = 0.3 * np.sin(2 * np.pi * hertz[:, None] * time) + 0.001 * generator.normal(size=(120, 8000))
    return np.concatenate([tones, 0.1 * generator.normal(size=(30, 8000))]).astype(np.float32)


def make_noisy_subsets(folder: Path) -> tuple[dict[str, Subset], Noise]:
    """Return splits of these tones as log-mel, by name, and their waveforms with the noise."""
    feature = LogMel(kind="logmel", **BANDS)
    waveforms, audio = make_waveforms(), {"sample_rate": 16000}
    clips = [f"{'no' if n < 60 else 'yes'}/{n:03}" for n in range(120)]
    make_store(folder / "waveforms.h5", waveforms[:120], clips=clips, params={"audio": audio})
    make_feature(folder / "logmel.h5", describe(folder / "waveforms.h5"), feature)
    store = describe(folder / "logmel.h5")
    subsets = {"train": subset_of(store, range(0, 120, 2)), "val": subset_of(store, range(1, 120, 4))}
    return subsets, Noise(describe(folder / "waveforms.h5"), waveforms[120:])


def make_speech_subsets(folder: Path) -> dict[str, Subset]:
    """Return the same for the model `speech`: their store says that it has the feature `speech`."""
    params = {"audio": {"sample_rate": 16_000}, "feature": {**PARAMS["feature"], "params": FEATURE}}
    return {
        name: dataclasses.replace(subset, store=dataclasses.replace(subset.store, params=params))
        for name, subset in make_subsets(folder, bins=32).items()
    }


def build(model: Model, train: Subset, settings: Train) -> Any:
    """Return the untrained network."""
    return network.build(model, train, settings, network.measure(train, settings))


def train(model: Model, net: Any, subsets: dict[str, Subset], settings: Train, logs: Path) -> None:
    """Train `net`, which `build` made of `model`."""
    moments = network.measure(subsets["train"], settings)
    fit(net, model, (subsets["train"], subsets["val"]), settings, moments=moments, logs=logs)


def train_and_save(model: Model, subsets: dict[str, Subset], folder: Path, settings: Train = TRAIN) -> Any:
    """Train `model`, save it as model.keras in `folder`, with the logs beside it, and return the network."""
    runtime.start(settings.seed, precision=settings.precision)
    net = build(model, subsets["train"], settings)
    train(model, net, subsets, settings, folder / "logs")
    save(net, folder / "model.keras")
    return net
