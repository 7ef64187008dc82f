"""Folding batch norms: fewer passes over memory, the same answers."""

import pytest
import torch
from torch import nn

from soilkit.models import inference
from soilkit.models.inference import folded, for_inference
from soilkit.models.xception_fusion import XceptionFusion

torch.set_num_threads(1)
SIDE = 64


def images(n, seed=0):
    """Smooth fields with a little noise, as scenes are."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(n, 3, 5, 5, generator=generator)
    smooth = nn.functional.interpolate(coarse, size=(SIDE, SIDE), mode="bilinear")
    return smooth + 0.1 * torch.randn(n, 3, SIDE, SIDE, generator=generator)


@pytest.fixture(scope="module")
def model():
    """A small model whose batch norms have seen data and whose scales are no longer 1."""
    torch.manual_seed(0)
    model = XceptionFusion.preset("small", high_channels=3, low_channels=2, coarse=2)
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.uniform_(norm.bias, -0.2, 0.2)
    for seed in range(20):
        model(images(8, seed), torch.randn(8, 2, 16, 16), torch.randn(8, 2))
    return model.eval()


def inputs(n=6):
    return images(n, 99), torch.randn(n, 2, 16, 16), torch.randn(n, 2)


def distance(ours, theirs):
    return float((ours - theirs).norm() / theirs.norm())


def test_a_folded_model_has_no_batch_norm_left_and_answers_alike(model):
    batch = inputs()
    short = folded(model)
    assert not any(isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) for m in short.modules())
    with torch.no_grad():
        assert distance(short(*batch), model(*batch)) < 1e-5
        high = batch[0]
        assert distance(short.high_encoder(high), model.high_encoder(high)) < 1e-5


def test_folding_leaves_the_model_itself_trainable_and_unchanged(model):
    before = {k: v.clone() for k, v in model.state_dict().items()}
    short = folded(model)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert all(p.requires_grad for p in model.parameters())
    assert not any(p.requires_grad for p in short.parameters()) and not short.training


@pytest.mark.parametrize("kind", ["resnet", "mobilenet"])
def test_every_encoder_folds_whole(kind):
    from soilkit.models.xception_fusion import FusionConfig

    torch.manual_seed(0)
    model = XceptionFusion(FusionConfig(high_channels=3, preset="small", encoder=kind))
    for seed in range(5):
        model(images(8, seed))
    short, high = folded(model), images(4, 99)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in short.modules())
    with torch.no_grad():
        assert distance(short(high), model.eval()(high)) < 1e-5


def test_half_the_bits_move_the_answer_by_less_than_a_hundredth(model):
    batch = inputs()
    fast = for_inference(model)
    with torch.no_grad():
        answers = fast(*batch)
        assert answers.dtype == torch.float32
        assert 0 < distance(answers, model(*batch)) < 1e-2
    assert next(fast.high_encoder.parameters()).dtype == torch.bfloat16
    assert fast.head1[1].weight.dtype == torch.float32


def test_in_float32_nothing_is_rounded(model):
    fast, batch = for_inference(model, precision="float32"), inputs()
    with torch.no_grad():
        assert distance(fast(*batch), model(*batch)) < 1e-5
    assert {p.dtype for p in fast.parameters()} == {torch.float32}


@pytest.mark.parametrize("is_native", [True, False])
def test_rounding_without_a_processor_for_it_warns(model, caplog, monkeypatch, is_native):
    monkeypatch.setattr(inference, "has_bfloat16", lambda device: is_native)
    for_inference(model)
    assert ("reference kernels" in caplog.text) is not is_native


def test_a_layer_without_its_own_norm_stays_as_it_is():
    """Two neighbours fold; a convolution followed by an activation does not."""
    stack = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.BatchNorm2d(2)).eval()
    short = folded(stack)
    assert isinstance(short[2], nn.BatchNorm2d)
    assert torch.equal(short[0].weight, stack[0].weight)


def test_transposed_convolutions_fold_too():
    """The decoder of a U-Net keeps no norm and answers alike."""
    torch.manual_seed(0)
    stack = nn.Sequential(nn.ConvTranspose2d(3, 5, 4, stride=2, padding=1), nn.BatchNorm2d(5))
    stack[1].running_mean.normal_()
    stack[1].running_var.uniform_(0.5, 2)
    short, seen = folded(stack.eval()), torch.randn(2, 3, 8, 8)
    assert isinstance(short[1], nn.Identity)
    torch.testing.assert_close(short(seen), stack(seen), rtol=1e-5, atol=1e-5)
