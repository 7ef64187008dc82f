"""ConvLSTM layers with channel attention, and the loss that draws on two teachers."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from soilkit.errors import ContractError, UnknownNameError

# "paper": ten layers, 1,389,367 parameters with 7 channels; "small" is for a laptop.
PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"filters": (16, 16, 32, 32, 32, 48, 48, 64, 64, 64), "attention": (2, 5),
              "dropout": 0.2, "momentum": 0.01},
    "small": {"filters": (16, 16, 16), "attention": (2,), "dropout": 0.0, "momentum": 0.1},
}  # fmt: skip
ACTIVATIONS = {"tanh": torch.tanh, "sigmoid": torch.sigmoid}
REDUCTION = 8  # of channels inside an attention block
KERNEL_PX = 3
TILED_FROM_PX = 32  # sides of images whose products are made by tiles
BATCH_NORM_EPSILON = 1e-3  # Keras's, as the momenta above are


# Products of 3 x 3 by tiles: 4 x 4 answers of 6 x 6 pixels take 36 multiplications, not 144: Lavin
# and Gray (2016), arXiv:1509.09308. Points between 0 and 2 round less than whole ones: Barabasz et
# al. (2020), doi:10.1145/3412380.
TILE_PX, SPAN_PX = 4, 6
POINTS = np.array([0, 0.75, -0.75, 1.5, -1.5])  # and infinity


def _matrices() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What acts on a tile's pixels (36, 36), on weights (36, 9) and on products (16, 36)."""
    others = [np.delete(POINTS, k) for k in range(len(POINTS))]
    apart = np.array([np.prod(a - b) for a, b in zip(POINTS, others, strict=True)])
    weights = np.vander(POINTS, KERNEL_PX, increasing=True) / apart[:, None]
    pixels = [[*np.poly(roots)[::-1], 0] for roots in others] + [np.poly(POINTS)[::-1]]
    answers = np.vander(POINTS, TILE_PX, increasing=True).T
    one_way = (
        np.array(pixels), np.vstack([weights, np.eye(KERNEL_PX)[-1]]),
        np.hstack([answers, np.eye(TILE_PX)[:, -1:]]),
    )  # fmt: skip
    of_pixels, of_weights, of_answers = (torch.from_numpy(np.kron(m, m)) for m in one_way)
    return of_pixels, of_weights, of_answers


OF_PIXELS, OF_WEIGHTS, OF_ANSWERS = _matrices()  # float64


def _weights_of_tiles(weight: torch.Tensor) -> torch.Tensor:
    """Weights (filters, channels, 3, 3) for the products of a tile, (36, channels, filters)."""
    filters, channels = weight.shape[:2]
    flat = OF_WEIGHTS @ weight.double().reshape(-1, KERNEL_PX**2).T
    parts = flat.reshape(SPAN_PX**2, filters, channels).transpose(1, 2)
    return parts.to(weight.dtype).contiguous()


def _framed(images: torch.Tensor, frame: int) -> torch.Tensor:
    """Images (N, channels, row, col) as (N, row, col, channels) in a frame, of whole tiles."""
    spare = [-side % TILE_PX for side in images.shape[2:]]
    around = (0, 0, frame, frame + spare[1], frame, frame + spare[0])
    return nn.functional.pad(images.permute(0, 2, 3, 1), around)


def _pixels_of_tiles(images: torch.Tensor) -> torch.Tensor:
    """What the products of tiles of images (N, channels, row, col) take, (36, tile, channels)."""
    tiles = _framed(images, 1).unfold(1, SPAN_PX, TILE_PX).unfold(2, SPAN_PX, TILE_PX)
    pixels = tiles.permute(4, 5, 0, 1, 2, 3).reshape(SPAN_PX**2, -1)  # (36, tile * channels)
    spectra = OF_PIXELS.to(images.dtype) @ pixels
    return spectra.view(SPAN_PX**2, -1, images.shape[1])


def _by_tiles(images: torch.Tensor) -> torch.Tensor:
    """Images (N, channels, row, col) in the order of products, (16, channels, tile, 1)."""
    framed = _framed(images, 0)
    n, down, across, channels = framed.shape
    tiles = framed.view(n, down // TILE_PX, TILE_PX, across // TILE_PX, TILE_PX, channels)
    laid = tiles.permute(2, 4, 0, 1, 3, 5).reshape(TILE_PX**2, -1, channels)
    return laid.transpose(1, 2)[..., None]


def _of_tiles(tiles: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """The images (N, channels, row, col) whose tiles these are; N, row and col are of ``shape``."""
    n, _, *sides = shape
    down, across = (-(-side // TILE_PX) for side in sides)
    laid = tiles[..., 0].transpose(1, 2).view(TILE_PX, TILE_PX, n, down, across, -1)
    image = laid.permute(2, 3, 0, 4, 1, 5).reshape(n, down * TILE_PX, across * TILE_PX, -1)
    return image[:, : sides[0], : sides[1]].permute(0, 3, 1, 2)


class Memory(NamedTuple):
    """What a layer hands to the next day: hidden state and cell state, (B, filters, row, col)."""

    hidden: torch.Tensor
    cell: torch.Tensor


@dataclass(frozen=True)
class ConvLSTMConfig:
    """What a model eats and how: channels, preset, and what the paper leaves open.

    ``activation`` of candidate and output is "tanh" or "sigmoid"; ``peepholes`` lets the gates see
    the cell state, by one weight a filter. ``lookback_days`` are the days that an answer knows, 0
    for all before it; ``causal`` tells whether gaps of its inputs were filled from the past alone,
    ``target`` which teacher told the level.
    """

    channels: int = 7
    preset: str = "paper"
    activation: str = "tanh"
    peepholes: bool = False
    lookback_days: int = 3
    causal: bool = True
    target: str = ""

    def check(self) -> None:
        """Refuse what no model can be built of."""
        for option, known in (("preset", PRESETS), ("activation", ACTIVATIONS)):
            if getattr(self, option) not in known:
                raise UnknownNameError(
                    f"No {option} {getattr(self, option)!r}; there are {', '.join(known)}. Name "
                    "one."
                )
        if self.channels < 1 or self.lookback_days < 0:
            raise ContractError(
                "The model wants at least 1 channel and 0 or more days to look back, found "
                f"{self.channels} and {self.lookback_days}."
            )


class ConvLSTMLayer(nn.Module):
    """Gates whose products are convolutions: one day's image at a time, a memory between days.

    i, f, o = sigmoid(W_x * x_t + W_h * h_t-1 + w_c C + b), g = tanh(W_x * x_t + W_h * h_t-1 + b),
    C_t = f C_t-1 + i g, h_t = o tanh(C_t) [1]_. The peepholes w_c, where there are any, see C_t-1
    for i and f and C_t for o. All four gates are the channels of one convolution; that of the
    inputs is made for all days at once. Where no gradient is wanted, images of 32 pixels a side and
    more are convolved by tiles on a CPU, both convolutions in one; answers differ by rounding.

    References
    ----------
    .. [1] Rabiei et al. (2024), doi:10.20944/preprints202412.1356.v1, eq. 1-6; Shi et al. (2015),
       arXiv:1506.04214
    """

    def __init__(self, channels: int, filters: int, *, activation: str, peepholes: bool):
        super().__init__()
        size, same = KERNEL_PX, KERNEL_PX // 2
        self.filters, self.activation = filters, ACTIVATIONS[activation]
        self.inputs = nn.Conv2d(channels, 4 * filters, size, padding=same)
        self.hidden = nn.Conv2d(filters, 4 * filters, size, padding=same, bias=False)
        shape = (3, filters, 1, 1)  # of i, f and o
        self.peepholes = nn.Parameter(torch.zeros(shape)) if peepholes else None
        nn.init.xavier_uniform_(self.inputs.weight)
        nn.init.orthogonal_(self.hidden.weight)
        bias = torch.zeros(4 * filters)
        bias[filters : 2 * filters] = 1  # remember at first
        self.inputs.bias = nn.Parameter(bias)
        self.of_tiles: tuple[tuple, list[torch.Tensor]] | None = None  # of these weights

    def forward(
        self, days: torch.Tensor, memory: Memory | None, *, n_days: int
    ) -> tuple[torch.Tensor, Memory]:
        """Hidden states of all days, (day * B, filters, row, col), and the memory after the last.

        ``days`` is (day * B, channels, row, col), day by day.
        """
        is_large = days.device.type == "cpu" and min(days.shape[2:]) >= TILED_FROM_PX
        if is_large and not torch.is_grad_enabled():
            return self._forward_by_tiles(days.chunk(n_days), memory)
        given = self.inputs(days).chunk(n_days)
        states = []
        for gates in given:
            if memory is not None:
                gates = self.hidden(memory.hidden).add_(gates)
            memory = self._step(gates, None if memory is None else memory.cell)
            states.append(memory.hidden)
        assert memory is not None
        return torch.cat(states), memory

    def _forward_by_tiles(
        self, days: tuple[torch.Tensor, ...], memory: Memory | None
    ) -> tuple[torch.Tensor, Memory]:
        weights = self.inputs.weight, self.hidden.weight
        stamp = tuple((w.data_ptr(), w._version) for w in weights)
        if self.of_tiles is None or self.of_tiles[0] != stamp:
            self.of_tiles = stamp, [_weights_of_tiles(w.detach()) for w in weights]
        of_inputs, of_hidden = self.of_tiles[1]
        states, shape, own_bias = [], days[0].shape, self.inputs.bias
        assert own_bias is not None
        hidden = None if memory is None else memory.hidden
        cell = None if memory is None else _by_tiles(memory.cell)
        for day in days:
            products = torch.bmm(_pixels_of_tiles(day), of_inputs)  # (36, tile, 4 * filters)
            if hidden is not None:
                products.baddbmm_(_pixels_of_tiles(hidden), of_hidden)
            bias = own_bias.repeat(products.shape[1])  # (tile * 4 * filters,)
            answers = torch.addmm(bias, OF_ANSWERS.to(bias.dtype), products.flatten(1))
            gates = answers.view(TILE_PX**2, *products.shape[1:]).transpose(1, 2)[..., None]
            tiled_hidden, cell = self._step(gates, cell)
            hidden = _of_tiles(tiled_hidden, shape)
            states.append(hidden)
        assert hidden is not None and cell is not None
        return torch.cat(states), Memory(hidden, _of_tiles(cell, shape))

    def _step(self, gates: torch.Tensor, cell: torch.Tensor | None) -> Memory:
        n = self.filters
        before, output, candidate = gates.split((2 * n, n, n), dim=1)
        if self.peepholes is not None and cell is not None:
            before = before + (self.peepholes[:2] * cell[:, None]).flatten(1, 2)
        if self.peepholes is None and not torch.is_grad_enabled():
            return self._step_in_place(before, output, candidate=candidate, cell=cell)
        enters, keeps = torch.sigmoid(before).chunk(2, dim=1)
        new = enters * self.activation(candidate)
        if cell is not None:
            new = torch.addcmul(new, keeps, cell)
        if self.peepholes is not None:
            output = output + self.peepholes[2] * new
        return Memory(torch.sigmoid(output) * self.activation(new), new)

    def _step_in_place(self, before, output, *, candidate, cell) -> Memory:
        """The same where no gradient is wanted: gates and cell state are overwritten."""
        enters, keeps = before.sigmoid_().chunk(2, dim=1)
        enters = enters.mul_(self.activation(candidate))
        new = enters.contiguous() if cell is None else cell.mul_(keeps).add_(enters)
        return Memory(self.activation(new).mul_(output.sigmoid_()), new)


class ChannelAttention(nn.Module):
    """A weight between 0 and 1 for every channel of every image, from its means over space [1]_.

    References
    ----------
    .. [1] Rabiei et al. (2024), section 2.4; Hu et al. (2018), arXiv:1709.01507
    """

    def __init__(self, channels: int):
        super().__init__()
        inner = max(1, channels // REDUCTION)
        self.squeeze, self.restore = nn.Linear(channels, inner), nn.Linear(inner, channels)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images (N, channels, row, col), weighted."""
        means = images.mean(dim=(2, 3))
        weights = torch.sigmoid(self.restore(torch.relu(self.squeeze(means))))
        return images * weights[:, :, None, None]


class ConvLSTM(nn.Module):
    """Soil moisture of every cell and day from sequences of images [1]_.

    Layers of 3 x 3 convolutional gates, each followed by a batch norm and a dropout, two of them by
    channel attention; one weight a filter makes the last hidden state a moisture. A day's answer
    depends on that day and on days before it, never on a later one. The text names ten layers of
    16, 32, 48 and 64 filters, not which has how many.

    Attention weighs by means over the whole image: a map larger than the patches of training is
    weighed by the means of the map.

    Parameters
    ----------
    config : ConvLSTMConfig
    mean_label_m3_m3 : float, m3 m-3, the output before any training

    References
    ----------
    .. [1] Rabiei et al. (2024), doi:10.20944/preprints202412.1356.v1, section 2.4, Fig. 1

    Examples
    --------
    >>> model = ConvLSTM.preset("small", channels=7).eval()
    >>> model(torch.zeros(2, 3, 7, 16, 16)).shape  # patches of three days
    torch.Size([2, 3, 16, 16])
    """

    def __init__(self, config: ConvLSTMConfig, *, mean_label_m3_m3: float = 0.2):
        super().__init__()
        config.check()
        preset = PRESETS[config.preset]
        self.config = config
        self.layers, self.norms = nn.ModuleList(), nn.ModuleList()
        self.attention = nn.ModuleDict()
        self.dropout = nn.Dropout(preset["dropout"])
        channels = config.channels
        for number, filters in enumerate(preset["filters"], start=1):
            cell: dict[str, Any] = {"activation": config.activation, "peepholes": config.peepholes}
            self.layers.append(ConvLSTMLayer(channels, filters, **cell))
            norm = nn.BatchNorm2d(filters, eps=BATCH_NORM_EPSILON, momentum=preset["momentum"])
            self.norms.append(norm)
            if number in preset["attention"]:
                self.attention[str(number)] = ChannelAttention(filters)
            channels = filters
        self.output = nn.Conv2d(channels, 1, 1)
        nn.init.normal_(self.output.weight, std=0.1 / channels**0.5)
        self.output.bias = nn.Parameter(torch.tensor([mean_label_m3_m3]))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @classmethod
    def preset(cls, name: str, *, mean_label_m3_m3: float = 0.2, **options: Any) -> ConvLSTM:
        """A model of the size ``name``; ``options`` as in ``ConvLSTMConfig``."""
        return cls(ConvLSTMConfig(preset=name, **options), mean_label_m3_m3=mean_label_m3_m3)

    @classmethod
    def from_checkpoint(cls, checkpoint: Any) -> ConvLSTM:
        """The model that ``training.load_checkpoint`` read, in evaluation mode.

        Raises
        ------
        CheckpointError
            When the checkpoint holds another system's configuration or weights.
        """
        return checkpoint.rebuild(
            lambda values: cls(replace(ConvLSTMConfig(), **values)), system="ConvLSTM"
        )

    @property
    def configuration(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return asdict(self.config)

    def forward(self, days: torch.Tensor) -> torch.Tensor:
        """Moisture of each day, (B, day, row, col) m3 m-3, of normalised images without a past.

        Parameters
        ----------
        days : tensor (B, day, channels, row, col), without NaN

        Raises
        ------
        ContractError
            For other channels or dimensions.
        """
        return self.advance(days, None)[0]

    def advance(
        self, days: torch.Tensor, memory: tuple[Memory, ...] | None
    ) -> tuple[torch.Tensor, tuple[Memory, ...]]:
        """Moisture as of ``forward``, and the memory that the following days go on from.

        In evaluation mode days that are handed over one by one, each with the memory that the one
        before it left, are answered as all of them at once. Without gradients ``memory`` is used
        up: its cell states are overwritten.
        """
        if days.ndim != 5 or days.shape[2] != self.config.channels:
            raise ContractError(
                f"The model was built for (batch, day, {self.config.channels} channels, row, col) "
                f"and was handed {tuple(days.shape)}. Stack the layers it was trained on."
            )
        n_samples, n_days = days.shape[:2]
        images = days.transpose(0, 1).flatten(0, 1)  # (day * batch, channels, row, col)
        images = images.contiguous(memory_format=torch.channels_last)
        left: list[Memory] = []
        for k, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            before = None if memory is None else memory[k]
            images, after = layer(images, before, n_days=n_days)
            left.append(after)
            images = self.dropout(norm(images))
            if str(k + 1) in self.attention:
                images = self.attention[str(k + 1)](images)
        moisture = self.output(images)[:, 0]  # (day * batch, row, col)
        return moisture.unflatten(0, (n_days, n_samples)).transpose(0, 1), tuple(left)


# The loss: how far from one teacher, how unlike the other.

VARIANCE_FLOOR = 1e-6  # (m3 m-3)2: series that vary by less than 0.001 tell nothing
FORMS = ("sound", "printed")


@dataclass(frozen=True)
class TeacherLoss:
    """alpha RMSE(level) + beta (1 - likeness to timing) [1]_.

    *Printed*: the likeness is R2, the squared correlation. It cannot tell a teacher's series from
    its mirror image, and is NaN where either is constant. *Sound*: the likeness is r, negative for
    a mirror image, with a floor under both variances, and the root has a floor too.

    Either is taken over known cells (a teacher's NaN is unknown), in float32; a teacher that knows
    no cell of a batch adds nothing. ``pooled`` correlates over all cells and days of a batch;
    otherwise r is a cell's own over the days of its sequence, and its mean over cells counts.

    References
    ----------
    .. [1] Rabiei et al. (2024), doi:10.20944/preprints202412.1356.v1, eq. 8

    Examples
    --------
    >>> dca = torch.tensor([0.1, 0.2, 0.3]).reshape(1, 1, 1, 3)
    >>> mirrored = 0.4 - dca
    >>> [float(TeacherLoss(0, 1, form)(mirrored, dca, timing=dca).round(decimals=3))
    ...  for form in FORMS]
    [2.0, 0.0]
    """

    alpha: float = 1.0
    beta: float = 1.0
    form: str = "sound"
    pooled: bool = True

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise UnknownNameError(f"A loss is of the form {' or '.join(FORMS)}, not {self.form}.")

    def __call__(
        self, predicted: torch.Tensor, level: torch.Tensor, *, timing: torch.Tensor
    ) -> torch.Tensor:
        """The loss of moisture (B, day, row, col), m3 m-3, against its two teachers."""
        with torch.autocast(predicted.device.type, enabled=False):
            predicted = predicted.float()
            error = self.alpha * self._rmse(predicted, level.float())
            if self.beta:
                error = error + self.beta * self._unlikeness(predicted, timing.float())
        return error

    def _rmse(self, predicted: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        known = torch.isfinite(level)
        if not known.any():
            return predicted.sum() * 0
        square = (predicted - level)[known].square().mean()
        return torch.sqrt(square if self.form == "printed" else square + VARIANCE_FLOOR)

    def _unlikeness(self, predicted: torch.Tensor, timing: torch.Tensor) -> torch.Tensor:
        known = torch.isfinite(timing)
        if not known.any():
            return predicted.sum() * 0
        over = (0, 1, 2, 3) if self.pooled else (1,)
        n = known.sum(over, keepdim=True)
        floor = 0.0 if self.form == "printed" else VARIANCE_FLOOR

        def centred(values: torch.Tensor) -> torch.Tensor:
            held = torch.where(known, values, 0)
            return torch.where(known, held - held.sum(over, keepdim=True) / n.clamp(min=1), 0)

        x, y = centred(predicted), centred(timing)
        covariance = (x * y).sum(over) / n.clamp(min=1).sum(over)
        variances = [v.square().sum(over) / n.clamp(min=1).sum(over) + floor for v in (x, y)]
        r = covariance / torch.sqrt(variances[0] * variances[1])
        likeness = r.square() if self.form == "printed" else r
        enough = n.sum(over) > 2  # days of a cell
        return 1 - likeness[enough].mean() if enough.any() else predicted.sum() * 0
