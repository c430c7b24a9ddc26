"""Noise in training and in scores, on waveforms and features in a project's folder."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import soundfile
from ruamel.yaml import YAML

from pipeline import params
from pipeline.corpus import members
from pipeline.corpus.members import Member
from pipeline.errors import PipelineError
from pipeline.features import Feature
from pipeline.learning import fit, network, noise
from pipeline.learning.batches import Subset, load_subset
from pipeline.learning.noise import Noise, NoiseSettings
from pipeline.learning.preparation import prepare
from pipeline.learning.settings import Train
from pipeline.learning.teacher import Teacher
from pipeline.store.current import open_current
from pipeline.store.layout import describe
from pipeline.store.reader import rows
from tests.features import own
from tests.learning.make import LIVELY, MODELS, NO_NOISE, TRAIN, make_waveforms
from tests.project import ROOT
from tests.store.make import change_row, make_feature, make_store

SAMPLES, RATE = 8000, 16000
FEATURES = ("logmel", "mfcc", "stft")


class Data(NamedTuple):
    folder: Path
    train: Subset  # of logmel
    val: Subset


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Data:
    """A project's folder: two labels and a recording of noise, in the waveforms and in three features."""
    content = YAML(typ="safe").load((ROOT / "params.yaml").read_text("utf-8"))
    content["audio"]["duration"] = SAMPLES / RATE
    YAML(typ="safe").dump(content, tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    values = make_waveforms()
    clips = [f"{'low' if n < 60 else 'top'}/{n:03}" for n in range(120)]
    joined = [
        Member(clip, clip[:3], "test" if n in (0, 60) else "val" if n % 4 == 0 else "train", noise=False)
        for n, clip in enumerate(clips)
    ]
    joined += [
        Member(f"xnoise/a.wav@{n:02}", "", "train" if n < 20 else "val", noise=True) for n in range(30)
    ]
    audio = {key: content["audio"][key] for key in ("sample_rate", "duration", "padding")}
    ids = [member.clip for member in joined]
    make_store(tmp_path / "waveforms.h5", values, clips=ids, params={"audio": audio})
    for name in FEATURES:
        make_feature(
            tmp_path / f"{name}.h5",
            describe(tmp_path / "waveforms.h5"),
            params.read_plugin(f"features.{name}", Feature),
        )
    members.write(tmp_path / "split.csv", joined)
    subsets = [
        load_subset(name, store=Path("logmel.h5"), split=Path("split.csv")) for name in ("train", "val")
    ]
    return Data(tmp_path, *subsets)


def _settings(**changes: Any) -> NoiseSettings:
    return NO_NOISE.model_copy(update={"probability": 0.5, "max_snr": 10.0, **changes})


def _load(data: Data, settings: NoiseSettings) -> Noise:
    loaded = noise.load(settings, data.train, Path("waveforms.h5"))
    assert loaded is not None
    return loaded


def _snr(clean: Any, noisy: Any) -> Any:
    return 10 * np.log10(np.square(clean).mean(axis=1) / np.square(noisy - clean).mean(axis=1))


# ---------------------------------------------------------------------------------------------------- adding


@pytest.mark.tensorflow
def test_noise_is_added_at_the_ratio() -> None:
    """The ratio of the mean squares of clip and noise is the given one. Silence stays silence."""
    generator = np.random.default_rng(0)
    clips, pieces = generator.normal(size=(2, 6, SAMPLES)).astype(np.float32)
    clips *= np.array([1e-3, 1, 2, 0.1, 0, 1], np.float32)[:, None]
    pieces[5] = 0
    mixed = np.asarray(noise.mix(clips, pieces, np.array([20.0, 10.0, 0.0, -5.0, 5.0, 5.0])))
    np.testing.assert_allclose(_snr(clips, mixed)[:4], [20, 10, 0, -5], atol=1e-3)
    np.testing.assert_array_equal(mixed[4:], clips[4:])


@pytest.mark.tensorflow
def test_clips_get_noise_at_random(data: Data) -> None:
    """Half of the clips get a training piece, at ratios over the whole range. The seed decides which."""
    loaded = _load(data, _settings())
    clean = np.tile(rows(describe(Path("waveforms.h5")))[:100], (4, 1))
    add = noise.add_noise(_settings(), loaded.pieces)
    noisy = np.asarray(add(clean, (1, 2)))
    np.testing.assert_array_equal(add(clean, (1, 2)), noisy)
    assert (np.asarray(add(clean, (1, 3))) != noisy).any()
    is_noisy = (noisy != clean).any(axis=1)
    assert 0.4 < is_noisy.mean() < 0.6
    ratios = _snr(clean[is_noisy], noisy[is_noisy])
    assert -0.01 < ratios.min() < 1
    assert 9 < ratios.max() < 10.01
    added = (noisy - clean)[is_noisy][:5]
    similar = np.abs(np.corrcoef(np.concatenate([added, loaded.pieces]))[:5, 5:])
    assert similar.max(axis=1) == pytest.approx(np.ones(5), abs=1e-3)


@pytest.mark.tensorflow
def test_the_volume_changes_by_up_to_the_gain() -> None:
    """Each clip is multiplied by one number, from -6 to 6 dB."""
    clean = np.random.default_rng(0).normal(size=(300, 100)).astype(np.float32)
    settings = _settings(probability=0.0, gain=6.0)
    louder = np.asarray(noise.add_noise(settings, np.zeros((0, 100), np.float32))(clean, (0, 0)))
    factors = louder / clean
    np.testing.assert_allclose(factors, factors[:, :1] * np.ones(100), rtol=1e-3)
    gains = 20 * np.log10(factors[:, 0])
    assert -6.01 < gains.min() < -5
    assert 5 < gains.max() < 6.01


# --------------------------------------------------------------------------------------------------- loading


def test_only_noise_of_the_training_split_is_used(data: Data) -> None:
    """The pieces are the training split's; without probability and gain nothing is loaded."""
    pieces = _load(data, _settings()).pieces
    np.testing.assert_array_equal(pieces, rows(describe(Path("waveforms.h5")))[120:140])
    assert noise.load(NO_NOISE, data.train, Path("nowhere.h5")) is None


def test_other_waveforms_are_refused(data: Data) -> None:
    """If the feature was not computed from the waveforms that are there now, training does not begin."""
    ids, waveforms = data.train.store.clips, describe(Path("waveforms.h5"))
    make_store(Path("waveforms.h5"), make_waveforms()[::-1].copy(), clips=ids, params=waveforms.params)
    with pytest.raises(PipelineError, match=r"logmel\.h5 was not computed from waveforms\.h5: run dvc repro"):
        _load(data, _settings())


@pytest.mark.parametrize("row", [1, 130], ids=["clip", "noise"])
def test_a_waveform_that_has_changed_is_refused(data: Data, row: int) -> None:
    """The message names a training clip, or a piece of noise, whose row does not match its checksum."""
    change_row(Path("waveforms.h5"), row)
    with pytest.raises(PipelineError, match=rf"the row of {data.train.store.clips[row]} has changed since"):
        _load(data, _settings())


def test_noise_from_a_folder_is_cut_into_pieces(data: Data) -> None:
    """Recordings at other rates are resampled, cut, and padded if short. The md5 must be the folder's."""
    folder = data.folder / "noise"
    (folder / "deep").mkdir(parents=True)
    generator = np.random.default_rng(0)
    soundfile.write(folder / "deep/a.wav", generator.uniform(-0.5, 0.5, 2 * RATE), 2 * RATE)
    soundfile.write(folder / "b.flac", generator.uniform(-0.5, 0.5, 100), RATE)
    (folder / "notes.txt").write_text("not audio")
    with pytest.raises(PipelineError, match=r"folder_md5 is null, but the recordings in noise have") as error:
        noise.find(_settings(folder="noise"))
    md5 = str(error.value).split("have the md5 ")[1][:32]
    pieces = _load(data, _settings(folder="noise", folder_md5=md5)).pieces
    assert pieces.shape == (20 + 1 + 2, SAMPLES)
    assert pieces[20, -1] == pieces[20, 99]  # padded
    soundfile.write(folder / "b.flac", generator.uniform(-0.5, 0.5, 100), RATE)
    with pytest.raises(PipelineError, match=rf"folder_md5 is {md5}, but the recordings"):
        _load(data, _settings(folder="noise", folder_md5=md5))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda _: None, r"noise\.folder is 'noise', expected a folder of audio files"),
        (lambda folder: folder.mkdir(), r"noise\.folder is 'noise', expected a folder of audio files"),
    ],
)
def test_a_folder_without_recordings_is_an_error(
    data: Data, make: Callable[[Path], None], message: str
) -> None:
    """A missing and an empty folder are named."""
    make(data.folder / "noise")
    with pytest.raises(PipelineError, match=message):
        noise.find(_settings(folder="noise"))


@pytest.mark.usefixtures("data")
def test_a_split_without_noise_is_an_error() -> None:
    """If there is no noise to add, the message says where it could come from."""
    joined = [member for member in members.read(Path("split.csv")) if member.clip]
    members.write(Path("split.csv"), [member._replace(noise=False) for member in joined])
    train = load_subset("train", store=Path("logmel.h5"), split=Path("split.csv"))
    with pytest.raises(PipelineError, match=r"probability is 0\.5, but .* clips\.recordings, set .*folder"):
        noise.load(_settings(), train, Path("waveforms.h5"))
    assert noise.load(_settings(probability=0.0, gain=3.0), train, Path("waveforms.h5")) is not None


# -------------------------------------------------------------------------------------------------- features


@pytest.mark.tensorflow
@pytest.mark.usefixtures("data")
@pytest.mark.parametrize("name", FEATURES)
def test_a_step_computes_what_is_stored(name: str) -> None:
    """Without noise, a batch of waveforms gives the same features and targets as a batch from the store.

    Both are shuffled, shifted, stretched, warped, masked, mixed and weighed alike.
    """
    train = load_subset("train", store=Path(f"{name}.h5"), split=Path("split.csv"))
    silent = Noise(open_current(Path("waveforms.h5"), None), np.zeros((0, SAMPLES), np.float32))
    moments = network.measure(train, LIVELY)
    preparation = prepare(train, LIVELY, moments, noise=silent)
    stored = list(fit.training_batches(train, LIVELY, preparation))
    computed = list(fit.training_batches(train, LIVELY, preparation, noise=silent))
    assert len(stored) == len(computed) == -(-len(train.rows) // LIVELY.batch_size)
    scale = np.ptp(rows(train.store))
    for (values, *others), (inputs, targets) in zip(stored, computed, strict=True):
        own_values, *own_others = preparation.from_waveforms(inputs, targets)
        np.testing.assert_allclose(own_values, values, atol=1e-4 * scale)
        assert len(own_others) == len(others) == 2
        for one, other in zip(own_others, others, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.tensorflow
def test_student_and_teacher_hear_the_same_noise(data: Data) -> None:
    """With a teacher, both features are computed from the same noisy waveforms, and mixed alike."""
    other = load_subset("train", store=Path("mfcc.h5"), split=Path("split.csv"))
    settings = TRAIN.model_copy(update={"augment": TRAIN.augment.model_copy(update={"noise": _settings()})})
    loaded, teacher = _load(data, _settings()), Teacher(None, other)
    moments = network.measure(data.train, settings)
    preparation = prepare(data.train, settings, moments, teacher=teacher, noise=loaded)
    (waveforms, seed), targets = next(
        iter(fit.training_batches(data.train, settings, preparation, teacher=teacher, noise=loaded))
    )
    (logmel, mfcc), *_ = preparation.from_waveforms((waveforms, seed), targets)
    for name, values in (("logmel", logmel), ("mfcc", mfcc)):
        expected = params.read_plugin(f"features.{name}", Feature).kernel(RATE)(waveforms.numpy())
        np.testing.assert_allclose(values, expected, atol=1e-3 * float(np.ptp(expected)))


@pytest.mark.tensorflow
@pytest.mark.usefixtures("data")
def test_a_feature_without_a_layer_cannot_be_trained_with_noise() -> None:
    """The message says that the feature has no `graph`, and how to train without noise."""
    feature = own.Bare.model_validate(own.BARE)
    waveforms = describe(Path("waveforms.h5"))
    make_feature(Path("bare.h5"), waveforms, feature)
    content = params.load()
    content["features"]["bare"] = own.BARE
    YAML(typ="safe").dump(content, Path("params.yaml"))
    with own.installed():
        bare = load_subset("train", store=Path("bare.h5"), split=Path("split.csv"))
        with pytest.raises(PipelineError, match=r"the feature bare: .* implement `graph` .*, or set .* to 0"):
            noise.front_end(bare, waveforms)


@pytest.mark.tensorflow
def test_a_layer_that_is_not_the_feature_is_an_error(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `graph` that computes something else than the store has is found before training."""
    feature = type(params.read_plugin("features.logmel", Feature))
    graph = feature.graph
    monkeypatch.setattr(feature, "graph", lambda *args: graph(*args) * 1.01)  # type: ignore[operator]
    with pytest.raises(PipelineError, match=r"`graph` differs by .* from its `kernel`, expected at most"):
        noise.front_end(data.train, describe(Path("waveforms.h5")))


@pytest.mark.tensorflow
def test_scores_in_noise_use_the_splits_own_noise(data: Data) -> None:
    """Features of clips in very little noise are the stored ones; in noise they are those of the mixture.

    Every signal-to-noise ratio has the same piece for a clip.
    """
    waveforms = describe(Path("waveforms.h5"))
    faint = np.concatenate(list(noise.noisy_features(data.val, waveforms, 400)))
    np.testing.assert_array_equal(faint, rows(data.val.store)[data.val.rows])
    loud = np.concatenate(list(noise.noisy_features(data.val, waveforms, 0)))
    chosen = np.random.default_rng(0).integers(10, size=len(data.val.rows))
    mixed = noise.mix(rows(waveforms)[data.val.rows], rows(waveforms)[140 + chosen], np.zeros(len(chosen)))
    kernel = params.read_plugin("features.logmel", Feature).kernel(RATE)
    np.testing.assert_array_equal(loud, kernel(np.asarray(mixed)))


# -------------------------------------------------------------------------------------------------- training


def _train(data: Data, settings: Train, folder: Path, loaded: Noise | None) -> bytes:
    """Train and save, and return the bytes of the model."""
    from pipeline.learning import runtime
    from pipeline.learning.saving import save

    runtime.start(0)
    moments = network.measure(data.train, settings)
    model = MODELS["cnn"]
    net = network.build(model, data.train, settings, moments)
    subsets, logs = (data.train, data.val), folder / "logs"
    fit.fit(net, model, subsets, settings, moments=moments, logs=logs, noise=loaded)
    save(net, folder / "model.keras")
    return (folder / "model.keras").read_bytes()


@pytest.mark.tensorflow
def test_training_with_noise_is_repeatable_and_learns(data: Data, tmp_path: Path) -> None:
    """The same seed gives the same bytes, which are not those without noise. The model tells the tones apart.

    Clips are also shifted and masked.
    """
    augment = LIVELY.augment.model_copy(update={"noise": _settings(gain=6.0), "mixup": 0.0})
    settings = TRAIN.model_copy(update={"epochs": 12, "normalize": "linear", "augment": augment})
    loaded = _load(data, settings.augment.noise)
    digests = [_train(data, settings, tmp_path / name, loaded) for name in ("one", "two")]
    assert digests[0] == digests[1]
    assert _train(data, settings, tmp_path / "clean", None) != digests[0]
    best = json.loads((tmp_path / "one/logs/metrics.json").read_text())["best"]
    assert best["val"]["accuracy"] > 0.9
