"""ConvLSTM: gates, layers, loss, gaps and the system on a small invented cube."""

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

from soilkit import contracts, models
from soilkit.errors import CheckpointError, ContractError, ParameterError, UnitError
from soilkit.models import convlstm, training
from soilkit.models.convlstm import (
    ConvLSTM,
    TeacherLoss,
    daily_moisture,
    daily_training,
    gap_filter,
    recurrent,
)
from soilkit.models.convlstm.recurrent import (
    ChannelAttention,
    ConvLSTMConfig,
    ConvLSTMLayer,
    Memory,
)

torch.set_num_threads(1)
SURFACE = convlstm.DEPTHS["surface"]
N_DAYS, SIDE = 40, 6
GAPS = gap_filter.ContinuousFilter(7).eval()  # untrained: it fills by what is usual


def made_cube(n_days=N_DAYS, side=SIDE, seed=0):
    """Moisture that rain lifts and days dry; SMAP sees a part of the days, NLDAS-2 all."""
    rng = np.random.default_rng(seed)
    rain = (rng.random((n_days, 1, 1)) < 0.25) * rng.uniform(0, 0.15, (n_days, side, side))
    moisture = np.empty((n_days, side, side))
    level = np.full((side, side), 0.2) + rng.normal(0, 0.03, (side, side))
    for day in range(n_days):
        level = np.clip(0.1 + 0.85 * (level - 0.1) + rain[day], 0.05, 0.5)
        moisture[day] = level
    seen = np.where(rng.random((n_days, 1, 1)) < 0.5, 1.0, np.nan)
    dims = ("time", "y", "x")
    layers = {
        name: (dims, seen * (300 - 50 * k * moisture / 7 + rng.normal(0, 1, moisture.shape)))
        for k, name in enumerate(convlstm.predictors("surface", 1), start=1)
    }
    layers[SURFACE.timing] = (dims, seen * (moisture + 0.03), {"units": "m3 m-3"})
    layers[SURFACE.level] = (dims, 100 * moisture, {"units": "kg m-2"})
    deep = 300 * (0.5 * moisture + 0.1)
    layers[convlstm.DEPTHS["subsurface"].level] = (dims, deep, {"units": "kg m-2"})
    for name in convlstm.predictors("subsurface", 1)[7:] + convlstm.predictors("surface", 2)[7:]:
        layers[name] = (("y", "x"), rng.normal(30, 5, (side, side)))
    y, x = 4_400_000 - 9000.0 * np.arange(side), -9_500_000 + 9000.0 * np.arange(side)
    times = pd.date_range("2019-01-01", periods=n_days).as_unit("us")
    return xr.Dataset(layers, {"time": times, "y": y, "x": x})


@pytest.fixture(scope="module")
def cube():
    return made_cube()


def quick(cube, split=None, **options):
    split = convlstm.split_days(cube["time"]) if split is None else split
    settings = {"epochs": 1, "patch_px": 4, "batch_size": 32, "progress": False, "gaps": GAPS}
    return convlstm.train(cube, split, **settings | options)


@pytest.fixture(scope="module")
def trained(cube):
    return quick(cube)


def randomised(model, seed=0):
    """The model with every weight drawn, so that nothing is zero or one by its beginning."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weights in model.parameters():
            weights.copy_(0.3 * torch.randn(weights.shape, generator=generator))
    return model.eval()


# ---- the network ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("channels", "n"), [(7, 1_389_367), (11, 1_391_671), (12, 1_392_247)])
def test_the_papers_model_has_its_parameters(channels, n):
    """Ten layers of 4 F (9 (C + F) + 1), norms of 2 F, two attentions, 65 for the output."""
    model = ConvLSTM.preset("paper", channels=channels)
    assert models.count_parameters(model) == n
    assert len(model.layers) == 10 and set(model.attention) == {"2", "5"}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("activation", ["tanh", "sigmoid"])
@pytest.mark.parametrize("peepholes", [False, True])
def test_gates_of_one_pixel_are_those_of_the_equations(activation, peepholes):
    """On a 1 x 1 image a 3 x 3 convolution with zeros around is its middle weight."""
    layer = randomised(ConvLSTMLayer(1, 1, activation=activation, peepholes=peepholes))
    w_x, w_h = (
        c.weight[:, 0, 1, 1].detach().numpy().astype(float) for c in (layer.inputs, layer.hidden)
    )
    bias = layer.inputs.bias.detach().numpy().astype(float)
    w_c = layer.peepholes.detach().numpy().ravel() if peepholes else np.zeros(3)
    squash = np.tanh if activation == "tanh" else sigmoid
    h = c = 0.0
    hidden = []
    for x in (0.7, -1.2):
        given = w_x * x + w_h * h + bias  # i, f, o, g
        i, f = sigmoid(given[0] + w_c[0] * c), sigmoid(given[1] + w_c[1] * c)
        c = f * c + i * squash(given[3])
        h = sigmoid(given[2] + w_c[2] * c) * squash(c)
        hidden.append(h)
    days = torch.tensor([0.7, -1.2]).reshape(2, 1, 1, 1)
    states, memory = layer(days, None, n_days=2)
    np.testing.assert_allclose(states.detach().numpy().ravel(), hidden, rtol=1e-5)
    np.testing.assert_allclose(memory.cell.item(), c, rtol=1e-5)


class PerGate(torch.nn.Module):
    """The same layer as one writes it first: a convolution a gate, day by day."""

    def __init__(self, layer):
        super().__init__()
        n, channels = layer.filters, layer.inputs.in_channels
        self.filters = n
        self.gates = torch.nn.ModuleList(
            torch.nn.Conv2d(channels + n, n, 3, padding=1) for _ in range(4)
        )
        for k, gate in enumerate(self.gates):
            part = slice(k * n, (k + 1) * n)
            weight = torch.cat([layer.inputs.weight[part], layer.hidden.weight[part]], dim=1)
            gate.weight, gate.bias = (
                torch.nn.Parameter(w.detach().clone()) for w in (weight, layer.inputs.bias[part])
            )

    def forward(self, days):  # (day, B, channels, row, col)
        h = c = days.new_zeros(days.shape[1], self.filters, *days.shape[3:])
        states = []
        for day in days:
            both = torch.cat([day, h], dim=1)
            i, f, o = (torch.sigmoid(gate(both)) for gate in self.gates[:3])
            c = f * c + i * torch.tanh(self.gates[3](both))
            h = o * torch.tanh(c)
            states.append(h)
        return torch.stack(states)


def test_one_convolution_gives_what_four_give_forward_and_backward():
    """Answers and gradients of the inputs and weights differ by rounding only."""
    layer = randomised(ConvLSTMLayer(5, 4, activation="tanh", peepholes=False))
    plain = PerGate(layer)
    days = torch.randn(3, 2, 5, 7, 6, generator=torch.Generator().manual_seed(1))
    ours, theirs = days.clone().requires_grad_(), days.clone().requires_grad_()
    states, _ = layer(ours.flatten(0, 1), None, n_days=3)
    expected = plain(theirs)
    torch.testing.assert_close(states.unflatten(0, (3, 2)), expected, rtol=1e-5, atol=1e-5)
    states.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-5)
    weight = torch.cat([gate.weight.grad for gate in plain.gates])
    torch.testing.assert_close(layer.inputs.weight.grad, weight[:, :5], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("peepholes", [False, True])
def test_no_day_sees_a_later_one(peepholes):
    """The third day changed, the answers of the first two are the same bits."""
    model = randomised(ConvLSTM.preset("small", channels=3, peepholes=peepholes))
    days = torch.randn(1, 4, 3, 5, 5)
    changed = days.clone()
    changed[:, 2:] += 1
    before, after = model(days), model(changed)
    assert torch.equal(before[:, :2], after[:, :2])
    assert not torch.allclose(before[:, 2:], after[:, 2:])


@pytest.mark.parametrize("peepholes", [False, True])
def test_days_one_by_one_are_answered_as_all_at_once(peepholes):
    """The memory that a day leaves is all that the next needs of the past."""
    model = randomised(ConvLSTM.preset("small", channels=3, peepholes=peepholes))
    days = torch.randn(2, 5, 3, 6, 6)
    memory, answers = None, []
    with torch.inference_mode():  # states in place; below, without it, they are not
        for day in days.split(1, dim=1):
            answer, memory = model.advance(day, memory)
            answers.append(answer)
    torch.testing.assert_close(torch.cat(answers, dim=1), model(days), rtol=1e-5, atol=1e-6)
    assert all(isinstance(m, Memory) and len(m.cell) == 2 for m in memory)


@pytest.mark.parametrize("peepholes", [False, True])
@pytest.mark.parametrize("side", [8, 11])  # the last tile of 11 stands out of the image
def test_tiles_answer_as_convolutions_do(peepholes, side, monkeypatch):
    """Products by tiles differ by rounding, from no memory and from one, also in their memory."""
    model = randomised(ConvLSTM.preset("small", channels=3, peepholes=peepholes)).eval()
    days = torch.randn(2, 4, 3, side, side + 2, generator=torch.Generator().manual_seed(3))
    answers = {}
    for least in (side, 1000):
        monkeypatch.setattr(recurrent, "TILED_FROM_PX", least)
        with torch.inference_mode():
            first, memory = model.advance(days[:, :2], None)
            later, memory = model.advance(days[:, 2:], memory)
        answers[least] = [first, later, *memory[-1]]
    for tiled, plain in zip(*answers.values(), strict=True):
        torch.testing.assert_close(tiled, plain, rtol=0, atol=1e-5)
    assert not torch.equal(answers[side][1], answers[1000][1])  # two ways of counting, not one


def test_tiles_follow_weights_that_change(monkeypatch):
    """What tiles keep of the weights is made anew after a step of training or a load."""
    model = randomised(ConvLSTM.preset("small", channels=3)).eval()
    other = randomised(ConvLSTM.preset("small", channels=3), seed=1).eval()
    monkeypatch.setattr(recurrent, "TILED_FROM_PX", 8)
    days = torch.randn(1, 2, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        before, wanted = model(days), other(days)
    model.load_state_dict(other.state_dict())
    with torch.inference_mode():
        torch.testing.assert_close(model(days), wanted)
    assert not torch.allclose(before, wanted, atol=1e-3)


def test_attention_of_ones_is_identity():
    """Its weights saturate at one; at zero they are half."""
    block, images = ChannelAttention(16), torch.randn(2, 16, 4, 4)
    with torch.no_grad():
        block.restore.weight.zero_()
        block.restore.bias.fill_(100.0)
        assert torch.equal(block(images), images)
        block.restore.bias.zero_()
        assert torch.equal(block(images), images / 2)


def test_attention_weighs_channels_by_their_means():
    """A channel's weight hangs on all means, none on the place within the image."""
    block, images = randomised(ChannelAttention(8)), torch.randn(1, 8, 3, 3)
    turned = block(images.flip(2, 3))
    torch.testing.assert_close(turned, block(images).flip(2, 3))


def test_a_checkpoint_builds_the_model_that_wrote_it(tmp_path):
    """Weights and options come back; another system's are refused by name."""
    model = randomised(ConvLSTM.preset("small", channels=3, peepholes=True, activation="sigmoid"))
    kept = training.Checkpoint(
        model.configuration, training.Provenance(), model.state_dict(), 1, 0.0
    )
    training.save_checkpoint(tmp_path / "m.pt", kept)
    again = ConvLSTM.from_checkpoint(training.load_checkpoint(tmp_path / "m.pt"))
    days = torch.randn(1, 2, 3, 4, 4)
    assert torch.equal(again(days), model(days))
    with pytest.raises(CheckpointError, match="no ConvLSTM"):
        ConvLSTM.from_checkpoint(training.Checkpoint({"encoder": "x"}, kept.provenance, {}, 1, 0.0))


@pytest.mark.parametrize("option", [{"preset": "huge"}, {"activation": "relu"}])
def test_an_option_that_is_not_there_is_named(option):
    with pytest.raises(KeyError, match=next(iter(option.values()))):
        ConvLSTM(ConvLSTMConfig(**option))


def test_images_of_other_channels_are_refused():
    with pytest.raises(ContractError, match="built for"):
        ConvLSTM.preset("small", channels=3)(torch.zeros(1, 2, 4, 5, 5))


# ---- the loss ------------------------------------------------------------------------------------


def series(*values):
    return torch.tensor(values, dtype=torch.float32).reshape(1, -1, 1, 1)


def test_only_the_sound_loss_tells_a_series_from_its_mirror_image():
    """R2 of a mirror image is one; r is minus one."""
    teacher = series(0.1, 0.2, 0.4, 0.3)
    answers = {
        form: float(TeacherLoss(0, 1, form)(0.5 - teacher, teacher, timing=teacher))
        for form in ("printed", "sound")
    }
    assert answers["printed"] == pytest.approx(0, abs=1e-5)
    assert answers["sound"] == pytest.approx(2, abs=2e-3)


def test_a_constant_answer_spoils_only_the_printed_loss():
    """0 / 0 as printed; with floors a finite loss and finite gradients."""
    flat = torch.full((1, 4, 1, 1), 0.2, requires_grad=True)
    teacher = series(0.1, 0.2, 0.4, 0.3)
    assert torch.isnan(TeacherLoss(form="printed")(flat, teacher, timing=teacher))
    TeacherLoss()(flat, teacher, timing=teacher).backward()
    assert torch.isfinite(flat.grad).all()


@pytest.mark.parametrize("form", ["printed", "sound"])
def test_what_a_teacher_does_not_know_counts_for_nothing(form):
    """A NaN's answer may be anything, and it gets no gradient."""
    loss, teacher = TeacherLoss(form=form), series(0.1, 0.2, 0.4, 0.3, torch.nan)
    answers = []
    for last in (0.0, 9.0):
        told = series(0.2, 0.25, 0.3, 0.4, last).requires_grad_()
        value = loss(told, teacher, timing=teacher)
        value.backward()
        assert torch.isfinite(told.grad).all() and told.grad[0, -1] == 0
        answers.append(float(value.detach()))
    assert answers[0] == answers[1]


def test_rmse_and_likeness_are_weighed_by_alpha_and_beta():
    """Errors of 0.1 against the level, a perfect timing: alpha 0.1, and beta 1 of the mirror."""
    teacher = series(0.1, 0.2, 0.4, 0.3)
    assert float(TeacherLoss(2, 1)(teacher + 0.1, teacher, timing=teacher)) == pytest.approx(
        0.2, abs=2e-3
    )
    nobody = torch.full_like(teacher, torch.nan)
    assert float(TeacherLoss(1, 1)(teacher + 0.1, teacher, timing=nobody)) == pytest.approx(
        0.1, abs=1e-4
    )


def test_r_a_cell_forgets_where_cells_lie():
    """Two cells whose levels are swapped: in time each is perfect, pooled they are not."""
    swing = torch.tensor([0.0, 0.02, 0.04]).reshape(1, 3, 1, 1)
    teacher = swing + torch.tensor([0.1, 0.4]).reshape(1, 1, 1, 2)
    swapped = swing + torch.tensor([0.4, 0.1]).reshape(1, 1, 1, 2)
    values = {p: float(TeacherLoss(0, 1, pooled=p)(swapped, teacher, timing=teacher))
              for p in (True, False)}  # fmt: skip
    assert values[False] < 0.05 and values[True] > 1.5


# ---- gaps ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gappy():
    """Series of two channels that remember about ten days; half of the days are known."""
    rng = np.random.default_rng(0)
    values = np.zeros((60, 80, 2), np.float32)
    state = rng.normal(size=60)
    for day in range(80):
        state = 0.9 * state + np.sqrt(1 - 0.81) * rng.normal(size=60)
        values[:, day] = np.stack([state, -state], axis=1) + 0.1 * rng.normal(size=(60, 2))
    known = values.copy()
    known[rng.random((60, 80)) < 0.5] = np.nan
    return values, known


@pytest.fixture(scope="module")
def gap_model(gappy):
    return gap_filter.train_filter(gappy[1], pd.date_range("2019-01-01", periods=80), steps=50)


def test_a_causal_fill_knows_nothing_of_later_days(gappy, gap_model):
    """The last days changed, what stands in earlier gaps is the same; acausal it is not."""
    times, known = pd.date_range("2019-01-01", periods=80), gappy[1]
    later = known.copy()
    later[:, 40:] = np.nan_to_num(later[:, 40:] + 3)
    for causal in (True, False):
        one, other = (gap_model.fill(v, times, causal=causal)[:, :40] for v in (known, later))
        assert np.allclose(one, other, atol=1e-6) == causal


def test_the_filter_beats_the_latest_value_and_both_sides_beat_one(gappy, gap_model):
    """On hidden days: errors fall from holding to the causal and on to the acausal fill."""
    values, known = gappy
    hidden, times = np.isnan(known[..., 0]), pd.date_range("2019-01-01", periods=80)
    hidden[:, :10] = False

    def error(filled):
        return np.sqrt(np.mean((filled - values[..., 0])[hidden] ** 2))

    causal, acausal = (gap_model.fill(known, times, causal=c)[..., 0] for c in (True, False))
    assert error(acausal) < error(causal) < error(gap_filter.hold(known[..., 0]))
    assert error(gap_filter.kalman(known[..., 0])) < error(gap_filter.climatology(known[..., 0]))


def test_what_is_known_stays_and_every_gap_is_filled(gappy, gap_model):
    """The same known bits come back, a series without any value too."""
    known = gappy[1].copy()
    known[0] = np.nan
    filled = gap_model.fill(known, pd.date_range("2019-01-01", periods=80))
    seen = np.isfinite(known)
    assert np.array_equal(filled[seen], known[seen]) and np.isfinite(filled).all()


def test_a_gap_of_any_length_is_one_step(gap_model):
    """Three days at once are three times a day, of mean and variance."""
    belief = gap_filter.Belief(torch.ones(1, 16), torch.full((1, 16), 0.3))
    one = belief
    for _ in range(3):
        one = gap_model.foresee(one, 1.0)
    for a, b in zip(gap_model.foresee(belief, 3.0), one, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_two_filters_join_to_the_smoother():
    """One process, one observation a day: Rauch, Tung and Striebel's smoother, by hand in matrices.

    The joint covariance of a first-order process is a^|i-j|; conditioning on the observations is
    one solve.
    """
    model = gap_filter.ContinuousFilter(1)
    values = torch.tensor([[[0.5], [np.nan], [-0.2], [1.0]]], dtype=torch.float32)
    gaps = torch.tensor([1.0, 1.0, 2.0, 1.0])
    with torch.no_grad():
        observed, error = model.read(values)
        _, joined = model.both(values, gaps)
    days = np.array([0.0, 1.0, 3.0, 4.0])
    tau = np.exp(model.log_memory.detach().numpy().astype(float))
    k = 5
    prior = np.exp(-np.abs(days[:, None] - days) / tau[k])
    seen = [0, 2, 3]
    noise = np.diag(error[0, seen, k].numpy().astype(float))
    gain = prior[:, seen] @ np.linalg.inv(prior[np.ix_(seen, seen)] + noise)
    np.testing.assert_allclose(joined.mean[0, :, k], gain @ observed[0, seen, k].numpy(), rtol=1e-3)
    variance = np.diag(prior - gain @ prior[seen])
    np.testing.assert_allclose(joined.variance[0, :, k], variance, rtol=1e-3)


# ---- the system ----------------------------------------------------------------------------------


def test_a_trained_system_maps_predicts_and_comes_back(cube, trained, tmp_path):
    """Every cell and day has an answer; the file gives the same one."""
    mapped = trained.map(cube)
    assert mapped["soil_moisture"].dims == ("time", "y", "x")
    assert trained.name == "ConvLSTM, surface, scenario 2" and trained.counts is not None
    trained.save(tmp_path / "model.pt")
    again = convlstm.load(tmp_path / "model.pt")
    xr.testing.assert_equal(again.map(cube), mapped)
    seen = mapped["validity"].values == 0
    assert np.isfinite(mapped["soil_moisture"].values[seen]).all() and seen.mean() > 0.8


def test_predictions_keep_their_contract_and_stand_in_the_right_cell(cube, trained):
    """A station's row is its cell's moisture on the day that the cube's moment ends."""
    import pyproj

    to_degrees = pyproj.Transformer.from_crs("EPSG:6933", "EPSG:4326", always_xy=True)
    longitude, latitude = to_degrees.transform(float(cube["x"][2]) + 3000, float(cube["y"][1]))
    stations = pd.DataFrame({
        "sensor_id": ["N__A__p__0.00__0.05"], "station_id": ["N__A"], "network": ["N"],
        "latitude": [latitude], "longitude": [longitude],
    })  # fmt: skip
    table = trained.predict(cube, stations)
    contracts.check(table, contracts.PREDICTIONS)
    mapped = trained.map(cube)["soil_moisture"][:, 1, 2].dropna("time")
    np.testing.assert_allclose(table["predicted_m3_m3"], mapped)
    assert table["time"].iloc[-1] == mapped["time"].values[-1] - np.timedelta64(1, "D")
    with pytest.raises(ContractError, match="None of 1 sensors"):
        trained.predict(cube, stations.assign(longitude=0.0))


def test_a_map_says_where_its_inputs_are_those_of_no_training_day(trained, cube):
    """Cells hotter than any training day lie outside: flagged, their moisture stays."""
    area = convlstm.training_area(trained, cube, split=convlstm.split_days(cube["time"]))
    kelvin = "smap_l3_ancillary_surface_temperature"
    hot = cube[kelvin].copy()
    hot[:, 0] += 500.0
    mapped = trained.map(cube.assign({kelvin: hot}), area=area)
    inside = mapped["applicability"].where(mapped["validity"] == 0) <= 1
    beyond = (mapped["validity"] & 32) > 0
    seen = np.isfinite(hot).any("time")
    assert beyond.where(seen)[-1, 0].all() and inside[:, 1:].mean() > 0.5
    kept = trained.map(cube.assign({kelvin: hot}))
    xr.testing.assert_equal(mapped["soil_moisture"], kept["soil_moisture"])
    assert "applicability" not in kept and "outside" in mapped["validity"].flag_meanings


def test_an_area_wants_training_days(trained, cube):
    with pytest.raises(ContractError, match="labelled train"):
        convlstm.training_area(trained, cube, split=np.full(cube.sizes["time"], "test"))


@pytest.mark.parametrize("lookback_days", [0, 3])
def test_a_stream_gives_what_a_longer_one_gives(cube, lookback_days):
    """Days that follow do not change those before, gaps and all: memory is one state."""
    model = quick(cube, lookback_days=lookback_days)
    short, long = (
        np.stack([moisture for _, moisture, _ in model.stream(c)])
        for c in (cube.isel(time=slice(0, 12)), cube.isel(time=slice(0, 20)))
    )
    np.testing.assert_allclose(short, long[:12], atol=1e-6)


def test_a_stream_holds_a_month_of_days_however_many_there_are(trained, monkeypatch):
    """What is read at once has a bound, and each day is read once."""
    sizes, images = [], daily_moisture._images

    def counted(*given):
        read = images(*given)
        sizes.append(len(read))
        return read

    monkeypatch.setattr(daily_moisture, "_images", counted)
    assert len(list(trained.stream(made_cube(70)))) == 70
    assert sizes == [32, 32, 6]


def test_the_subsurface_eats_the_estimate_of_the_surface(cube, trained):
    """Its second scenario wants a layer that the first model's map gives."""
    with pytest.raises(ContractError, match=convlstm.SURFACE_ESTIMATE):
        quick(cube, depth="subsurface")
    surface = trained.map(cube)["soil_moisture"].drop_attrs()
    deep = quick(cube.assign({convlstm.SURFACE_ESTIMATE: surface}), depth="subsurface")
    assert deep.model.config.channels == 12
    assert deep.name == "ConvLSTM, subsurface, scenario 2"


def test_a_filter_is_trained_where_none_is_given(cube, monkeypatch):
    """On the 24 training days of every cell, and it becomes the model's own."""
    handed = []

    def learn(values, times, **_):
        handed.append((values.shape, len(times)))
        return GAPS

    monkeypatch.setattr(daily_training, "train_filter", learn)
    assert quick(cube, gaps=None).filter is GAPS
    assert handed == [((SIDE * SIDE, 24, 7), 24)]


def test_the_acausal_fill_says_that_it_looks_ahead(cube):
    assert quick(cube, causal=False).name.endswith("looks ahead")


def test_a_split_of_cells_hides_the_others_from_training(cube):
    """What the teachers say in cells that do not train changes nothing."""
    split = np.full((SIDE, SIDE), "train", dtype="U10")
    split[:, 3:], split[:, 5:] = "validation", "test"
    told = []
    for factor in (1.0, 3.0):
        other = cube.copy(deep=True)
        other[SURFACE.level][:, :, 5:] *= factor
        told.append(quick(other, split).map(cube)["soil_moisture"])
    xr.testing.assert_equal(*told)


# ---- bad input -----------------------------------------------------------------------------------


def test_a_missing_day_is_counted_and_answered(cube, trained):
    """The day is made anew, its gap filled; other days stand where they stood."""
    holed = cube.isel(time=[*range(10), *range(12, N_DAYS)])
    assert len(trained.map(holed)["time"]) == N_DAYS
    assert quick(holed).counts["days that lacked"] == 2


def test_a_patch_without_any_value_is_left_out_and_counted(cube):
    """Of four places for patches two lie where no target is, on each of 22 training days."""
    bare = cube.copy(deep=True)
    bare[SURFACE.level][:, :, :4] = np.nan
    trained = quick(bare)
    assert trained.counts["empty patches, train"] == 2 * 22
    assert np.isfinite(trained.history["loss"]).all()


@pytest.mark.parametrize("spoil", ["order", "calendar", "hours"])
def test_days_that_are_none_are_refused(cube, spoil):
    """Out of order, of 360-day years, or at changing hours."""
    if spoil == "order":
        wrong = cube.isel(time=[1, 0, *range(2, N_DAYS)])
    elif spoil == "hours":
        times = cube["time"].values.copy()
        times[3] += np.timedelta64(5, "h")
        wrong = cube.assign_coords(time=times)
    else:
        days = xr.date_range("2019-01-01", periods=N_DAYS, calendar="360_day", use_cftime=True)
        wrong = cube.assign_coords(time=days)
    with pytest.raises((ParameterError, ContractError), match="increase|calendar|hours"):
        quick(wrong, np.full(N_DAYS, "train"))


def test_water_in_a_layer_that_calls_itself_a_volume_is_refused(cube):
    """20 m3 m-3 is no soil; without a unit nothing is guessed."""
    for words, error in (({"units": "m3 m-3"}, "no soil holds"), ({}, "no unit")):
        wrong = cube.copy()
        wrong[SURFACE.level] = cube[SURFACE.level].drop_attrs().assign_attrs(words)
        with pytest.raises(UnitError, match=error):
            quick(wrong)


@pytest.mark.parametrize("teacher", [SURFACE.level, SURFACE.timing])
def test_a_teacher_that_is_absent_everywhere_is_named(cube, teacher):
    with pytest.raises(ContractError, match=f"{teacher} is unknown"):
        quick(cube.assign({teacher: cube[teacher].where(False)}))
    with pytest.raises(ContractError, match=f"lacks {teacher}"):
        quick(cube.drop_vars(teacher))


def test_a_constant_teacher_is_refused(cube):
    with pytest.raises(ContractError, match="everywhere and always"):
        flat = xr.full_like(cube[SURFACE.level], 20.0)
        quick(cube.assign({SURFACE.level: flat.assign_attrs(units="kg m-2")}))


def test_a_predictor_unknown_in_training_is_named(cube):
    name = convlstm.predictors("surface", 1)[2]
    with pytest.raises(ContractError, match=f"{name} is unknown"):
        quick(cube.assign({name: cube[name].where(False)}))
