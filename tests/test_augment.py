"""Table 6: the centre stays, both images move alike, the probabilities hold."""

import math

import pytest
import torch

from soilkit.errors import ContractError
from soilkit.models.datasets import Augment, image_sides, turning_px, warp

torch.set_num_threads(1)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def moved_by(turn, high, low=None, *, generator):
    """Both images after a draw."""
    images = {"high": high, "low": low}
    batch = turn({n: i for n, i in images.items() if i is not None}, generator=generator)
    return batch["high"], batch.get("low")


def ground(size_px, pixel_size_m, *, bump_at_m, width_m=300.0):
    """A smooth hill on the ground, seen with some pixel size: x east, y south of the centre."""
    metres = (torch.arange(size_px) - (size_px - 1) / 2) * pixel_size_m
    x, y = metres[None, :] - bump_at_m[0], metres[:, None] - bump_at_m[1]
    return torch.exp(-(x**2 + y**2) / (2 * width_m**2))[None]  # (1, row, col)


def centroid_m(image, pixel_size_m):
    size = image.shape[-1]
    metres = (torch.arange(size) - (size - 1) / 2) * pixel_size_m
    mass = image.sum()
    return (image.sum(0) @ metres / mass).item(), (image.sum(1) @ metres / mass).item()


@pytest.mark.parametrize(("high_px", "low_px"), [(362, 23), (256, 16)])
def test_the_centre_stays_in_place(high_px, low_px):
    """A hill at the station is at the station after any draw, in both images."""
    high = ground(high_px, 10, bump_at_m=(0, 0)).expand(40, 1, -1, -1)
    low = ground(low_px, 160, bump_at_m=(0, 0)).expand(40, 1, -1, -1)
    high, low = moved_by(Augment(), high, low, generator=generator())
    assert high.shape[-2:] == (256, 256)
    assert low.shape[-2:] == (16, 16)
    for image in high[:, 0]:
        assert centroid_m(image, 10) == pytest.approx((0, 0), abs=1)
    for image in low[:, 0]:
        assert centroid_m(image, 160) == pytest.approx((0, 0), abs=10)


def test_both_images_move_alike():
    """A hill off the centre lands on the same ground in the 10 m and in the 160 m image."""
    place = (400.0, 250.0)
    high = ground(362, 10, bump_at_m=place).expand(30, 1, -1, -1)
    low = ground(23, 160, bump_at_m=place).expand(30, 1, -1, -1)
    high, low = moved_by(Augment(), high, low, generator=generator(1))
    moved = [centroid_m(image, 10) for image in high[:, 0]]
    assert max(math.dist(place, m) for m in moved) > 500  # the draws do move it
    for image, expected in zip(low[:, 0], moved, strict=True):
        assert centroid_m(image, 160) == pytest.approx(expected, abs=25)


def test_every_band_moves_alike():
    image = ground(64, 10, bump_at_m=(100, 0), width_m=60)
    images = torch.cat([image, 2 * image])[None].repeat(5, 1, 1, 1)
    moved, _ = moved_by(Augment({"high": 64}), images, generator=generator())
    torch.testing.assert_close(moved[:, 1], 2 * moved[:, 0])


def test_rows_run_south_and_a_quarter_turn_is_a_quarter_turn():
    """Turning by 90 degrees equals turning the array counter-clockwise; nothing is mirrored."""
    image = torch.rand(1, 3, 16, 16, generator=generator())
    quarter = torch.tensor([[[0.0, -1.0], [1.0, 0.0]]])
    torch.testing.assert_close(warp(image, quarter, size_px=16), image.rot90(1, dims=(-2, -1)))


def test_no_draw_is_a_plain_centre_crop():
    """362 to 256 pixels drops 53 on each side; nothing is resampled."""
    image = torch.rand(2, 1, 362, 362, generator=generator())
    still, _ = moved_by(Augment(rotate=0, flip=0, shear=0), image, generator=generator())
    torch.testing.assert_close(still, image[..., 53:309, 53:309], atol=1e-3, rtol=0)


def test_probabilities_and_extents_are_those_of_table_6():
    n = 20_000
    turned = Augment(flip=0, shear=0).draw(n, generator=generator())
    angle = torch.rad2deg(torch.atan2(turned[:, 1, 0], turned[:, 0, 0]))
    assert (angle != 0).double().mean() == pytest.approx(0.8, abs=0.01)
    assert angle.min() == pytest.approx(-180, abs=1)
    assert angle.max() == pytest.approx(180, abs=1)

    flipped = Augment(rotate=0, shear=0).draw(n, generator=generator())
    for axis in (0, 1):
        assert (flipped[:, axis, axis] < 0).double().mean() == pytest.approx(0.5, abs=0.01)

    sheared = Augment(rotate=0, flip=0).draw(n, generator=generator())
    east, south = sheared[:, 0, 1], sheared[:, 1, 0]
    for shear in (east, south):
        assert (shear != 0).double().mean() == pytest.approx(0.3, abs=0.01)
        assert torch.rad2deg(shear.abs().max().atan()) == pytest.approx(9, abs=0.1)


def test_samples_of_a_batch_are_drawn_one_by_one_and_repeatably():
    matrices = Augment().draw(8, generator=generator(4))
    assert len({tuple(m.flatten().tolist()) for m in matrices}) == 8
    assert torch.equal(matrices, Augment().draw(8, generator=generator(4)))


def test_a_turned_chip_without_margin_has_no_empty_corners():
    """Reflection continues a chip that is just as large as the crop."""
    images = torch.ones(20, 1, 256, 256)
    moved, _ = moved_by(Augment(), images, generator=generator())
    torch.testing.assert_close(moved, images)


def test_models_without_images_are_left_alone():
    batch = {"coarse": torch.rand(4, 2), "moisture": torch.rand(4)}
    assert Augment()(batch, generator=generator()) == batch


def test_a_batch_moves_as_its_samples_would_alone():
    """One call for all: each sample by its own map, whoever stands beside it."""
    high, low = torch.rand(4, 3, 90, 90), torch.rand(4, 2, 6, 6)
    turn = Augment(image_sides(64))
    matrices = turn.draw(4, generator=generator(7))
    together = moved_by(turn, high, low, generator=generator(7))
    for n in range(4):
        alone = warp(high[n : n + 1], matrices[n : n + 1], size_px=64)
        torch.testing.assert_close(together[0][n], alone[0])
    assert together[0].shape == (4, 3, 64, 64) and together[1].shape == (4, 2, 4, 4)


def test_the_draw_is_a_function_of_the_generator_alone():
    """Not of what was moved before, nor of torch's global seed."""
    high = torch.rand(3, 1, 90, 90)
    torch.manual_seed(0)
    first, _ = moved_by(Augment(image_sides(64)), high, generator=generator(5))
    torch.manual_seed(1)
    again, _ = moved_by(Augment(image_sides(64)), high, generator=generator(5))
    other, _ = moved_by(Augment(image_sides(64)), high, generator=generator(6))
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize("crop_px", [64, 128, 256, 512])
def test_the_margin_holds_what_turns_into_the_corners(crop_px):
    """However a crop turns, it stays within half a pixel of the square that is read for it."""
    reach = crop_px * math.sqrt(2) / 2
    assert abs(turning_px(crop_px) / 2 - reach) <= 1
    size = turning_px(crop_px)
    ramp = torch.arange(size, dtype=torch.float32).expand(1, 1, size, size)
    diagonal = torch.tensor([[[1.0, -1.0], [1.0, 1.0]]]) / math.sqrt(2)
    moved = warp(ramp, diagonal, size_px=crop_px)[0, 0]
    steps = moved.diff(dim=1)  # a reflected part would run backwards
    assert steps[2:-2, 2:-2].min() > 0.70


def test_half_precision_still_finds_its_pixels():
    """Coordinates stay in single precision: 8 bits of bfloat16 could not count to 362."""
    image = ground(362, 10, bump_at_m=(300, -200))[None]
    exact, _ = moved_by(Augment(), image, generator=generator(2))
    rough, _ = moved_by(Augment(), image.bfloat16(), generator=generator(2))
    assert rough.dtype == torch.bfloat16
    torch.testing.assert_close(rough.float(), exact, atol=0.01, rtol=0)


def test_an_absent_source_stays_absent():
    """NaN throughout a band is NaN throughout the crop, and in no other band or sample."""
    high = torch.rand(3, 4, 90, 90)
    high[1, 2:] = torch.nan
    moved, _ = moved_by(Augment(image_sides(64)), high, generator=generator())
    unknown = moved.isnan().flatten(2)
    assert torch.equal(unknown.all(2), unknown.any(2))
    assert unknown.all(2).nonzero().tolist() == [[1, 2], [1, 3]]


def test_a_crop_of_broken_low_pixels_is_refused():
    with pytest.raises(ContractError, match="multiple of 16"):
        image_sides(100)
