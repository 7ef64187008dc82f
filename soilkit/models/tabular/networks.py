"""Dense and Prob: ensembles of small networks, each member balancing one characteristic."""

import logging

import numpy as np
import pandas as pd
import torch
from sklearn.utils.validation import check_is_fitted
from torch import nn

from soilkit.models.tabular.inputs import NanTolerant, Scaling, new_rows, training_rows
from soilkit.models.tabular.stack import Recipe, Rows, forward, one_thread, stacked, train
from soilkit.models.tabular.strata import as_classes, balanced_weights, learn_bins, matching_strata
from soilkit.units import MAX_SOIL_MOISTURE_M3_M3

UNWEIGHTED = "unweighted"
PREDICT_ROWS = 2048  # rows at a time: their activations stay in the processor's cache
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
        weight_decay: float = 1e-2,
        dropout: float = 0.1,
        seed: int = 0,
        n_bins: int = 5,
        max_rows_seen: int | None = 6_000_000,
        target_max: float | None = MAX_SOIL_MOISTURE_M3_M3,
    ) -> None:
        self.n_members = n_members
        self.widths = widths
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.dropout = dropout
        self.seed = seed
        self.n_bins = n_bins
        self.max_rows_seen = max_rows_seen
        self.target_max = target_max

    def fit(self, X, y, strata=None):
        """Train the members; returns itself.

        Parameters
        ----------
        X : (row, predictor), NaN where missing
        y : (row,), moisture, m3 m-3
        strata : DataFrame (row, characteristic) or None; one member for each column balances its
            classes, and one more is unweighted. Amounts (clay, sand, pH) fall into ``n_bins``
            classes of equal width. None trains ``n_members`` unweighted members

        Raises
        ------
        ContractError
            If a value is infinite, or the rows of strata are not those of X.
        UnitError
            If the target exceeds ``target_max``, as moisture in percent does.
        """
        given = X
        X, y = training_rows(self, given, y=y)
        if strata is not None:
            strata = matching_strata(strata, given, n_rows=len(X))
        self.scaling_ = Scaling.of(X)
        self.scaling_.warn_of_constants(self)
        self.y_mean_, self.y_std_ = float(np.mean(y)), float(np.std(y)) or 1.0
        weights = self._weights(strata, len(y))
        inputs = torch.from_numpy(self.scaling_.apply(X))  # (row, predictor + flag)
        target = torch.as_tensor((y - self.y_mean_) / self.y_std_, dtype=torch.float32)
        rows = self._with_crosses(Rows(inputs, target, weights), strata)
        seeds = np.random.SeedSequence(self.seed).generate_state(len(self.member_names_))
        shape = (inputs.shape[1], *self.widths, self._n_outputs)
        self.members_ = train(
            rows, self._recipe(len(y)), shape=shape, seeds=seeds, loss=self._row_loss
        )
        return self

    def predict(self, X, return_std: bool = False, *, strata=None):
        """Mean of the members (row,), m3 m-3; with ``return_std`` its uncertainty beside it.

        Parameters
        ----------
        X : (row, predictor), NaN where missing
        strata : as in ``fit``; only Wide & Deep looks at it
        """
        moisture, variance = self._outputs(X, strata)
        mean = moisture.mean(axis=0)
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
        check_is_fitted(self)
        given = X
        X = new_rows(self, given)
        crosses = self._crosses_of(strata, given, n_rows=len(X))
        stack, found = stacked(self.members_), []
        with torch.inference_mode(), one_thread():
            for first in range(0, len(X), PREDICT_ROWS):
                part = slice(first, first + PREDICT_ROWS)
                inputs = torch.from_numpy(self.scaling_.apply(X[part]))
                repeated = inputs.expand(len(self.members_), -1, -1)
                chosen = None
                if crosses is not None:
                    chosen = crosses[part].expand(len(self.members_), -1, -1)
                found.append(forward(stack, repeated, chosen))
        outputs = torch.cat(found, dim=1).double()  # (member, row, output)
        moisture = outputs[..., 0].numpy() * self.y_std_ + self.y_mean_
        return moisture, self._variance(outputs).numpy() * self.y_std_**2

    def _weights(self, strata: pd.DataFrame | None, n_rows: int) -> torch.Tensor:
        """Sample weights (member, row), and the members' names."""
        if strata is None:
            self.bins_, self.member_names_ = {}, [f"member {k}" for k in range(self.n_members)]
            return torch.ones(self.n_members, n_rows)
        self.bins_ = learn_bins(strata, self.n_bins)
        classes = as_classes(strata, self.bins_)
        self.member_names_ = [*self.bins_, UNWEIGHTED]
        balanced = [balanced_weights(classes[name]) for name in self.bins_]
        return torch.as_tensor(np.stack([*balanced, np.ones(n_rows)]), dtype=torch.float32)

    def _recipe(self, n_rows: int) -> Recipe:
        """Epochs and batch for a table of n_rows: large ones are passed fewer times."""
        self.epochs_, self.batch_size_ = self.epochs, self.batch_size
        if self.max_rows_seen is not None and n_rows * self.epochs > self.max_rows_seen:
            self.epochs_ = max(1, round(self.max_rows_seen / n_rows))
            self.batch_size_ = max(self.batch_size, min(2048, n_rows // 200))
            log.info("%d rows: %d epochs of batches of %d", n_rows, self.epochs_, self.batch_size_)
        return Recipe(
            self.epochs_, self.batch_size_, self.learning_rate, self.weight_decay, self.dropout
        )

    def _with_crosses(self, rows: Rows, strata: pd.DataFrame | None) -> Rows:
        """The rows with what a wide part wants; here there is none."""
        return rows

    def _crosses_of(self, strata, X, *, n_rows: int) -> torch.Tensor | None:
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
    weight_decay : float, decoupled (AdamW)
    dropout : float, probability in training
    seed : int
    n_bins : int, classes that an amount among the strata falls into
    max_rows_seen : int or None; a table of so many rows that all epochs would show a member more
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
