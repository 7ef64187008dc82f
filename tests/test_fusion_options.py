"""One argument each: encoder, pooling, fusion, alignment; and how large a model is."""

from functools import partial

import pytest
import torch
from torch import nn

from soilkit.errors import CheckpointError, ContractError, UnknownNameError
from soilkit.models import count_flops, count_parameters, size_table
from soilkit.models.encoders import (
    ENCODERS,
    RESNET_18,
    RESNET_50,
    mobilenet,
    pool_average,
    resnet,
)
from soilkit.models.inputs import Inputs
from soilkit.models.training import Checkpoint, Provenance
from soilkit.models.xception_fusion import (
    PRESETS,
    FusionConfig,
    XceptionFusion,
    enlarge,
)

torch.set_num_threads(1)
OPTIONS = [(encoder, fusion) for encoder in ENCODERS for fusion in ("late", "early")]


def fusion_model(preset="small", **options):
    return XceptionFusion(FusionConfig(10, 4, 2, preset, **options))


def batch(crop_px=64, n=3):
    torch.manual_seed(1)
    low_px = crop_px // 16
    return (
        torch.randn(n, 10, crop_px, crop_px),
        torch.randn(n, 4, low_px, low_px),
        torch.randn(n, 2),
    )


def look_trained(model):
    """Norms with means, spreads and shifts of their own, as training leaves them."""
    torch.manual_seed(2)
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            for values in (norm.running_mean, norm.bias.data):
                nn.init.normal_(values, std=0.3)
    return model.eval()


@pytest.mark.parametrize(
    ("build", "weights"),
    [
        # as published with a linear layer of 1000 classes, less that layer
        (partial(resnet, stages=RESNET_18, bottleneck=False), 11_689_512 - 513_000),
        (partial(resnet, stages=RESNET_50, bottleneck=True), 25_557_032 - 2_049_000),
        (mobilenet, 3_504_872 - 1_281_000),
    ],
    ids=["resnet18", "resnet50", "mobilenet_v2"],
)
def test_the_alternatives_have_the_published_number_of_weights(build, weights):
    with torch.device("meta"):
        encoder = build(3, drop_path_keep=1, momentum=0.1)
    assert count_parameters(encoder) == weights


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("encoder", ENCODERS)
def test_any_crop_gives_cells_of_320_m_and_of_2560_m(encoder, preset):
    """Output stride 32 of 10 m, 16 of 160 m (2 where squares of 320 m stand alone)."""
    seen = {}
    with torch.device("meta"), torch.no_grad():
        model = fusion_model(preset, encoder=encoder).eval()
        for name in ("high_encoder", "low_encoder"):
            module = getattr(model, name)
            module.register_forward_hook(lambda m, i, o, name=name: seen.update({name: o.shape}))
        for crop in (64, 128, 256, 512) if preset == "small" else (512,):
            images = torch.empty(2, 10, crop, crop), torch.empty(2, 4, crop // 16, crop // 16)
            assert model(*images, torch.empty(2, 2)).shape == (2,)
            high, low = model.high_encoder.out_channels, model.low_encoder.out_channels
            assert seen["high_encoder"] == (2, high, crop // 32, crop // 32)
            side = crop // 32 if encoder == "local" else max(crop // 256, 1)
            assert seen["low_encoder"] == (2, low, side, side)


@pytest.mark.parametrize(("encoder", "fusion"), OPTIONS)
def test_every_weight_learns(encoder, fusion):
    """With each source absent from some sample, no parameter is left without a gradient."""
    inputs = Inputs()
    model = XceptionFusion.for_inputs(
        inputs, preset="small", encoder=encoder, fusion=fusion, source_dropout=0.1
    )
    high, low, coarse = batch(n=4)
    high[0, :3], high[1, 3:9], high[2, 9:] = (torch.nan,) * 3
    low[1], coarse[2, 0], coarse[3, 1] = (torch.nan,) * 3
    (look_trained(model)(high, low, coarse) ** 2).sum().backward()
    dead = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not dead
    assert (model.presence.stand_in.grad != 0).all()


def test_early_fusion_stacks_all_images_before_one_encoder():
    """Four more channels enter the stem; the second encoder and its embedding are gone."""
    with torch.device("meta"):
        late, early = fusion_model("paper"), fusion_model("paper", fusion="early")
    assert early.low_encoder is None
    stem = 4 * 32 * 3 * 3
    assert count_parameters(early.high_encoder) == count_parameters(late.high_encoder) + stem
    assert count_parameters(late.head1) - count_parameters(early.head1) == 512 * 128
    assert count_parameters(early.head2) == count_parameters(late.head2)
    assert (count_parameters(late), count_parameters(early)) == (39_830_378, 38_141_514)


def test_early_fusion_of_one_resolution_is_late_fusion():
    for high, low in ((10, 0), (0, 4)):
        torch.manual_seed(0)
        late = XceptionFusion(FusionConfig(high, low, 2, "small"))
        torch.manual_seed(0)
        early = XceptionFusion(FusionConfig(high, low, 2, "small", fusion="early"))
        assert late.state_dict().keys() == early.state_dict().keys()


@pytest.mark.parametrize(("crop_px", "low_px"), [(256, 16), (362, 24)])
def test_enlarged_images_lie_on_the_same_ground(crop_px, low_px):
    """A plane in metres east, seen at 160 m, is that plane at 10 m but for the clamped edge."""
    east = lambda n, size: (torch.arange(n) - (n - 1) / 2) * size  # noqa: E731
    low = east(low_px, 160.0).expand(1, 1, low_px, low_px)
    found = enlarge(low, shape=(crop_px, crop_px))[0, 0, crop_px // 2]
    inside = slice(8, -8)
    torch.testing.assert_close(found[inside], east(crop_px, 10.0)[inside])


def test_average_pooling_forgets_the_centre():
    features = torch.zeros(1, 1, 8, 8)
    features[..., 0, 0] = 64
    assert pool_average(features).item() == 1
    center, average = (fusion_model(pooling=name) for name in ("center", "average"))
    average.load_state_dict(center.state_dict())
    images = batch(128)
    assert not torch.allclose(center.eval()(*images), average.eval()(*images))


def receptive_centre(resolution, crop_px):
    """How far south-east of the chip's centre the pooled features look on average, pixels.

    Every convolution and the stem's maximum is made an average, so that the gradient is the
    receptive field itself; the image is faint, so that no activation saturates.
    """
    channels = {f"{resolution}_channels": 1}
    model = XceptionFusion(FusionConfig(preset="small", **channels)).eval()
    encoder = getattr(model, f"{resolution}_encoder")
    for conv in (m for m in encoder.modules() if isinstance(m, nn.Conv2d)):
        nn.init.constant_(conv.weight, 1 / conv.weight[0].numel())
    for n, layer in enumerate(encoder.layers):
        if isinstance(layer, nn.MaxPool2d):
            encoder.layers[n] = nn.AvgPool2d(3, stride=2, padding=1)
    model.head1 = nn.Linear(encoder.out_channels, 1, bias=False)
    nn.init.ones_(model.head1.weight)
    image = torch.full((1, 1, crop_px, crop_px), 1e-3, requires_grad=True)
    high_low = (image, None) if resolution == "high" else (None, image)
    model(*high_low).sum().backward()
    field = image.grad[0, 0] / image.grad.sum()
    offset = torch.arange(crop_px) - (crop_px - 1) / 2
    return (field.sum(1) @ offset).item(), (field.sum(0) @ offset).item()


def test_an_even_chip_is_looked_at_from_the_north_west():
    """The paper's 256 and 16 pixels: 11 pixels of 10 m, 4.5 of 160 m, less than half a cell."""
    assert receptive_centre("high", 256) == pytest.approx((-11.4, -11.4), abs=0.2)
    assert receptive_centre("low", 16) == pytest.approx((-4.5, -4.5), abs=0.1)


def test_options_that_do_not_exist_are_refused_with_those_that_do():
    for name, known in (
        ("encoder", "xception, resnet, mobilenet"),
        ("pooling", "center, average"),
        ("fusion", "late, early"),
    ):
        with pytest.raises(UnknownNameError, match=known):
            fusion_model(**{name: "best"})
    with pytest.raises(ContractError, match="for_inputs"):
        fusion_model(source_dropout=0.2)
    with pytest.raises(ContractError, match="probability"):
        XceptionFusion.for_inputs(Inputs(), preset="small", source_dropout=1.0)


def test_a_checkpoint_may_leave_options_at_their_defaults():
    model = fusion_model()
    plain = {"high_channels": 10, "low_channels": 4, "coarse": 2, "preset": "small"}
    assert model.configuration.items() >= plain.items()
    again = XceptionFusion.from_checkpoint(
        Checkpoint(plain, Provenance(), model.state_dict(), 1, 0.1)
    )
    images = batch()
    torch.testing.assert_close(again(*images), model.eval()(*images))


def test_a_checkpoint_brings_its_options_back(tmp_path):
    inputs = Inputs(low=("soilgrids", "modis_lai"))
    options = {"encoder": "mobilenet", "pooling": "average", "fusion": "early"}
    model = XceptionFusion.for_inputs(inputs, preset="small", source_dropout=0.2, **options)
    provenance = Provenance(inputs.names)
    written = Checkpoint(model.configuration, provenance, model.state_dict(), 1, 0.1)
    again = XceptionFusion.from_checkpoint(written)
    assert again.config == model.config
    assert Inputs.from_checkpoint(written) == inputs
    late = model.configuration | {"fusion": "late"}
    with pytest.raises(CheckpointError):
        XceptionFusion.from_checkpoint(Checkpoint(late, provenance, model.state_dict(), 1, 0.1))


def sized(model, **options):
    """What ``size_table`` wants of a fusion model."""
    return model, model.example(**options)


def test_flops_of_the_coarse_network_by_hand():
    # 2 -> 8 -> 1: (16 + 8) multiplications and as many additions
    table = size_table(*sized(XceptionFusion.preset("paper", coarse=2)))
    assert table["flops"].tolist() == [48, 48]
    assert table["part"].tolist() == ["head2", "total"]
    assert table["parameters"].iloc[-1] == (2 * 8 + 8) + 16 + (8 + 1)


@pytest.mark.parametrize(("encoder", "giga"), [("resnet", 4.089e9), ("mobilenet", 300.8e6)])
def test_flops_are_twice_the_published_multiplications(encoder, giga):
    """At 224 pixels and three channels, where others counted; the classifier is not ours."""
    with torch.device("meta"):
        model = XceptionFusion(FusionConfig(high_channels=3, encoder=encoder))
    table = size_table(*sized(model, crop_px=224)).set_index("part")
    classes = 1000 * model.high_encoder.out_channels
    assert table.loc["high_encoder", "flops"] == pytest.approx(2 * (giga - classes), rel=2e-3)
    assert count_flops(model, crop_px=224) == table.loc["total", "flops"]


def test_larger_crops_cost_in_proportion():
    with torch.device("meta"):
        model = XceptionFusion(FusionConfig(high_channels=10, preset="small"))
    encoder = [size_table(*sized(model, crop_px=c))["flops"].iloc[0] for c in (128, 256)]
    assert encoder[1] / encoder[0] == pytest.approx(4)
    with pytest.raises(ContractError, match="multiple of 16"):
        count_flops(model, crop_px=100)
