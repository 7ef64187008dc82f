"""What supports a row's answer, and the error that so much support leaves."""

from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.spatial import KDTree
from scipy.spatial.distance import pdist
from sklearn.cluster import KMeans

from soilkit.metrics import splits
from soilkit.models.tabular.estimators import Scaling, SmapLinear, fitted_folds, rows_for
from soilkit.models.tabular.problem import Problem
from soilkit.models.tabular.two_part import CLIP, Neighbours, block_weights
from soilkit.units import MAX_SOIL_MOISTURE_M3_M3

REACH_KM = 600.0  # of labels at the same time
FEW_WINDOWS, FAR = 15, 1.0
ALIKE = 1e-9  # standard deviations between training stations that only rounding tells apart
LEAST_BLOCKS = 10  # below that no width is promised
NORMAL_90 = 1.645  # standard deviations that hold 90 % of a normal distribution
# What was looked at to pick these: docs/decisions/014.
PULLS = (0.0, 0.5, 1.0)  # k, how soon a strange station's mean goes to the line
PRIOR = np.array([-2.5, 0.5, 0.3, 0.5, 0.1, 1.0])  # of the widths' weights, and its deviation
PRIOR_STD = np.array([9.0, 0.5, 0.5, 0.2, 0.5, 0.2])
HELD, HELD_FIFTHS = 0.86, 0.80  # of rows held out by folds of a third; fewer train than at the end


@dataclass
class Support:
    """What training rows know of others, and the error that their support leaves.

    log(std) = b . (1, windows^-1/2, missing, dissimilarity, 1 - labels, moisture), the columns of
    ``measure``. b is fitted by likelihood, with a normal prior, to residuals of held-out blocks
    and of held-out groups of like blocks, whole and with less to go by; less support never narrows
    it. It is stretched until 1.645 of it hold 86 % of rows of held-out blocks and 80 % of their
    driest and wettest fifth. The mean of a station goes to that of a straight line through SMAP by
    1 - 1 / (1 + (k d)^2), d its dissimilarity; k has the least held-out error.

    Attributes
    ----------
    columns, scaling : predictors as the table gives them, and their training statistics
    places : array (station, predictor), standardised means of training stations
    line : the straight line through SMAP; the training mean where there is none
    labels : weight of training labels at the same time; None where the model sees none
    causal : bool, only rows up to the time count
    pull, weights : k and b
    """

    columns: list[str]
    scaling: Scaling
    places: np.ndarray
    line: SmapLinear
    labels: Neighbours | None
    causal: bool
    pull: float = 0.0
    weights: np.ndarray = field(default_factory=PRIOR.copy)

    @classmethod
    def of(cls, fitted, problem: Problem, *, inputs, use: np.ndarray, kind: str):
        """The support of a fitted model's answers; None with fewer than ten training blocks.

        ``inputs`` makes of a problem what the model sees of it, (row, predictor); ``use`` are
        positions of the rows that trained; ``kind`` is that of the system.
        """
        blocks = problem.at["block"].to_numpy()[use]
        if len(set(blocks)) < LEAST_BLOCKS:
            return None
        views = [_view(one, inputs, use) for one in (problem, problem.poorer)]
        (X, given, tables), y = views[0], problem.moisture[use]
        model = fitted.settled() if hasattr(fitted, "settled") else fitted
        made = cls.of_rows(given, tables["at"], y=y, kind=kind)
        lines, alike = [], made._alike(given, blocks)
        for near, folds in ((True, splits.folds(blocks, n_folds=3)), (False, alike)):
            if len(set(folds)) == 1:  # all blocks are alike
                continue
            for test, one in fitted_folds(model, X, y=y, held_out=folds, **tables):
                rest = np.setdiff1d(np.arange(len(y)), test)
                other = cls.of_rows(given.iloc[rest], tables["at"].iloc[rest], y=y[rest], kind=kind)
                for seen, known, rows in views:
                    asked = rows_for(one.predict, rows, rows=test)
                    moisture = one.predict(seen.iloc[test], **asked)
                    line = other.measure(known, rows["at"], moisture=moisture, rows=test)
                    lines.append(line.assign(y=y[test], block=blocks[test], near=near))
        made._fit(pd.concat(lines, ignore_index=True))
        return made

    @classmethod
    def of_rows(cls, given: pd.DataFrame, at: pd.DataFrame, *, y: np.ndarray, kind: str):
        """What training rows know, widths and pull unknown yet."""
        scaling = Scaling.of(given.to_numpy(float))
        places = _standard(scaling, given).groupby(at["sensor_id"].to_numpy()).mean().to_numpy()
        labels = Neighbours(REACH_KM).fit(at, np.ones(len(at))) if kind == "network" else None
        line, causal = SmapLinear().fit(_coarse(given), y), kind in ("given", "nowcast")
        return cls(list(given), scaling, places, line, labels, causal)

    def measure(self, given: pd.DataFrame, at: pd.DataFrame, *, moisture, rows) -> pd.DataFrame:
        """The support (row, ...) of predicted ``moisture`` at some rows (positions) of a table.

        ``windows`` of the station, share of predictors ``missing``, ``dissimilarity`` (distance of
        the station's mean predictors to the nearest training station, over the mean distance
        between these), ``labels`` at the time (0 to 1), ``moisture``, and the ``gap`` from the
        station's mean to that of the straight line.
        """
        given = given.reindex(columns=self.columns)
        means, windows = self._means(_standard(self.scaling, given), at)
        some = at.iloc[rows]
        gap = pd.DataFrame({"gap": self.line.predict(_coarse(given.iloc[rows])) - moisture})
        apart = pdist(self.places).mean() if len(self.places) > 1 else 0.0
        apart = apart if apart > ALIKE else 1.0
        return pd.DataFrame(
            {
                "windows": windows[rows],
                "missing": given.iloc[rows].isna().mean(axis=1).to_numpy(),
                "dissimilarity": KDTree(self.places).query(means[rows])[0] / apart,
                "labels": 1.0 if self.labels is None else self.labels.predict(some),
                "moisture": moisture,
                "gap": self._means(gap, some)[0][:, 0],
            }
        )

    def answer(self, moisture, problem: Problem, *, rows: np.ndarray) -> pd.DataFrame:
        """Moisture, its 90 % interval and standard deviation (row, ...), and its support."""
        series = problem.series
        lines = self.measure(series.features, series.at, moisture=moisture, rows=rows)
        mean = self._pulled(lines, self.pull)
        std = np.exp(_design(lines, mean) @ self.weights)
        ends = {"lower": mean - NORMAL_90 * std, "upper": mean + NORMAL_90 * std}
        return lines.assign(mean=mean, std=std, **ends).set_index(rows)

    def _means(self, values: pd.DataFrame, at: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Means (row, ...) of a station's rows, up to the time where only these count; how many."""
        order = np.argsort(at["time"].to_numpy(), kind="stable")
        station = at["sensor_id"].to_numpy()[order]
        by = values.iloc[order].groupby(station)
        windows = by.cumcount() + 1
        means = by.cumsum().div(windows, axis=0).assign(windows=windows)
        if not self.causal:
            means = means.groupby(station).transform("last")
        table = means.sort_index().to_numpy()
        return table[:, :-1], table[:, -1]

    @staticmethod
    def _pulled(lines: pd.DataFrame, pull: float) -> np.ndarray:
        kept = 1 / (1 + (pull * lines["dissimilarity"]) ** 2)
        moisture = lines["moisture"] + (1 - kept) * lines["gap"]
        return moisture.clip(0.0, MAX_SOIL_MOISTURE_M3_M3).to_numpy()

    def _fit(self, lines: pd.DataFrame) -> None:
        rows, y = block_weights(lines["block"]), lines["y"].to_numpy()
        errors = [np.average((self._pulled(lines, k) - y) ** 2, weights=rows) for k in PULLS]
        self.pull = PULLS[int(np.argmin(errors))]
        moisture, n_blocks = self._pulled(lines, self.pull), lines["block"].nunique()
        error, design = np.abs(moisture - y), _design(lines, moisture)

        def loss(b):
            log_std = design @ b
            likely = np.average(log_std + 0.5 * (error / np.exp(log_std)) ** 2, weights=rows)
            return likely + 0.5 * np.sum(((b - PRIOR) / PRIOR_STD) ** 2) / n_blocks

        bounds = [(None, None), *[(0, None)] * 4, (None, None)]
        self.weights = minimize(loss, PRIOR, bounds=bounds).x
        ratio, near = error / np.exp(design @ self.weights), lines["near"].to_numpy()
        dry, wet = np.quantile(y, [0.2, 0.8])
        parts = ((near, HELD), (near & (y <= dry), HELD_FIFTHS), (near & (y >= wet), HELD_FIFTHS))
        quantile = partial(np.quantile, method="inverted_cdf")
        held = [quantile(ratio[part], share, weights=rows[part]) for part, share in parts]
        self.weights[0] += np.log(max(held) / NORMAL_90)

    def _alike(self, given: pd.DataFrame, blocks: np.ndarray) -> np.ndarray:
        """Folds (row,) of blocks with like mean predictors, each another kind of land."""
        means = pd.DataFrame(self.scaling.standard(given.to_numpy(float))).groupby(blocks).mean()
        groups = KMeans(4, n_init=3, random_state=0).fit_predict(means)
        return pd.Series(groups, means.index)[blocks].to_numpy()


def _view(problem: Problem, inputs, use: np.ndarray):
    """What a model sees of some rows (positions), their predictors, and ``tables`` of them."""
    tables = {name: table for name, table in problem.tables().items() if table is not None}
    tables |= {"seen": inputs(problem), "given": problem.features[problem.given]}
    tables = {name: t.iloc[use].reset_index(drop=True) for name, t in tables.items()}
    return tables.pop("seen"), tables.pop("given"), tables


def _standard(scaling: Scaling, given: pd.DataFrame) -> pd.DataFrame:
    """Predictors (row, predictor) in standard deviations, strange ones at the bound."""
    return pd.DataFrame(scaling.standard(given.to_numpy(float))).clip(-CLIP, CLIP)


def _design(lines: pd.DataFrame, moisture: np.ndarray) -> np.ndarray:
    far = lines["dissimilarity"].clip(upper=3)  # beyond, nothing is known
    columns = [lines["windows"] ** -0.5, lines["missing"], far, 1 - lines["labels"], moisture]
    return np.column_stack([np.ones(len(lines)), *columns])


def _coarse(given: pd.DataFrame) -> np.ndarray:
    """The coarse product (row, 1) that the straight line takes; NaN where there is none."""
    smap = [name for name in given if name.startswith("smap_")][:1]
    return given[smap].to_numpy(float) if smap else np.full((len(given), 1), np.nan)


def thin_support(lines: pd.DataFrame) -> str:
    """How many of the rows that were asked have little support, in words; "" where none."""
    counts = {
        f"at a station with {FEW_WINDOWS} windows or fewer": lines["windows"] <= FEW_WINDOWS,
        "without a label of another station within ten days": lines["labels"] <= 0,
        "lacking a predictor": lines["missing"] > 0,
        "unlike every training station": lines["dissimilarity"] > FAR,
    }
    words = ", ".join(f"{n} {name}" for name, rows in counts.items() if (n := int(rows.sum())))
    return f"Of {len(lines)} rows asked {words}: their intervals are wider." if words else ""
