"""A source may be absent: nothing of its pixels is left, the model knows, and others stay."""

import pandas as pd
import pytest
import torch
from torch.nn import functional

from soilkit.errors import ContractError
from soilkit.models import training
from soilkit.models.inputs import Inputs
from soilkit.models.xception_fusion import FusionConfig, Presence, XceptionFusion
from tests.helpers_training import fit

torch.set_num_threads(1)
INPUTS = Inputs()
NAN = float("nan")


def images(n=4):
    torch.manual_seed(1)
    return torch.randn(n, 10, 64, 64), torch.randn(n, 4, 4, 4), torch.randn(n, 2)


def channels_of(source):
    return [i for i, name in enumerate(INPUTS.channel_sources) if name == source]


def without(batch, source, *, sample, fill=NAN):
    """The batch with one NaN in one source of one sample, and ``fill`` all about it."""
    parts = [part.clone() for part in batch]
    first = 0
    for part in parts:
        for channel in range(part.shape[1]):
            if first + channel in channels_of(source):
                part[sample, channel] = fill
                part[sample, channel].view(-1)[-1:] = NAN
        first += part.shape[1]
    return parts


@pytest.fixture(scope="module", params=["late", "early"])
def model(request):
    torch.manual_seed(0)
    options = {"source_dropout": 0.3, "fusion": request.param}
    made = XceptionFusion.for_inputs(INPUTS, preset="small", **options).eval()
    torch.nn.init.normal_(made.presence.stand_in)
    return made


@pytest.mark.parametrize("source", INPUTS.source_names)
def test_an_absent_source_has_no_influence_at_all(model, source):
    """Whatever its other pixels hold, the answer is the same to the last bit; for one sample only.

    The sample's answer does change, and its neighbours' do not.
    """
    batch = images()
    with torch.inference_mode():
        whole = model(*batch)
        absent = model(*without(batch, source, sample=1))
        for fill in (0.0, 7.0, -1e6):
            assert torch.equal(model(*without(batch, source, sample=1, fill=fill)), absent)
    assert torch.isfinite(absent).all()
    changed = (whole - absent).abs() > 1e-7
    assert changed.tolist() == [False, True, False, False]


def test_an_absent_source_has_no_gradient(model):
    batch = [part.requires_grad_() for part in without(images(), "sentinel2", sample=2)]
    model(*batch).sum().backward()
    assert (batch[0].grad[2, 3:9] == 0).all()
    assert (batch[0].grad[2, :3] != 0).any() and (batch[0].grad[1, 3:9] != 0).any()


@pytest.mark.parametrize(("head", "source"), [("head1", "dem"), ("head2", "smap")])
def test_a_head_tells_the_middle_of_the_range_from_nothing(head, source):
    """Zeros that were measured and zeros that stand in differ by the flag alone, and it counts."""
    torch.manual_seed(0)
    model = XceptionFusion.for_inputs(INPUTS, preset="small", source_dropout=0.3).eval()
    place = channels_of(source)[0]
    batch = images()
    (batch[0][:, place] if source == "dem" else batch[2][:, place - 14]).zero_()
    entering = []
    getattr(model, head).register_forward_hook(lambda m, i, o: entering.append(i[0]))
    with torch.inference_mode():
        known = model(*batch)
        absent = model(*without(batch, source, sample=1))
    changed = (entering[0] != entering[1]).sum(dim=1)
    assert changed.tolist() == [0, 1, 0, 0]
    assert known[1] != absent[1]


def test_all_sources_may_be_absent_but_the_answer_is_a_number(model):
    nothing = [torch.full_like(part, NAN) for part in images()]
    with torch.inference_mode():
        found = model(*nothing)
    assert torch.isfinite(found).all() and found.unique().numel() == 1


def test_a_model_without_source_dropout_makes_no_number_up():
    """A NaN stays a NaN: nothing is guessed by a model that was never taught to."""
    strict = XceptionFusion.for_inputs(INPUTS, preset="small").eval()
    assert strict.presence is None
    with torch.inference_mode():
        found = strict(*without(images(), "sentinel2", sample=1))
    assert found.isnan().tolist() == [False, True, False, False]


def test_training_withholds_each_source_at_the_rate_and_never_all():
    presence = Presence(INPUTS.channel_sources, rate=0.5).train()
    torch.manual_seed(0)
    parts, known = presence([torch.randn(8000, 10), torch.randn(8000, 6)])
    assert known.shape == (8000, 6)
    assert (known.sum(dim=1) >= 1).all()
    # half of them, and all six in those 1 of 64 samples where none was left
    expected = 0.5 + 0.5**6
    assert known.mean(dim=0).tolist() == pytest.approx([expected] * 6, abs=0.02)
    shown = torch.cat(parts, dim=1) != 0
    members = presence.members.bool()
    for source in range(6):
        assert torch.equal(shown[:, members[:, source]].all(dim=1), known[:, source] == 1)
    assert (presence.eval()([torch.randn(50, 16)])[1] == 1).all()


def test_an_absent_source_stays_absent_when_training_withholds_others():
    presence = Presence(["a", "a", "b"], rate=0.9).train()
    numbers = torch.randn(500, 3)
    numbers[:, 0] = NAN
    (filled,), known = presence([numbers])
    assert (known[:, 0] == 0).all() and (known[:, 1] == 1).all()  # b is the last one left
    assert (filled[:, :2] == 0).all() and torch.equal(filled[:, 2], numbers[:, 2])


def test_a_rate_of_zero_accepts_gaps_and_makes_none():
    presence = Presence(["a", "b"], rate=0.0).train()
    assert (presence([torch.randn(500, 2)])[1] == 1).all()


def test_the_draw_is_a_function_of_torchs_seed():
    presence = Presence(INPUTS.channel_sources, rate=0.5).train()
    numbers = torch.randn(20, 16)
    draws = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        draws.append(presence([numbers])[1])
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


def test_flags_and_stand_ins_are_all_that_is_added():
    """16 values stand in; head 1 sees 4 flags of images (128 wide), head 2 all 6 (8 wide)."""
    count = lambda m: sum(p.numel() for p in m.parameters())  # noqa: E731
    plain = XceptionFusion.for_inputs(INPUTS, preset="small")
    tolerant = XceptionFusion.for_inputs(INPUTS, preset="small", source_dropout=0.2)
    assert count(tolerant) - count(plain) == 16 + 4 * 128 + 6 * 8


def test_the_coarse_network_does_without_one_of_its_scalars():
    inputs = Inputs(high=(), low=())
    model = XceptionFusion.for_inputs(inputs, preset="small", source_dropout=0.2).eval()
    scalars = torch.tensor([[0.3, NAN], [0.3, 1.0]])
    with torch.inference_mode():
        assert torch.isfinite(model(None, None, scalars)).all()
    with pytest.raises(ContractError, match="2 coarse channels and was handed 0"):
        model(None, None, None)


def test_training_on_gaps_stays_finite_and_is_repeatable():
    """Steps of ``fit`` over batches with gaps, withholding more: the same twice, no NaN."""
    gaps = zip(("high", "low", "coarse"), without(images(), "sentinel2", sample=1), strict=True)
    batch = {**dict(gaps), "moisture": torch.full((4,), 0.2)}
    histories = []
    for _ in range(2):
        torch.manual_seed(0)
        model = XceptionFusion.for_inputs(INPUTS, preset="small", source_dropout=0.5)
        settings = training.Settings(steps=3, validate_every=3, optimizer="adam")
        loaders = training.Loaders([batch], [batch])
        kept = {"settings": settings, "progress": False}
        histories.append(fit(model, loaders, functional.huber_loss, **kept))
        assert all(torch.isfinite(p).all() for p in model.parameters())
        assert model.presence.stand_in.abs().sum() > 0
    pd.testing.assert_frame_equal(*histories)


def test_absence_compiles_into_one_graph():
    """No branch on the data: what accepts gaps compiles whole."""
    presence = Presence(["a", "a", "b"], rate=0.0).eval()
    whole = torch.compile(presence, fullgraph=True, backend="eager")
    parts = [torch.tensor([[[[1.0]], [[NAN]]]]), torch.tensor([[2.0]])]
    (high, coarse), known = whole(parts)
    assert (high == 0).all() and coarse.item() == 2 and known.tolist() == [[0, 1]]


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ["xception", "resnet", "mobilenet"])
def test_the_whole_model_compiles_into_one_graph(encoder):
    names = INPUTS.channel_sources
    config = FusionConfig(10, 4, 2, "small", encoder, source_dropout=0.3, sources=names)
    model = XceptionFusion(config).eval()
    whole = torch.compile(model, fullgraph=True, backend="aot_eager")
    batch = without(images(), "sentinel2", sample=1)
    torch.testing.assert_close(whole(*batch), model(*batch), atol=1e-5, rtol=1e-4)
