"""The loop: exact resume, honest best, clear refusals."""

import math
import re

import numpy as np
import pytest
import torch
from torch.nn.functional import huber_loss, mse_loss
from torch.utils.data import DataLoader, Dataset

from soilkit.errors import (
    CheckpointError,
    ContractError,
    DivergedError,
    ParameterError,
    StoreError,
)
from soilkit.models import datasets
from soilkit.models.training import (
    Checkpoint,
    Loaders,
    Provenance,
    Settings,
    checkpoint,
    load_checkpoint,
    predict,
    save_checkpoint,
)
from soilkit.models.training.loop import Run
from soilkit.models.xception_fusion import XceptionFusion, look
from tests.helpers_training import fit

torch.set_num_threads(1)
PROVENANCE = Provenance(("sentinel1", "soilgrids", "smap"), {"VV": [-25, 5]}, "abc123")


class Scalars(Dataset):
    """Coarse scalars whose label is a line of the first one."""

    def __init__(self, n, seed=0):
        generator = torch.Generator().manual_seed(seed)
        self.coarse = torch.randn(n, 2, generator=generator)
        self.moisture = 0.25 + 0.05 * self.coarse[:, 0]

    def __len__(self):
        return len(self.moisture)

    def __getitem__(self, i):
        return {"coarse": self.coarse[i], "moisture": self.moisture[i]}


def scalar_loaders(n=70, batch=16):
    train = DataLoader(Scalars(n), batch, shuffle=True, drop_last=True)
    return Loaders(train, DataLoader(Scalars(32, seed=1), 16))


def scalar_model():
    torch.manual_seed(0)
    return XceptionFusion.preset("small", coarse=2, mean_label_m3_m3=0.25)


class Killed(BaseException):
    """Stands for a signal."""


def killed_at(call):
    calls = iter(range(10**9))

    def loss(predicted, observed):
        if next(calls) == call:
            raise Killed
        return huber_loss(predicted, observed)

    return loss


def weights(path):
    return checkpoint.read_plain(path)["weights"]


@pytest.mark.parametrize("kill", [3, 5, 11])
def test_a_killed_run_ends_with_the_same_weights_byte_for_byte(tmp_path, capsys, kill):
    """Shuffling, dropout and momentum go on as if nothing were; the bar counts all steps."""
    settings = Settings(steps=14, learning_rate=0.1, validate_every=5, seed=3)
    whole, parted = tmp_path / "whole.pt", tmp_path / "parted.pt"
    options = {"settings": settings, "provenance": PROVENANCE, "progress": False}
    history = fit(scalar_model(), scalar_loaders(), huber_loss, path=whole, **options)

    with pytest.raises(Killed):
        fit(scalar_model(), scalar_loaders(), killed_at(kill), path=parted, **options)
    options["progress"] = True
    again = fit(scalar_model(), scalar_loaders(), huber_loss, path=parted, **options)

    assert re.search(r"100%.*14/14 \[.*<.*score=", capsys.readouterr().err)
    assert again.equals(history)
    for suffix in (".pt", ".resume.pt"):
        ours, theirs = weights(whole.with_suffix(suffix)), weights(parted.with_suffix(suffix))
        assert all(ours[k].numpy().tobytes() == theirs[k].numpy().tobytes() for k in ours)


def test_images_augmentation_and_drop_path_resume_exactly_too(tmp_path):
    """The image branch draws from drop path and augmentation; both depend on (seed, step) only."""
    high, low = torch.randn(4, 3, 32, 32), torch.randn(4, 2, 16, 16)
    batch = {"high": high, "low": low, "moisture": torch.rand(4)}
    loaders = Loaders([batch, batch], [batch])
    options = {"settings": Settings(steps=4, validate_every=2), "progress": False}
    options["augment"] = datasets.Augment({"high": 32, "low": 16})

    def model():
        torch.manual_seed(1)
        return XceptionFusion.preset("small", high_channels=3, low_channels=2)

    fit(model(), loaders, huber_loss, path=tmp_path / "a.pt", **options)
    with pytest.raises(Killed):
        fit(model(), loaders, killed_at(3), path=tmp_path / "b.pt", **options)
    fit(model(), loaders, huber_loss, path=tmp_path / "b.pt", **options)
    a, b = weights(tmp_path / "a.resume.pt"), weights(tmp_path / "b.resume.pt")
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_the_network_learns_a_line_of_its_scalars():
    """A sanity check of the whole loop: RMSE falls below half the labels' spread of 0.05."""
    settings = Settings(steps=400, learning_rate=1.0, validate_every=50)
    model = scalar_model()
    history = fit(model, scalar_loaders(400), huber_loss, settings=settings, progress=False)

    assert history.score.min() < 0.025 < history.score.iloc[0]
    dataset = Scalars(32, seed=1)
    answers = predict(model, DataLoader(dataset, 16), look)
    error = np.sqrt(np.mean((answers - dataset.moisture.numpy()) ** 2))
    assert error == pytest.approx(history.score.min(), rel=1e-5)  # the best weights, not the last


def test_training_leaves_the_callers_random_state_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    model = scalar_model()
    torch.manual_seed(5)
    fit(model, scalar_loaders(), mse_loss, settings=Settings(steps=3), progress=False)
    assert torch.rand(1) == expected


def test_weight_decay_is_apart_from_the_gradient():
    """With no gradient at all a weight shrinks by the decay alone, whatever the learning rate."""
    model = torch.nn.Linear(2, 1)
    before = model.weight.detach().clone()
    settings = Settings(steps=10, learning_rate=7.0, weight_decay=0.01, power=1)
    run = Run(model, settings, path=None, provenance=None)
    bias = model.bias.detach().clone()
    run.learn(0 * model(torch.ones(1, 2)).sum(), 5)

    torch.testing.assert_close(model.weight, before * (1 - 0.01 * 0.5))
    torch.testing.assert_close(model.bias, bias)


def test_the_learning_rate_ends_at_zero():
    """Power 0.9: half-way 0.5 ** 0.9 = 0.536 of the start."""
    settings = Settings(steps=600_000, learning_rate=0.05)
    assert settings.learning_rate_at(0) == 0.05
    assert settings.learning_rate_at(300_000) == pytest.approx(0.05 * 0.5359, rel=1e-3)
    assert settings.learning_rate_at(600_000) == 0


def test_a_nan_label_stops_training_and_says_where():
    batch = {"coarse": torch.randn(4, 2), "moisture": torch.tensor([0.1, math.nan, 0.2, 0.3])}
    with pytest.raises(DivergedError, match="loss is nan at step 0, learning rate 0.05"):
        fit(scalar_model(), ([batch], [batch]), huber_loss, settings=Settings(steps=3))


def test_mixed_precision_trains():
    settings = Settings(steps=3, precision="bfloat16")
    history = fit(scalar_model(), scalar_loaders(), huber_loss, settings=settings, progress=False)
    assert history.score.notna().all()


def test_a_checkpoint_rebuilds_its_model_and_refuses_other_inputs(tmp_path):
    path = tmp_path / "fusion.pt"
    model = scalar_model()
    fit(
        model,
        scalar_loaders(),
        huber_loss,
        settings=Settings(steps=3),
        path=path,
        provenance=PROVENANCE,
        progress=False,
    )
    read = load_checkpoint(path)
    coarse = torch.randn(5, 2)
    rebuilt = XceptionFusion.from_checkpoint(read)

    assert torch.equal(rebuilt(None, None, coarse), model.eval()(None, None, coarse))
    read.require(inputs=PROVENANCE.inputs, data_hash="abc123")
    with pytest.raises(CheckpointError, match="sentinel1, soilgrids, smap; it is handed smap"):
        read.require(inputs=["smap"])
    with pytest.raises(CheckpointError, match="abc123; this is def"):
        read.require(inputs=PROVENANCE.inputs, data_hash="def")


def test_a_run_does_not_go_on_from_another_runs_state(tmp_path):
    path = tmp_path / "fusion.pt"
    options = {"path": path, "progress": False}
    fit(scalar_model(), scalar_loaders(), mse_loss, settings=Settings(steps=2), **options)
    with pytest.raises(CheckpointError, match="settings"):
        fit(
            scalar_model(),
            scalar_loaders(),
            mse_loss,
            settings=Settings(steps=3),
            **options,
        )
    other = Settings(steps=3)
    fit(
        scalar_model(),
        scalar_loaders(),
        mse_loss,
        settings=other,
        resume=False,
        **options,
    )


def test_a_run_does_not_go_on_from_other_sources_and_leaves_them_as_they_were(tmp_path):
    path = tmp_path / "fusion.pt"
    options = {"path": path, "progress": False, "settings": Settings(steps=2)}
    fit(scalar_model(), scalar_loaders(), mse_loss, provenance=PROVENANCE, **options)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    other = Provenance(("smap", "gldas"), PROVENANCE.normalisation, PROVENANCE.data_hash)
    with pytest.raises(CheckpointError, match="sentinel1.*gldas.*another path, or pass resume"):
        fit(scalar_model(), scalar_loaders(), mse_loss, provenance=other, **options)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


class Unreadable(list):
    """A loader that must not be read."""

    def __iter__(self):
        raise AssertionError("read although there is nothing left to do")


def test_a_finished_run_is_not_run_again(tmp_path):
    """Called once more, it reads no data and hands back the same history and best weights."""
    options = {"settings": Settings(steps=6), "path": tmp_path / "a.pt", "progress": False}
    first, second = scalar_model(), scalar_model()
    history = fit(first, scalar_loaders(), huber_loss, **options)
    again = fit(second, Loaders(Unreadable([1, 2]), Unreadable([1])), huber_loss, **options)
    assert again.equals(history)
    coarse = torch.randn(4, 2)
    assert torch.equal(first.eval()(None, None, coarse), second.eval()(None, None, coarse))


class Runs:
    """Pickles to a call, as a hostile file would."""

    def __reduce__(self):
        return (print, ("executed",))


def test_a_checkpoint_that_holds_code_is_refused_unrun(tmp_path, capsys):
    checkpoint.write_atomic(tmp_path / "bad.pt", {"weights": Runs()})
    with pytest.raises(CheckpointError, match="may run code and is never loaded unasked"):
        load_checkpoint(tmp_path / "bad.pt")
    assert "executed" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04 of version 1", b"soilkit checkpoint 99 aa\nPK"]
)
def test_a_damaged_checkpoint_and_another_format_version_are_refused_by_name(tmp_path, content):
    (tmp_path / "bad.pt").write_bytes(content)
    words = "is damaged, or no soilkit checkpoint of format version 2: it begins with b"
    with pytest.raises(CheckpointError, match=words):
        load_checkpoint(tmp_path / "bad.pt")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(tmp_path)


def test_no_flipped_bit_of_a_checkpoint_loads_as_another_model(tmp_path):
    path, draw = tmp_path / "a.pt", np.random.default_rng(0)
    save_checkpoint(path, Checkpoint({}, PROVENANCE, {"w": torch.randn(50, 20)}, 1, 0.1))
    whole = path.read_bytes()
    for bit in draw.integers(0, 8 * len(whole), 200):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"a\.pt .*train"):
            load_checkpoint(path)


@pytest.mark.parametrize(
    "strange", [{"weights": {"w": 1}}, {"normalisation": None}, {"step": "3"}, {"inputs": {}}]
)
def test_a_whole_file_with_strange_content_is_no_checkpoint(tmp_path, strange):
    save_checkpoint(tmp_path / "a.pt", Checkpoint({}, PROVENANCE, {}, 1, 0.1))
    content = checkpoint.read_plain(tmp_path / "a.pt")
    checkpoint.write_atomic(tmp_path / "a.pt", content | strange)
    with pytest.raises(CheckpointError, match="lacks .*: it is no model checkpoint"):
        load_checkpoint(tmp_path / "a.pt")
    checkpoint.write_atomic(tmp_path / "a.pt", [1])
    with pytest.raises(CheckpointError, match="no model checkpoint"):
        load_checkpoint(tmp_path / "a.pt")


@pytest.mark.parametrize(
    "configuration", [{"coarse": "two"}, {"coarse": -2}, {"preset": None, "coarse": 2}, {"a": 1}]
)
def test_a_strange_configuration_builds_no_model(configuration):
    strange = Checkpoint(configuration, PROVENANCE, {}, 1, 0.1)
    with pytest.raises(CheckpointError, match="no XceptionFusion"):
        XceptionFusion.from_checkpoint(strange)


def test_a_full_disk_leaves_the_old_checkpoint_whole(tmp_path, monkeypatch):
    path = tmp_path / "fusion.pt"
    old = Checkpoint({}, PROVENANCE, {"w": torch.ones(2)}, 1, 0.1)
    save_checkpoint(path, old)

    def full(content, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(StoreError, match="disk is full"):
        save_checkpoint(path, Checkpoint({}, PROVENANCE, {"w": torch.zeros(2)}, 2, 0.05))
    assert load_checkpoint(path).step == 1
    assert [p.name for p in tmp_path.iterdir()] == ["fusion.pt"]


def test_a_loader_without_a_whole_batch_says_so():
    with pytest.raises(ContractError, match="no whole batch"):
        fit(scalar_model(), scalar_loaders(n=4), mse_loss, settings=Settings(steps=2))


def test_unknown_choices_are_refused_with_the_ones_there_are():
    with pytest.raises(ContractError, match="'float8': choose one of float32, bfloat16"):
        Settings(precision="float8")
    with pytest.raises(ContractError, match="choose one of sgd, adam"):
        Settings(optimizer="rmsprop")
    with pytest.raises(ParameterError, match="True or False; found 'no'"):
        Settings(compile="no")


def test_adam_resumes_exactly_too(tmp_path):
    """Its second moments and step counts are part of the state."""
    settings = Settings(steps=9, optimizer="adam", learning_rate=0.01, validate_every=4)
    options = {"settings": settings, "progress": False}
    fit(scalar_model(), scalar_loaders(), huber_loss, path=tmp_path / "a.pt", **options)
    with pytest.raises(Killed):
        fit(scalar_model(), scalar_loaders(), killed_at(6), path=tmp_path / "b.pt", **options)
    fit(scalar_model(), scalar_loaders(), huber_loss, path=tmp_path / "b.pt", **options)
    a, b = weights(tmp_path / "a.resume.pt"), weights(tmp_path / "b.resume.pt")
    assert all(torch.equal(a[k], b[k]) for k in a)
