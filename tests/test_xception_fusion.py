"""The paper's network: sizes, strides, heads, and what it refuses."""

import pytest
import torch
from torch import nn

from soilkit.errors import CheckpointError, ContractError, UnknownNameError
from soilkit.models.encoders import (
    ENCODERS,
    XCEPTION_41,
    XCEPTION_65,
    Residual,
    SeparableConv,
    center_weights,
    pool_center,
)
from soilkit.models.training import Checkpoint, Provenance
from soilkit.models.xception_fusion import FusionConfig, XceptionFusion

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def paper():
    return XceptionFusion.preset("paper", high_channels=10, low_channels=4, coarse=2).eval()


def n_parameters(module):
    return sum(p.numel() for p in module.parameters())


def separable(channels, depth):
    """3x3 depthwise + its norm (2 a channel), 1x1 pointwise + its norm."""
    return 9 * channels + 2 * channels + channels * depth + 2 * depth


def xception_parameters(channels, middle, scale=1.0):
    """Counted by hand from DeepLab's table, not from the code under test."""
    s = lambda n: round(n * scale)  # noqa: E731
    total = 9 * channels * s(32) + 2 * s(32) + 9 * s(32) * s(64) + 2 * s(64)
    rows = [(64, (128,) * 3, True), (128, (256,) * 3, True), (256, (728,) * 3, True)]
    rows += [(728, (728,) * 3, False)] * middle
    rows += [(728, (728, 1024, 1024), True), (1024, (1536, 1536, 2048), False)]
    for start, depths, projected in rows:
        widths = [s(start), *(s(d) for d in depths)]
        total += sum(separable(a, b) for a, b in zip(widths, widths[1:], strict=False))
        total += (widths[0] * widths[-1] + 2 * widths[-1]) if projected else 0
    return total


def test_the_tables_are_as_deep_as_their_names():
    """65 and 41 layers: 2 stem + 3 a block (the classifier's layer is not counted here)."""
    for table, layers in ((XCEPTION_65, 65), (XCEPTION_41, 41)):
        blocks = sum(row.repeat for row in table)
        assert 2 + 3 * blocks == layers


def test_parameter_counts_are_those_of_the_tables(paper):
    assert n_parameters(paper.high_encoder) == xception_parameters(10, 16)
    assert n_parameters(paper.low_encoder) == xception_parameters(4, 8, scale=0.25)
    # head 1: linear (2048 + 512) -> 128 -> 64 -> 1, norms after the first two; head 2: 3 -> 8 -> 1
    head1 = (2560 * 128 + 128) + 256 + (128 * 64 + 64) + 128 + (64 + 1)
    head2 = (3 * 8 + 8) + 16 + (8 + 1)
    assert n_parameters(paper.head1) == head1
    assert n_parameters(paper.head2) == head2
    assert n_parameters(paper) == 39_830_378


def test_features_are_8_by_8_and_1_by_1(paper):
    """Output stride 32 of 256 pixels (320 m a cell), 16 of 16 pixels; one forward of the whole."""
    seen = {}
    for name in ("high_encoder", "low_encoder"):
        encoder = getattr(paper, name)
        encoder.register_forward_hook(lambda m, i, o, name=name: seen.update({name: o.shape}))
    with torch.inference_mode():
        out = paper(torch.randn(2, 10, 256, 256), torch.randn(2, 4, 16, 16), torch.randn(2, 2))
    assert out.shape == (2,)
    assert seen == {"high_encoder": (2, 2048, 8, 8), "low_encoder": (2, 512, 1, 1)}


def test_a_dilated_row_replaces_the_stride_it_may_not_take():
    """Under output stride 16 the exit flow keeps its resolution and widens its last filters."""
    low = ENCODERS["xception"]["paper"][1](4, drop_path_keep=1, momentum=0.1)
    strides = [m.depthwise.stride[0] for m in low.modules() if isinstance(m, SeparableConv)]
    dilations = [m.depthwise.dilation[0] for m in low.modules() if isinstance(m, SeparableConv)]
    assert sum(s == 2 for s in strides) == 3  # entry flow only; the stem makes the fourth
    assert dilations[-4:] == [1, 2, 2, 2]


def test_small_is_the_same_code_with_the_same_strides():
    small = XceptionFusion.preset("small", high_channels=10, low_channels=4, coarse=2).eval()
    with torch.inference_mode():
        assert small.high_encoder(torch.zeros(1, 10, 256, 256)).shape == (1, 192, 8, 8)
        assert small.low_encoder(torch.zeros(1, 4, 16, 16)).shape == (1, 64, 1, 1)
    assert n_parameters(small) < 400_000


def test_drop_path_keeps_less_and_less_down_to_its_probability(paper):
    """Linear in depth: 21 blocks of Xception-65, the last one at 0.6."""
    keeps = [m.keep for m in paper.high_encoder.modules() if isinstance(m, Residual)]
    assert len(keeps) == 21
    assert keeps[-1] == pytest.approx(0.6)
    assert keeps[0] == pytest.approx(1 - 0.4 / 21)


def test_a_dropped_path_leaves_the_skip_and_the_mean_unchanged():
    """Branch x Bernoulli(keep) / keep: some samples pass untouched, the mean stays."""
    small = XceptionFusion.preset("small", high_channels=3)
    block = next(
        m for m in small.modules() if isinstance(m, Residual) and isinstance(m.skip, nn.Identity)
    )
    block.train()
    for norm in (m for m in block.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.eval()
    block.keep = 0.6
    torch.manual_seed(0)
    images = torch.randn(1, 128, 4, 4).repeat(2000, 1, 1, 1)
    with torch.no_grad():
        change = block(images) - images
        whole = block.eval()(images[:1]) - images[:1]
    dropped = (change == 0).flatten(1).all(1)
    assert dropped.double().mean() == pytest.approx(0.4, abs=0.03)
    torch.testing.assert_close(change[~dropped][0], whole[0] / 0.6)


@pytest.mark.parametrize(
    ("head", "dropouts", "last"), [("head1", (0.5, 0.5, 0.4), 64), ("head2", (0.1, 0.1), 8)]
)
def test_heads_end_in_dropout_and_a_linear_layer(paper, head, dropouts, last):
    """Keep (0.5, 0.5, 0.6) and (0.9, 0.9); Swish between, nothing that bounds the output."""
    layers = list(getattr(paper, head))
    found = tuple(m.p for m in layers if isinstance(m, nn.Dropout))
    assert found == pytest.approx(dropouts)
    assert isinstance(layers[-2], nn.Dropout)
    assert isinstance(layers[-1], nn.Linear)
    assert layers[-1].in_features == last
    block = [nn.Dropout, nn.Linear, nn.BatchNorm1d, nn.SiLU]
    assert [type(m) for m in layers] == block * (len(dropouts) - 1) + block[:2]


def test_centre_weights_sum_to_one_and_favour_the_centre():
    weights = center_weights(8, 8)
    assert weights.sum().item() == pytest.approx(1)
    assert weights[3:5, 3:5].min() == weights.max()
    torch.testing.assert_close(weights, weights.flip(0))
    torch.testing.assert_close(weights, weights.T)
    assert weights[0, 0] < weights[3, 3] / 10


def test_pooling_a_constant_gives_the_constant():
    torch.testing.assert_close(pool_center(torch.full((2, 3, 8, 8), 0.7)), torch.full((2, 3), 0.7))


def test_without_coarse_inputs_the_model_ends_at_head_1():
    model = XceptionFusion.preset("small", high_channels=10, low_channels=4).eval()
    assert model.head2 is None
    with torch.inference_mode():
        assert model(torch.zeros(2, 10, 256, 256), torch.zeros(2, 4, 16, 16), None).shape == (2,)


def test_the_coarse_network_is_head_2_on_two_scalars():
    """SMAP + GLDAS alone: 2 -> 8 -> 1."""
    model = XceptionFusion.preset("paper", coarse=2).eval()
    assert n_parameters(model) == (2 * 8 + 8) + 16 + (8 + 1)
    assert model(None, None, torch.zeros(5, 2)).shape == (5,)


def test_an_untrained_model_answers_near_the_mean_label():
    torch.manual_seed(0)
    model = XceptionFusion.preset("small", coarse=2, mean_label_m3_m3=0.31).eval()
    out = model(None, None, torch.randn(500, 2))
    assert out.mean().item() == pytest.approx(0.31, abs=0.1)
    assert out.std().item() < 0.15


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ((None, None, torch.zeros(2, 2)), "10 high channels and was handed 0"),
        ((torch.zeros(2, 9, 64, 64), None, torch.zeros(2, 2)), "10 high .* handed 9"),
        ((torch.zeros(2, 10, 64, 64), None, None), "2 coarse channels and was handed 0"),
        (
            (torch.zeros(2, 10, 64, 64), torch.zeros(2, 4, 16, 16), torch.zeros(2, 2)),
            "0 low channels and was handed 4",
        ),
    ],
)
def test_inputs_that_the_model_was_not_built_for_are_refused(inputs, message):
    model = XceptionFusion.preset("small", high_channels=10, coarse=2).eval()
    with pytest.raises(ContractError, match=message):
        model(*inputs)


def test_a_preset_that_does_not_exist_is_refused_with_the_ones_that_do():
    with pytest.raises(UnknownNameError, match="paper, small"):
        XceptionFusion(FusionConfig(coarse=2, preset="huge"))
    with pytest.raises(ContractError, match="no input"):
        XceptionFusion(FusionConfig())


def test_a_checkpoint_of_another_system_is_refused():
    alien = Checkpoint({"hidden": 3}, Provenance(), {}, 1, 0.1)
    with pytest.raises(CheckpointError, match="no XceptionFusion"):
        XceptionFusion.from_checkpoint(alien)
    hollow = Checkpoint({"coarse": 2, "preset": "small"}, Provenance(), {}, 1, 0.1)
    with pytest.raises(CheckpointError, match="no XceptionFusion"):
        XceptionFusion.from_checkpoint(hollow)
