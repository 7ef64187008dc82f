"""The network of DEEPSOIL, and its loss with a term in the suction of water in soil."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from soilkit import retention
from soilkit.errors import ContractError, UnknownNameError
from soilkit.models import training

N_LOW_LEVEL = 21  # Landsat 4, NDVI, NLCD 16
PRESETS = {"paper": (64, 128, 256, 512), "small": (12, 24, 48, 64)}
DECODER = (256, 128, 64, 32)  # widths of the paper's decoder; others keep their proportions
DROPOUT = 0.2  # after the two deepest blocks; the paper names no rate


# ---- the network ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class DeepSoilConfig:
    """What a model eats and its size.

    ``low_level`` are the channels that are fed to the last layer once more; ``widths`` those of the
    encoder's blocks; with ``mask`` a channel more tells which pixels are known in all maps.
    """

    channels: int = 75
    low_level: tuple[int, ...] = tuple(range(N_LOW_LEVEL))
    widths: tuple[int, ...] = PRESETS["paper"]
    mask: bool = False

    def __post_init__(self) -> None:
        for name in ("low_level", "widths"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        strange = [k for k in self.low_level if not 0 <= k < self.channels]
        if strange:
            raise ContractError(
                f"Low-level channels {strange} are not among {self.channels} channels. Name some "
                f"of 0 to {self.channels - 1}."
            )


class DeepSoil(nn.Module):
    """Soil moisture at 30 m from maps of 64 x 64 pixels, a U-Net [1]_.

    Encoder blocks of three 3 x 3 convolutions, the third of stride 2, each normed, LeakyReLU inside
    and ReLU at the end; decoder blocks of a 4 x 4 transposed convolution of stride 2 and two 3 x 3
    ones, then what the encoder held at that size; the low-level maps (Landsat, NDVI, land cover)
    beside the last block and a 3 x 3 convolution to one. The paper gives four blocks, the latent
    4 x 4 x 512 and 12.9 million parameters; the widths and the number of convolutions are ours, and
    with 75 maps have 12,911,934. The output is not bounded.

    Parameters
    ----------
    config : DeepSoilConfig
    mean_label_m3_m3 : float, m3 m-3, the output before any training

    References
    ----------
    .. [1] Khandelwal et al. (2024), doi:10.1145/3678717.3691261, section 3.3 and Fig. 10

    Examples
    --------
    >>> model = DeepSoil.preset("paper", channels=75)
    >>> sum(p.numel() for p in model.parameters())
    12911934
    >>> tuple(model.eval()(torch.zeros(1, 75, 64, 64)).shape)
    (1, 64, 64)
    """

    def __init__(self, config: DeepSoilConfig, *, mean_label_m3_m3: float = 0.2):
        super().__init__()
        self.config = config
        eaten, widths = config.channels + config.mask, config.widths
        decoder = [width * widths[0] // PRESETS["paper"][0] for width in DECODER[-len(widths) :]]
        self.down = nn.ModuleList(_shrink(*pair) for pair in pairwise((eaten, *widths)))
        skips = widths[-2::-1]
        deep = (widths[-1], *(a + b for a, b in zip(decoder, skips, strict=False)))
        self.up = nn.ModuleList(_enlarge(*pair) for pair in zip(deep, decoder, strict=True))
        self.dropout = nn.Dropout2d(DROPOUT)
        self.last = nn.Conv2d(decoder[-1] + len(config.low_level), 1, 3, padding=1)
        nn.init.normal_(self.last.weight, std=0.01)
        nn.init.constant_(self.last.bias, mean_label_m3_m3)  # type: ignore[arg-type]

    @classmethod
    def preset(
        cls, name: str, *, channels: int = 75, mean_label_m3_m3: float = 0.2, **options: Any
    ) -> "DeepSoil":
        """A model of the size ``name``; ``UnknownNameError`` for one that does not exist.

        ``options`` are ``low_level`` and ``mask`` of ``DeepSoilConfig``.
        """
        if name not in PRESETS:
            raise UnknownNameError(f"No preset {name!r}; there are {', '.join(PRESETS)}. Name one.")
        config = DeepSoilConfig(channels, widths=PRESETS[name], **options)
        return cls(config, mean_label_m3_m3=mean_label_m3_m3)

    @classmethod
    def from_checkpoint(cls, checkpoint: training.Checkpoint) -> "DeepSoil":
        """The model that ``training.load_checkpoint`` read, in evaluation mode.

        Raises ``CheckpointError`` when it holds another system's configuration or weights.
        """
        return checkpoint.rebuild(lambda values: cls(DeepSoilConfig(**values)), system="DeepSoil")

    @property
    def configuration(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return asdict(self.config)

    def forward(self, inputs: torch.Tensor, known: torch.Tensor | None = None) -> torch.Tensor:
        """Moisture (B, row, col), m3 m-3, of maps (B, channel, row, col) in [0, 1], missing = -1.

        ``known`` (B, 1, row, col) is 1 where all maps are, for a model with a mask. Raises
        ``ContractError`` for other channels, a size that the blocks do not halve, or no mask.
        """
        shape, step = tuple(inputs.shape[1:]), 2 ** len(self.config.widths)
        if shape[0] != self.config.channels or any(side % step for side in shape[1:]):
            raise ContractError(
                f"Maps of (channel, row, col) {shape}: wanted {self.config.channels} channels and "
                f"sides that are multiples of {step}. Cut tiles of 64 pixels of the same layers."
            )
        deep = inputs
        if self.config.mask:
            if known is None:
                raise ContractError("The model was built with a mask: hand over `known` as well.")
            deep = torch.cat([inputs, known.to(inputs.dtype)], dim=1)
        kept = []
        for i, block in enumerate(self.down):
            deep = block(deep)
            deep = self.dropout(deep) if i >= len(self.down) - 2 else deep
            kept.append(deep)
        for block, skip in zip(self.up, (*kept[-2::-1], None), strict=True):
            deep = block(deep)
            deep = deep if skip is None else torch.cat([deep, skip], dim=1)
        low = inputs[:, list(self.config.low_level)]
        return self.last(torch.cat([deep, low], dim=1))[:, 0]  # (B, row, col)


def _shrink(channels: int, width: int) -> nn.Sequential:
    """A block of the encoder: half the sides."""
    layers: list[nn.Module] = []
    for i, n in enumerate((channels, width, width)):
        is_last = i == 2
        layers += [nn.Conv2d(n, width, 3, stride=1 + is_last, padding=1), nn.BatchNorm2d(width)]
        layers.append(nn.ReLU() if is_last else nn.LeakyReLU(0.2))
    return nn.Sequential(*layers)


def _enlarge(channels: int, width: int) -> nn.Sequential:
    """A block of the decoder: twice the sides."""
    layers: list[nn.Module] = [nn.ConvTranspose2d(channels, width, 4, stride=2, padding=1)]
    layers += [nn.BatchNorm2d(width), nn.LeakyReLU(0.2)]
    for i in range(2):
        layers += [nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)]
        layers.append(nn.ReLU() if i else nn.LeakyReLU(0.2))
    return nn.Sequential(*layers)


# ---- the loss ------------------------------------------------------------------------------------

HUBER_PF = 1.0  # decades of suction from which errors count by their size, not their square
MOISTURE_OF_PF = 1 / 15  # m3 m-3 a decade, typical of soils at 0.2: brings both terms to one scale
SUCTION_OF = ("probe", "hydroblocks", "none")


@dataclass(frozen=True)
class ScienceLoss:
    """gamma MSE + (1 - gamma) suction term, over valid pixels, by their weights [1]_.

    The paper's equations 1 to 4, with three changes. Both terms are divided by the sum of weights
    of valid pixels: divided by all pixels, a tile with gaps would count less. The suction is taken
    as pF, its logarithm (``retention.pf``), whose differences are weighed by Huber's function; the
    printed difference of suctions (form "raw") is 8e29 at n = 1.09, not a number outside theta_r to
    theta_s, and as it stands least for a prediction of no suction at all: we take its size.
    And gamma, which steps down from 1 as training goes on, stops at ``floor``; the paper's 0 leaves
    the level of dry soils to the slope of the curve alone.

    Parameters
    ----------
    suction_of : "probe": of the readings where there is a probe and of HydroBlocks elsewhere;
        "hydroblocks": of the target; "none": gamma is 1 throughout, the MSE alone
    form : "pf" or "raw"
    floor : least gamma
    n_steps : of gamma, even ones

    References
    ----------
    .. [1] Khandelwal et al. (2024), doi:10.1145/3678717.3691261, section 3.4

    Examples
    --------
    >>> [ScienceLoss(n_steps=5).gamma_at(share) for share in (0.0, 0.3, 0.5, 0.99)]
    [1.0, 0.75, 0.5, 0.05]
    """

    suction_of: str = "probe"
    form: str = "pf"
    floor: float = 0.05
    n_steps: int = 10

    def __post_init__(self) -> None:
        for value, choices in ((self.suction_of, SUCTION_OF), (self.form, tuple(FORMS))):
            if value not in choices:
                raise UnknownNameError(f"No {value!r}; there are {', '.join(choices)}. Name one.")

    def gamma_at(self, share: float) -> float:
        """The weight of the MSE when a share (0 to 1) of the training is done."""
        if self.suction_of == "none":
            return 1.0
        step = min(int(share * self.n_steps), self.n_steps - 1)
        return max(self.floor, 1 - step / max(self.n_steps - 1, 1))

    def __call__(self, predicted: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The loss of a prediction (B, row, col), a scalar in float32.

        ``batch`` holds ``target`` m3 m-3, ``valid`` and ``weights`` (B, row, col); for a suction
        term ``soil`` (B, 4, row, col), theta_r, theta_s, alpha [kPa-1] and n, for that of probes
        ``probe`` (B, row, col), NaN where there is none; and ``share`` (B, ...), the share of the
        training that is done. Soils without a curve (``has_curve``) are left out of that term.
        """
        predicted = predicted.float()
        known = batch["valid"] & torch.isfinite(batch["target"])
        target = torch.where(known, batch["target"].float(), 0.0)
        weights = torch.where(known, batch["weights"].float(), 0.0)
        gamma = self.gamma_at(float(batch["share"].flatten()[0])) if "share" in batch else 1.0
        error = weighted_mean((predicted - target) ** 2, weights)
        if gamma == 1.0:
            return error
        if self.suction_of == "probe":
            read = torch.isfinite(batch["probe"])
            target = torch.where(read, batch["probe"].float(), target)
            weights = torch.where(read, batch["weights"].float(), weights)
        weights = torch.where(has_curve(batch["soil"]), weights, 0.0)
        term = FORMS[self.form](predicted, target, soil=batch["soil"].float())
        return gamma * error + (1 - gamma) * weighted_mean(term, weights)


def weighted_mean(values: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Mean over a tile's pixels by their weights (B, row, col), then over tiles that have any."""
    total = weights.flatten(1).sum(1)  # (B,)
    sums = torch.where(weights > 0, values * weights, 0.0).flatten(1).sum(1)
    return (sums / total.clamp(min=1e-12)).sum() / (total > 0).sum().clamp(min=1)


def has_curve(soil: torch.Tensor) -> torch.Tensor:
    """Where parameters (B, 4, ...) make a curve: theta_r below theta_s, alpha above 0, n above 1.

    By a hundredth at least, so that no difference in moisture is thousands of decades of suction.
    """
    theta_r, theta_s, alpha, n = soil.unbind(1)
    return (theta_s - theta_r > 0.01) & (theta_r >= 0) & (alpha > 0) & (n > 1.01) & (n < torch.inf)


def suction_term(
    predicted: torch.Tensor, target: torch.Tensor, *, soil: torch.Tensor
) -> torch.Tensor:
    """Huber's function of the difference in pF, in (m3 m-3)^2 of a typical soil, (B, row, col)."""
    curve = _curve(soil)
    difference = retention.pf(predicted, curve) - retention.pf(target, curve)
    huber = functional.huber_loss(
        difference, torch.zeros_like(difference), reduction="none", delta=HUBER_PF
    )
    return 2 * huber * MOISTURE_OF_PF**2


def raw_suction_term(
    predicted: torch.Tensor, target: torch.Tensor, *, soil: torch.Tensor
) -> torch.Tensor:
    """The paper's equations 3 and 4 as printed, but for the sign: differences of suction in kPa."""
    theta_r, theta_s, alpha, n = soil.unbind(1)

    def suction_kpa(moisture: torch.Tensor) -> torch.Tensor:
        ratio = (theta_s - theta_r) / (moisture - theta_r)
        return (ratio ** (n / (n - 1)) - 1) ** (1 / n) / alpha

    return (suction_kpa(predicted) - suction_kpa(target)).abs()


FORMS = {"pf": suction_term, "raw": raw_suction_term}
LOAM = (0.078, 0.43, 0.36, 1.56)  # stands where a soil has no curve and is not looked at


def _curve(soil: torch.Tensor) -> retention.Retention:
    usable = has_curve(soil)
    parts = (torch.where(usable, part, v) for part, v in zip(soil.unbind(1), LOAM, strict=True))
    theta_r, theta_s, alpha, n = parts
    return retention.Retention(theta_r, theta_s, alpha / retention.CM_OF_KPA, n)


# ---- a training step -----------------------------------------------------------------------------


def step_by(loss: Any) -> training.Step:
    """The step that ``training.fit`` takes: ``loss`` (predicted, batch) of a batch's tiles."""

    def step(model: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return loss(model(batch["inputs"], batch.get("known")), batch)

    return step


def look(model: Any, batch: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Moisture and what is known of it: (B, 1, row, col), and target and probes (B, 2, row, col).

    Unknown is NaN.
    """
    predicted = model(batch["inputs"], batch.get("known"))
    target = torch.where(batch["valid"], batch["target"], torch.nan)
    return predicted[:, None], torch.stack([target, batch["probe"]], dim=1)
