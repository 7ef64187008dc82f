"""Dense, Prob and Wide & Deep: ensembles of small networks, each balancing one characteristic."""

import contextlib
import itertools
import logging
import warnings
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from sklearn.utils.class_weight import compute_sample_weight
from torch import nn

from soilkit.errors import ContractError, DivergedError
from soilkit.models.tabular.estimators import (
    UNKNOWN,
    NanTolerant,
    Scaling,
    as_classes,
    learn_bins,
    matching_strata,
)
from soilkit.units import MAX_SOIL_MOISTURE_M3_M3

Member = dict[str, torch.Tensor]


class Rows(NamedTuple):
    """Training rows: inputs (row, in), target (row,), weights (member, row), crosses (row, cross).

    ``crosses`` numbers each row's class of every crossing, 0 for none; ``n_crossed`` counts them.
    """

    inputs: torch.Tensor
    target: torch.Tensor
    weights: torch.Tensor
    crosses: torch.Tensor | None = None
    n_crossed: int = 0


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let torch work on one thread: its threads wait for each other longer than such layers take.

    On a busy machine that costs minutes; and rounding no longer depends on the number of cores.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def first_member(shape: tuple[int, ...], seed: int) -> tuple[Member, torch.Generator]:
    """Initial weights of layers ``shape`` (in, hidden..., out), and the stream they came from."""
    with torch.random.fork_rng(devices=[]):  # torch draws a layer's weights from the global stream
        torch.manual_seed(seed)
        layers = [nn.Linear(a, b) for a, b in zip(shape, shape[1:], strict=False)]
        stream = torch.Generator()
        stream.set_state(torch.random.get_rng_state())
    member: Member = {}
    for number, layer in enumerate(layers):
        member[f"weight{number}"] = layer.weight.detach().T.contiguous()  # (in, out)
        member[f"bias{number}"] = layer.bias.detach()[None]  # (1, out)
    return member, stream


def stacked(members: list[Member]) -> Member:
    """One set of tensors (member, ...) of many."""
    return {name: torch.stack([member[name] for member in members]) for name in members[0]}


def forward(
    stack: Member, x: torch.Tensor, crosses: torch.Tensor | None = None, masks: tuple = ()
) -> torch.Tensor:
    """Outputs (member, row, output) of inputs x (member, row, in).

    Parameters
    ----------
    crosses : int tensor (member, row, cross) or None; the wide part adds the weights of each row's
        classes. Class 0, a combination that training never held, stays at the zero it began with
    masks : one tensor (member, row, unit) for each hidden layer, what dropout leaves; () for none
    """
    n_layers = sum(name.startswith("weight") for name in stack)
    for number in range(n_layers):
        x = torch.baddbmm(stack[f"bias{number}"], x, stack[f"weight{number}"])
        if number < n_layers - 1:
            x = nn.functional.silu(x)
            x = x * masks[number] if masks else x
    if crosses is not None:
        n_members, n_classes = stack["wide"].shape
        first = torch.arange(n_members)[:, None, None] * n_classes
        weights = nn.functional.embedding(crosses + first, stack["wide"].reshape(-1, 1))
        x = x + weights.sum(dim=2)  # (member, row, 1)
    return x


@one_thread()
def train(rows: Rows, model: "NetworkEnsemble", *, shape: tuple[int, ...], seeds) -> list[Member]:
    """Train one member a seed by AdamW; the rate falls to zero along a half cosine over the epochs.

    ``model`` tells the loss and the numbers, its ``epochs_`` and ``batch_size_`` those of training.
    Raises ``DivergedError`` if a member's loss is no finite number.
    """
    starts = [first_member(shape, int(seed)) for seed in seeds]
    orders = [torch.Generator().manual_seed(int(seed)) for seed in seeds]
    streams = [stream for _, stream in starts]
    stack = stacked([member for member, _ in starts])
    if rows.crosses is not None:
        stack["wide"] = torch.zeros(len(starts), rows.n_crossed + 1)
    parameters = [tensor.requires_grad_() for tensor in stack.values()]
    optimizer = torch.optim.AdamW(
        parameters, lr=model.learning_rate, weight_decay=WEIGHT_DECAY, fused=True
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(model.epochs_, 1))
    for epoch in range(model.epochs_):
        order = torch.stack([torch.randperm(len(rows.target), generator=g) for g in orders])
        for chosen in order.split(model.batch_size_, dim=1):  # (member, row)
            masks = _masks(streams, chosen.shape[1], units=shape[1:-1], dropout=model.dropout)
            crosses = None if rows.crosses is None else rows.crosses[chosen]
            outputs = forward(stack, rows.inputs[chosen], crosses, masks)
            errors = model._row_loss(outputs, rows.target[chosen]) * rows.weights.gather(1, chosen)
            error = errors.mean(dim=1).sum()  # no member's gradient touches another's
            optimizer.zero_grad()
            error.backward()
            optimizer.step()
        if not torch.isfinite(error):
            raise DivergedError(
                f"The loss became {error.item()} in epoch {epoch + 1} of {model.epochs_}. "
                f"Lower the learning rate of {model.learning_rate:g}."
            )
        schedule.step()
    final = {name: tensor.detach() for name, tensor in stack.items()}
    return [{name: t[k].clone() for name, t in final.items()} for k in range(len(starts))]


def _masks(
    streams: list[torch.Generator], n_rows: int, *, units: tuple[int, ...], dropout: float
) -> tuple:
    """What dropout leaves of each hidden layer, each member's from its own stream.

    A random byte decides on a unit, so that a share is kept in 256ths.
    """
    dropped = round(256 * dropout)
    if not dropped:
        return ()
    sizes = [n_rows * n for n in units]
    words = torch.empty(len(streams), -(-sum(sizes) // 8), dtype=torch.int64)
    for number, stream in enumerate(streams):
        words[number].random_(-(2**63), None, generator=stream)
    chances = words.view(torch.uint8)[:, : sum(sizes)].split(sizes, dim=1)
    kept = [(one >= dropped).view(-1, n_rows, n) for one, n in zip(chances, units, strict=True)]
    return tuple(mask * (256 / (256 - dropped)) for mask in kept)


# Dense and Prob: ensembles of small networks, each member balancing one characteristic.

UNWEIGHTED = "unweighted"
PREDICT_ROWS = 2048  # rows at a time: their activations stay in the processor's cache
WEIGHT_DECAY = 1e-2  # decoupled (AdamW)
MIN_STD = 1e-3  # of the standardised target, so that no likelihood grows without bound
log = logging.getLogger(__name__)


class NetworkEnsemble(NanTolerant):
    """What the ensembles of networks share; use DenseEnsemble, ProbEnsemble, WideDeepEnsemble."""

    _n_outputs = 1

    def __init__(
        self,
        n_members: int = 3,
        widths: tuple[int, ...] = (64, 32),
        epochs: int = 60,
        batch_size: int = 256,
        learning_rate: float = 3e-3,
        dropout: float = 0.1,
        seed: int = 0,
        max_rows_seen: int = 6_000_000,
        target_max: float | None = MAX_SOIL_MOISTURE_M3_M3,
    ) -> None:
        self.n_members = n_members
        self.widths = widths
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.dropout = dropout
        self.seed = seed
        self.max_rows_seen = max_rows_seen
        self.target_max = target_max

    def fit(self, X, y, strata=None):
        """Train the members on X (row, predictor), NaN where missing, and y (row,), m3 m-3.

        Of ``strata`` (row, characteristic) one member for each column balances its classes, and one
        more is unweighted. Amounts (clay, sand, pH) fall into five classes of equal width. None
        trains ``n_members`` unweighted members. Raises ``ContractError`` if a value is infinite, or
        the rows of strata are not those of X, and ``UnitError`` if the target exceeds
        ``target_max``, as moisture in percent does.
        """
        values, y = self._training_rows(X, y)
        if strata is not None:
            strata = matching_strata(strata, X)
        self.scaling_ = Scaling.of(values)
        self.scaling_.warn_of_constants(self)
        self.y_mean_, self.y_std_ = float(np.mean(y)), float(np.std(y)) or 1.0
        self._set_passes(len(y))
        weights = self._weights(strata, len(y))
        inputs = torch.from_numpy(self.scaling_.inputs(values))  # (row, predictor + flag)
        target = torch.as_tensor((y - self.y_mean_) / self.y_std_, dtype=torch.float32)
        rows = self._with_crosses(Rows(inputs, target, weights), strata)
        seeds = np.random.SeedSequence(self.seed).generate_state(len(self.member_names_))
        shape = (inputs.shape[1], *self.widths, self._n_outputs)
        self.members_ = train(rows, self, shape=shape, seeds=seeds)
        return self

    def predict(self, X, return_std: bool = False, *, strata=None):
        """Mean of the members (row,), m3 m-3; with ``return_std`` its uncertainty beside it.

        A mean lies between 0 and ``target_max``, where there is one; members are left as they are.
        ``strata`` are those of ``fit``; only Wide & Deep looks at them.
        """
        moisture, variance = self._outputs(X, strata)
        mean = moisture.mean(axis=0)
        if self.target_max is not None:  # moisture: a network knows no bounds
            mean = np.clip(mean, 0.0, self.target_max)
        if not return_std:
            return mean
        return mean, np.sqrt(moisture.var(axis=0) + variance.mean(axis=0))

    def predict_members(self, X, *, strata=None) -> pd.DataFrame:
        """Moisture (row, member), m3 m-3, a column for each of ``member_names_``."""
        moisture, _ = self._outputs(X, strata)
        index = X.index if isinstance(X, pd.DataFrame) else None
        return pd.DataFrame(moisture.T, columns=self.member_names_, index=index)

    def _outputs(self, X, strata) -> tuple[np.ndarray, np.ndarray]:
        """Each member's moisture (member, row) and the variance that it states."""
        values = self._new_rows(X)
        crosses = self._crosses_of(strata, X)
        stack, parts, n_members = stacked(self.members_), [], len(self.members_)
        with torch.inference_mode(), one_thread():
            for first in range(0, len(values), PREDICT_ROWS):
                part = slice(first, first + PREDICT_ROWS)
                inputs = torch.from_numpy(self.scaling_.inputs(values[part]))
                chosen = None if crosses is None else crosses[part].expand(n_members, -1, -1)
                parts.append(forward(stack, inputs.expand(n_members, -1, -1), chosen))
        outputs = torch.cat(parts, dim=1).double()  # (member, row, output)
        moisture = outputs[..., 0].numpy() * self.y_std_ + self.y_mean_
        return moisture, self._variance(outputs).numpy() * self.y_std_**2

    def _weights(self, strata: pd.DataFrame | None, n_rows: int) -> torch.Tensor:
        """Sample weights (member, row), and the members' names."""
        if strata is None:
            self.bins_, self.member_names_ = {}, [f"member {k}" for k in range(self.n_members)]
            return torch.ones(self.n_members, n_rows)
        self.bins_ = learn_bins(strata)
        classes = as_classes(strata, self.bins_)
        self.member_names_ = [*self.bins_, UNWEIGHTED]
        codes = [pd.factorize(classes[name])[0] for name in self.bins_]
        balanced = [compute_sample_weight("balanced", code) for code in codes]
        return torch.as_tensor(np.stack([*balanced, np.ones(n_rows)]), dtype=torch.float32)

    def _set_passes(self, n_rows: int) -> None:
        """Epochs and batch for a table of n_rows: large ones are passed fewer times."""
        self.epochs_, self.batch_size_ = self.epochs, self.batch_size
        if n_rows * self.epochs > self.max_rows_seen:
            self.epochs_ = max(1, round(self.max_rows_seen / n_rows))
            self.batch_size_ = max(self.batch_size, min(2048, n_rows // 200))
            log.info("%d rows: %d epochs of batches of %d", n_rows, self.epochs_, self.batch_size_)

    def _with_crosses(self, rows: Rows, strata: pd.DataFrame | None) -> Rows:
        """The rows with what a wide part wants; here there is none."""
        return rows

    def _crosses_of(self, strata, X) -> torch.Tensor | None:
        """Numbers (row, cross) of new rows' crossed classes; here there are none."""
        return None

    @staticmethod
    def _row_loss(outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Squared error of outputs (member, row, 1)."""
        return (outputs[..., 0] - target) ** 2

    @staticmethod
    def _variance(outputs: torch.Tensor) -> torch.Tensor:
        """Variance (member, row) that members state, of the standardised target; none here."""
        return torch.zeros_like(outputs[..., 0])


class DenseEnsemble(NetworkEnsemble):
    """Small dense networks whose mean is the prediction: the Dense ensemble of Poehls et al. [1]_.

    With ``strata``, one member for each characteristic is trained with weights that balance its
    classes, and one without weights. Else members differ in their initial weights, dropout and
    order of rows alone. Predictors and moisture are standardised with training statistics. A
    missing predictor counts as the training mean and raises a flag of its own, one more input for
    each predictor that was missing in some training rows. The layer widths stand in a supplement
    that was not at hand: these are ours, chosen before any score.

    Parameters
    ----------
    n_members : int, used where no strata are given
    widths : tuple of int, units of the hidden layers
    epochs : int, passes over the training rows; fixed, there is no early stopping
    batch_size : int, rows
    learning_rate : float, at the start; it falls to zero along a half cosine
    dropout : float, probability in training
    max_rows_seen : int; a table of so many rows that all epochs would show a member more
        than this is passed fewer times, in larger batches; ``epochs_`` and ``batch_size_`` tell
    target_max : float or None, m3 m-3; a larger target is refused, None takes any

    Attributes
    ----------
    member_names_ : list of str, the characteristic that each member balances
    bins_ : dict of characteristic to inner edges of its classes, None for named classes

    References
    ----------
    .. [1] Poehls et al. (2024), Downscaling Soil Moisture to Sub-km Resolutions with Simple Machine
       Learning Ensembles, section 3
    """


class ProbEnsemble(NetworkEnsemble):
    """The Prob ensemble of Poehls et al. [1]_: each member predicts a normal distribution.

    As DenseEnsemble, with the same hidden layers, but for two outputs: the mean and, by softplus,
    the standard deviation, trained by the negative log likelihood of the normal distribution. The
    uncertainty of a prediction is the square root of the members' mean variance plus the variance
    of their means [2]_.

    References
    ----------
    .. [1] Poehls et al. (2024), Downscaling Soil Moisture to Sub-km Resolutions with Simple Machine
       Learning Ensembles, section 3
    .. [2] Lakshminarayanan et al. (2017), arXiv:1612.01474, section 2.4
    """

    _n_outputs = 2

    @staticmethod
    def _row_loss(outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Negative log likelihood of a normal distribution, without its constant."""
        std = _std(outputs)
        return torch.log(std) + 0.5 * ((outputs[..., 0] - target) / std) ** 2

    @staticmethod
    def _variance(outputs: torch.Tensor) -> torch.Tensor:
        return _std(outputs) ** 2


def _std(outputs: torch.Tensor) -> torch.Tensor:
    """Standard deviation (member, row) that the second output tells."""
    return nn.functional.softplus(outputs[..., 1]) + MIN_STD


# Wide & Deep: a linear model on crossed classes beside a dense network.

BETWEEN = " x "


class WideDeepEnsemble(NetworkEnsemble):
    """The Wide & Deep ensemble of Poehls et al., cited in DenseEnsemble, after Cheng et al. [1]_.

    The deep part is a member of DenseEnsemble; the wide part adds one weight for each class of each
    characteristic and for each pair of classes of two characteristics that training rows held. Both
    are trained together. A class or pair that training never held adds nothing; unknown classes are
    counted in a warning. Which characteristics were crossed stands in a supplement that was not at
    hand: all pairs is our choice.

    ``strata`` is needed in ``fit`` and in ``predict``. Parameters are those of DenseEnsemble.

    Attributes
    ----------
    classes_ : dict of characteristic to the classes that training rows held
    crosses_ : dict of crossing, such as "texture x koeppen", to the number of each combination of
        classes, 0 where training rows held none; the last place of each axis is an unknown class

    References
    ----------
    .. [1] Cheng et al. (2016), doi:10.1145/2988450.2988454
    """

    def _with_crosses(self, rows: Rows, strata: pd.DataFrame | None) -> Rows:
        classes = as_classes(_needed(strata), self.bins_)
        self.classes_ = {str(name): sorted(set(column)) for name, column in classes.items()}
        codes = self._codes(classes)
        self.crosses_, n_crossed = {}, 0
        for crossing in [*((name,) for name in codes), *itertools.combinations(codes, 2)]:
            numbers = np.zeros([len(self.classes_[name]) + 1 for name in crossing], dtype=np.int64)
            numbers[tuple(codes[name] for name in crossing)] = 1  # what training rows hold
            held = numbers.astype(bool)
            numbers[held] = np.arange(n_crossed + 1, n_crossed + held.sum() + 1)
            self.crosses_[BETWEEN.join(crossing)] = numbers
            n_crossed += int(held.sum())
        return rows._replace(crosses=self._numbers(codes), n_crossed=n_crossed)

    def _crosses_of(self, strata, X) -> torch.Tensor:
        strata = matching_strata(_needed(strata), X, columns=list(self.bins_))
        classes = as_classes(strata, self.bins_)
        codes = self._codes(classes)
        for name, column in codes.items():
            strange = classes[name][column < 0].replace(UNKNOWN, "unknown").value_counts()
            if len(strange):
                words = ", ".join(f"{value} ({n} rows)" for value, n in strange.items())
                warnings.warn(
                    f"{strange.sum()} of {len(classes)} rows have a {name} that training never "
                    f"held, which adds nothing to the wide part: {words}",
                    stacklevel=4,
                )
        return self._numbers(codes)

    def _codes(self, classes: pd.DataFrame) -> dict[str, np.ndarray]:
        """Number (row,) of each row's class among those of training, -1 for another class."""
        return {
            name: pd.Index(known, dtype=object).get_indexer(classes[name])
            for name, known in self.classes_.items()
        }

    def _numbers(self, codes: dict[str, np.ndarray]) -> torch.Tensor:
        """Number (row, cross) of each row's crossed class, 0 where training never held it."""
        numbers = [
            number[tuple(codes[name] for name in crossing.split(BETWEEN))]
            for crossing, number in self.crosses_.items()
        ]
        return torch.from_numpy(np.stack(numbers, axis=1))


def _needed(strata):
    if strata is None:
        raise ContractError(
            "Wide & Deep crosses the classes of strata: give strata to fit and to predict, or take "
            "DenseEnsemble."
        )
    return strata
