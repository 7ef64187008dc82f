"""Days without an overpass: a small filter in continuous time fills them, and rivals that do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import nn

from soilkit.errors import ContractError
from soilkit.models import training

LATENTS, INNER = 16, 32
SHORTEST_DAYS, LONGEST_DAYS = 1.0, 300.0  # memories of the latent processes before training
HIDDEN_SHARE = 0.3  # of the days of a training series, to be told from the others
SERIES_DAYS = 60
BATCH_SERIES = 128
SERIES_AT_ONCE = 4096


class Belief(NamedTuple):
    """Mean and variance of the latent processes, (series, latent)."""

    mean: torch.Tensor
    variance: torch.Tensor


class ContinuousFilter(nn.Module):
    """A Kalman filter of latent processes whose observations a small network reads.

    Latent processes forget at rates of their own, dz = -z dt / tau + sqrt(2 / tau) dB, so that a
    gap of any length is one step: the mean falls to exp(-dt / tau) of itself, and the variance
    rises towards 1. An encoder turns a day's values into an observation of every process and the
    variance of its error; the update is Kalman's, process by process; a linear decoder gives the
    values back, with a variance. It is a continuous recurrent unit [1]_ without correlations
    between latent processes and without its nonlinear decoder.

    The *causal* fill of a day knows that day and days before it. The *acausal* one joins it with a
    filter that runs backwards: precisions of both add up, less the prior's, which both count [2]_.

    Parameters
    ----------
    channels : int, values a day, normalised

    References
    ----------
    .. [1] Schirmer et al. (2022), PMLR 162, 19388-19405
    .. [2] Fraser and Potter (1969), doi:10.1109/TAC.1969.1099196
    """

    def __init__(self, channels: int):
        super().__init__()
        self.channels = channels
        days = np.geomspace(SHORTEST_DAYS, LONGEST_DAYS, LATENTS)
        self.log_memory = nn.Parameter(torch.tensor(np.log(days), dtype=torch.float32))
        self.encoder = nn.Sequential(
            nn.Linear(2 * channels, INNER), nn.Tanh(), nn.Linear(INNER, 2 * LATENTS)
        )
        self.decoder = nn.Linear(LATENTS, channels)
        self.log_noise = nn.Parameter(torch.full((channels,), -2.0))

    @property
    def configuration(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return {"channels": self.channels}

    def prior(self, n: int) -> Belief:
        """What is believed of ``n`` series before any observation."""
        zeros = self.log_memory.new_zeros(n, LATENTS)
        return Belief(zeros, torch.ones_like(zeros))

    def foresee(self, belief: Belief, days: float) -> Belief:
        """The belief so many days later."""
        kept = torch.exp(-days * torch.exp(-self.log_memory))
        return Belief(kept * belief.mean, 1 - kept**2 * (1 - belief.variance))

    def read(self, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What values (..., channel) say of each process, and the variances of its errors.

        NaN is unknown; where nothing is known the variance is infinite.
        """
        known = torch.isfinite(values)
        inputs = torch.cat([torch.where(known, values, 0), known.to(values.dtype)], dim=-1)
        observed, log_error = self.encoder(inputs).chunk(2, dim=-1)
        error = torch.exp(log_error.clamp(-8, 8))
        return observed, torch.where(known.any(dim=-1, keepdim=True), error, torch.inf)

    @staticmethod
    def update(belief: Belief, observed: torch.Tensor, *, error: torch.Tensor) -> Belief:
        """The belief after a day's observation of each process, (series, latent)."""
        gain = belief.variance / (belief.variance + error)
        mean = belief.mean + gain * (observed - belief.mean)
        return Belief(mean, (1 - gain) * belief.variance)

    def decode(self, belief: Belief) -> tuple[torch.Tensor, torch.Tensor]:
        """Values and their variances, (series, channel)."""
        spread = belief.variance @ self.decoder.weight.T.square()
        return self.decoder(belief.mean), spread + torch.exp(self.log_noise)

    def beliefs(self, values: torch.Tensor, gaps: torch.Tensor) -> tuple[Belief, Belief]:
        """Beliefs before and after each day's values (series, day, channel); ``gaps`` in days."""
        observed, errors = self.read(values)
        belief, days = self.prior(len(values)), []
        for k, gap in enumerate(gaps.tolist()):
            before = self.foresee(belief, gap)
            belief = self.update(before, observed[:, k], error=errors[:, k])
            days.append((before, belief))
        before, after = (Belief(*map(_by_day, zip(*one))) for one in zip(*days))  # noqa: B905
        return before, after

    def both(self, values: torch.Tensor, gaps: torch.Tensor) -> tuple[Belief, Belief]:
        """Beliefs of each day (series, day, latent) from the past alone, and from both sides."""
        _, after = self.beliefs(values, gaps)
        turned, _ = self.beliefs(values.flip(1), torch.cat([gaps[:1], gaps[1:].flip(0)]))
        later = Belief(turned.mean.flip(1), turned.variance.flip(1))
        precision = 1 / after.variance + 1 / later.variance - 1  # of one prior, variance 1
        mean = (after.mean / after.variance + later.mean / later.variance) / precision
        return after, Belief(mean, 1 / precision)

    def forward(
        self, values: torch.Tensor, gaps: torch.Tensor, *, causal: bool = True
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Values of all days and their variances, (series, day, channel).

        Parameters
        ----------
        values : tensor (series, day, channel), normalised, NaN where unknown
        gaps : tensor (day,), days since the day before; the first is of no matter
        causal : whether a day knows only itself and the past
        """
        belief = self.beliefs(values, gaps)[1] if causal else self.both(values, gaps)[1]
        return self.decode(belief)

    def fill(self, values: np.ndarray, times: Any, *, causal: bool = True) -> np.ndarray:
        """Values (series, day, channel) with gaps filled; what is known stays.

        Before the first observation a series is filled by what is usual in training. ``times`` are
        naive datetimes (day,); raises ``ContractError`` where they do not increase.
        """
        gaps, parts = gaps_of(times), []
        with torch.inference_mode():
            for some in np.array_split(values, max(1, -(-len(values) // SERIES_AT_ONCE))):
                series = torch.as_tensor(some, dtype=torch.float32)
                filled, _ = self(series, gaps, causal=causal)
                parts.append(torch.where(torch.isfinite(series), series, filled).numpy())
        return np.concatenate(parts)


def _by_day(days):
    return torch.stack(days, dim=1)


def gaps_of(times: Any) -> torch.Tensor:
    """Days since the time before, (time,); 1 for the first.

    Raises ``ContractError`` for times that do not increase.
    """
    index = pd.DatetimeIndex(times)
    days = np.diff(index.to_numpy()) / np.timedelta64(1, "D")
    if index.hasnans or (days <= 0).any():
        late = int((days <= 0).argmax()) + 1 if (days <= 0).any() else 0
        raise ContractError(
            f"Days should increase, each once; {index[late]} follows {index[late - 1]}. Sort them, "
            "as by cube.sortby('time'), and drop what repeats."
        )
    return torch.tensor([1.0, *days], dtype=torch.float32)


def train_filter(
    values: np.ndarray, times: Any, *, steps: int = 150, seed: int = 0, progress: bool = False
) -> ContinuousFilter:
    """A filter that has learnt to tell days which were hidden from it, both ways in time.

    Parameters
    ----------
    values : array (series, day, channel), normalised, NaN where unknown; of training days alone
    times : naive datetimes (day,)
    steps : of Adam, each with 128 series of at most 60 days

    Raises
    ------
    ContractError
        When no value is known, or times do not increase.
    """
    if not np.isfinite(values).any(axis=(0, 1)).all():
        lacking = int((~np.isfinite(values).any(axis=(0, 1))).argmax())
        raise ContractError(
            f"Channel {lacking} of {values.shape[2]} is known nowhere on the training days: there "
            "is nothing to fill its gaps by. Leave it out, or bring days that have it."
        )
    torch.manual_seed(seed)
    model = ContinuousFilter(values.shape[2])
    with torch.no_grad():
        model.decoder.bias.copy_(torch.from_numpy(np.nanmean(values, axis=(0, 1))))
    validation = _Pieces(values, times, seed=seed + 1, n_batches=2)
    settings = training.Settings(
        steps=steps, optimizer="adam", learning_rate=0.01, weight_decay=0.0, seed=seed,
        max_gradient_norm=1.0, validate_every=max(1, steps // 5),
    )  # fmt: skip
    training.fit(
        model, (_Pieces(values, times, seed=seed, n_batches=steps), validation), _step, _look,
        settings=settings, progress=progress,
    )  # fmt: skip
    return model.eval()


class _Pieces:
    """Batches of random series and spans, some of whose days are hidden; the same each time."""

    def __init__(self, values: np.ndarray, times: Any, *, seed: int, n_batches: int):
        self.values, self.gaps = values, gaps_of(times)
        self.seed, self.n_batches = seed, n_batches

    def __len__(self) -> int:
        return self.n_batches

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        rng = np.random.default_rng(self.seed)
        n_series, n_days, _ = self.values.shape
        span = min(SERIES_DAYS, n_days)
        for _ in range(self.n_batches):
            rows = rng.integers(0, n_series, BATCH_SERIES)
            first = int(rng.integers(0, n_days - span + 1))
            days = slice(first, first + span)
            true = torch.as_tensor(self.values[rows, days], dtype=torch.float32)
            gaps = self.gaps[days].expand(BATCH_SERIES, -1)
            hidden = torch.as_tensor(rng.random((BATCH_SERIES, span)) < HIDDEN_SHARE)
            shown = torch.where(hidden[..., None], torch.nan, true)
            yield {"shown": shown, "gaps": gaps, "true": true, "hidden": hidden}


def _step(model, batch):
    shown, gaps = batch["shown"], batch["gaps"][0]
    unseen = batch["hidden"][..., None] & torch.isfinite(batch["true"])
    ways = map(model.decode, model.both(shown, gaps))
    errors = [_surprise(answer, batch["true"]) for answer in ways]
    return torch.stack([error[unseen].mean() for error in errors]).mean()


def _surprise(answer, true):
    mean, variance = answer
    error = mean - torch.nan_to_num(true)  # no NaN may enter a gradient, not even times 0
    return 0.5 * (error.square() / variance + torch.log(variance))


def _look(model, batch):
    mean, _ = model(batch["shown"], batch["gaps"][0])
    unseen = batch["hidden"][..., None] & torch.isfinite(batch["true"])
    return mean[unseen], batch["true"][unseen]


# What a filter is measured against: arrays (series, day), NaN where unknown.


def hold(values: np.ndarray) -> np.ndarray:
    """The latest known value; causal."""
    return pd.DataFrame(values.T).ffill().to_numpy().T


def linear(values: np.ndarray) -> np.ndarray:
    """A straight line between the known days around a gap; it looks ahead."""
    days = pd.DataFrame(values.T)
    return days.interpolate(limit_area="inside").ffill().bfill().to_numpy().T


def climatology(values: np.ndarray) -> np.ndarray:
    """Each series' mean."""
    means = np.nanmean(np.where(np.isfinite(values).any(1, keepdims=True), values, 0), axis=1)
    return np.repeat(means[:, None], values.shape[1], axis=1)


def kalman(values: np.ndarray, *, causal: bool = False) -> np.ndarray:
    """A filter or smoother of each series by itself: a first-order process and noise on it.

    x_t = a x_t-1 + w, y_t = x_t + v about the series' mean; memory and share of noise are those of
    a grid that make the series likeliest, its variance is the series' own [1]_.

    References
    ----------
    .. [1] Durbin and Koopman (2012), Time Series Analysis by State Space Methods, chapter 4
    """
    centre = climatology(values)
    variance = np.nan_to_num(np.nanvar(values - centre, axis=1), nan=1.0) + 1e-9
    best = np.full(len(values), -np.inf)
    answer = np.zeros_like(values)
    for a in np.exp(-1 / np.geomspace(1.0, 60.0, 6)):
        for noise in (0.02, 0.1, 0.3):
            smoothed = _smoothed((values - centre) / np.sqrt(variance)[:, None], a, noise=noise)
            better = smoothed[0] > best
            best = np.where(better, smoothed[0], best)
            answer[better] = smoothed[1 if causal else 2][better]
    return centre + answer * np.sqrt(variance)[:, None]


def _smoothed(values, a, *, noise):
    """Log-likelihood (series,), filtered and smoothed means (series, day) of standard series."""
    signal = 1 - noise
    mean, spread = np.zeros(len(values)), np.full(len(values), signal)
    likelihood, filtered = np.zeros(len(values)), np.empty((4, *values.T.shape))
    for k, seen in enumerate(values.T):
        known, total = np.isfinite(seen), spread + noise
        off = np.where(known, seen - mean, 0)
        likelihood -= np.where(known, 0.5 * (off**2 / total + np.log(total)), 0)
        gain = np.where(known, spread / total, 0)
        after = mean + gain * off, (1 - gain) * spread
        filtered[:, k] = *after, mean, spread
        mean, spread = a * after[0], a**2 * after[1] + (1 - a**2) * signal
    smooth = filtered[0].copy()
    for k in range(len(smooth) - 2, -1, -1):
        back = a * filtered[1, k] / filtered[3, k + 1]
        smooth[k] += back * (smooth[k + 1] - filtered[2, k + 1])
    return likelihood, filtered[0].T, smooth.T


RIVALS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "the latest value": hold, "climatology": climatology, "line, looks ahead": linear,
    "Kalman smoother, looks ahead": kalman,
}  # fmt: skip
