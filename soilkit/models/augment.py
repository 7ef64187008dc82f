"""Table 6's augmentations: affine maps about the chip's centre, alike for both encoders' images.

The label belongs to the centre, so the centre never moves. No band needs special care when a chip
turns: the radar's incidence angle, like backscatter and reflectance, is a number at a place and not
a direction in the image. (A band that were an azimuth or an aspect would have to turn too.)

A whole batch moves at once, on the device that holds it; the maps are drawn on the processor, so
that a seed gives the same ones everywhere. A band that is NaN throughout (an absent source) stays
so.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch.nn import functional

from soilkit.constants import CROP_PX, PIXEL_RATIO
from soilkit.errors import ContractError


def image_sides(crop_px: int) -> dict[str, int]:
    """Sides of a window's images over the same ground, pixels of 10 m and of 160 m.

    Raises
    ------
    ContractError
        When the crop is no whole number of 160 m pixels.
    """
    if crop_px < 1 or crop_px % PIXEL_RATIO:
        raise ContractError(
            f"A crop of {crop_px} pixels of 10 m is no whole number of 160 m pixels. Choose a "
            f"multiple of {PIXEL_RATIO}, such as 64, 128, 256 or 512."
        )
    return {"high": crop_px, "low": crop_px // PIXEL_RATIO}


def turning_px(crop_px: int) -> int:
    """Side of the square to read so that a crop finds all of its ground however it turns, pixels.

    sqrt(2) times the crop, to the nearest even number; shears reach a little further and are
    continued by reflection.

    Examples
    --------
    >>> [turning_px(side) for side in (64, 128, 256, 512)]
    [90, 182, 362, 724]
    """
    return 2 * round(crop_px * math.sqrt(2) / 2)


@dataclass(frozen=True)
class Augment:
    """Rotate, flip and shear a batch at random, then crop its centre [1]_.

    Table 6: rotation by up to 180 degrees either way with probability 0.8, each flip with 0.5, each
    shear by up to 9 degrees with 0.3, drawn anew for each sample. Images larger than the crop (362
    and 23 pixels for 256 and 16) hold what turns into the corners; a chip of just the crop's size
    is continued by reflection.

    Parameters
    ----------
    crops : {image of the batch: side of its crop, pixels}
        All over the same ground; what else a batch holds stays as it is.
    rotate, flip, shear : float
        Probabilities.
    max_rotation_deg, max_shear_deg : float, degrees

    References
    ----------
    .. [1] Batchu et al. (2022), arXiv:2206.09649, section 3b2, Table 6

    Examples
    --------
    >>> batch = {"high": torch.rand(2, 10, 362, 362), "low": torch.rand(2, 4, 23, 23)}
    >>> batch = Augment()(batch, generator=torch.Generator().manual_seed(0))
    >>> batch["high"].shape, batch["low"].shape
    (torch.Size([2, 10, 256, 256]), torch.Size([2, 4, 16, 16]))
    """

    crops: Mapping[str, int] = field(default_factory=lambda: image_sides(CROP_PX))
    rotate: float = 0.8
    flip: float = 0.5
    shear: float = 0.3
    max_rotation_deg: float = 180.0
    max_shear_deg: float = 9.0

    def __call__(
        self, batch: Mapping[str, torch.Tensor], *, generator: torch.Generator
    ) -> dict[str, torch.Tensor]:
        """The batch with all images (B, band, row, col) of each sample moved by the same map."""
        images = {name: batch[name] for name in self.crops if name in batch}
        if not images:
            return dict(batch)
        first = next(iter(images.values()))
        matrices = self.draw(len(first), generator=generator).to(first.device)
        moved = {n: warp(i, matrices, size_px=self.crops[n]) for n, i in images.items()}
        return {**batch, **moved}

    def draw(self, n: int, *, generator: torch.Generator) -> torch.Tensor:
        """Draw ``n`` maps (n, 2, 2) from offsets (x east, y south) in the output to the input's."""

        def happens(probability):
            return torch.rand(n, generator=generator) < probability

        def angle_rad(probability, limit_deg):
            deg = (2 * torch.rand(n, generator=generator) - 1) * limit_deg
            return torch.deg2rad(deg) * happens(probability)

        def flipped():
            return 1 - 2.0 * happens(self.flip)

        turn = angle_rad(self.rotate, self.max_rotation_deg)
        shear_x = angle_rad(self.shear, self.max_shear_deg).tan()
        shear_y = angle_rad(self.shear, self.max_shear_deg).tan()
        zero, one = torch.zeros(n), torch.ones(n)
        rotation = _matrices(turn.cos(), -turn.sin(), turn.sin(), turn.cos())
        flips = _matrices(flipped(), zero, zero, flipped())
        sheared = _matrices(one, shear_x, zero, one) @ _matrices(one, zero, shear_y, one)
        return rotation @ flips @ sheared  # (n, 2, 2)


def _matrices(a, b, c, d):
    return torch.stack([a, b, c, d], dim=-1).reshape(-1, 2, 2)


def warp(images: torch.Tensor, matrices: torch.Tensor, *, size_px: int) -> torch.Tensor:
    """Sample square images bilinearly through linear maps about their centre.

    out(p) = in(M p), p the offset from the centre in pixels; reflection outside the image.

    Parameters
    ----------
    images : tensor (B, band, row, col), square
    matrices : tensor (B, 2, 2)
    size_px : int, the output's side

    Returns
    -------
    tensor (B, band, size_px, size_px)
    """
    scale = size_px / images.shape[-1]  # the sampler counts in half sides, of output and of input
    # Half precision could not tell neighbouring pixels' coordinates apart.
    theta = functional.pad(matrices * scale, (0, 1)).to(images.device)  # (B, 2, 3), no shift
    shape = [len(images), images.shape[1], size_px, size_px]
    grid = functional.affine_grid(theta, shape, align_corners=False)
    moved = functional.grid_sample(
        images.to(grid.dtype), grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )
    return moved.to(images.dtype)
