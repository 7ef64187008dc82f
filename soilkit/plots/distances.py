"""How far held-out stations lie from those that train."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from soilkit.metrics.splits import CHIP_SIDE_M, AuditReport
from soilkit.metrics.splits.leakage import FAR_KM
from soilkit.plots import style
from soilkit.strata import mark_small

AT_ZERO_KM = 0.1  # where a logarithmic axis draws what lies at, or nearer to, a training station


def distance_curves(reports: Mapping[str, AuditReport | pd.Series], *, title: str = "") -> Figure:
    """The share of held-out stations within a distance of training, one curve a split.

    The axis is logarithmic; what lies below 0.1 km stands there. The lines are those of seed 001's
    Fig. 6: a chip's 2.56 km, and 10 km.

    Parameters
    ----------
    reports : name to the ``AuditReport`` of a split, or to distances by station [km]
    """
    km = {name: _known(report) for name, report in reports.items()}
    if not any(len(values) for values in km.values()):
        why = "no held-out station has a known place and a training station to lie near"
        return style.nothing(why, title=title)
    figure, axis = plt.subplots(figsize=(9, 4.2), layout="constrained")
    far = 2 * max(float(v.max()) for v in km.values() if len(v))
    for (name, values), look in zip(km.items(), style.looks(list(km)).values(), strict=True):
        n = len(values)
        words = style.wrapped(mark_small([name], [n])[0], letters=30) + _shares(values)
        at = np.concatenate([[AT_ZERO_KM], np.maximum(values, AT_ZERO_KM), [far]])
        share = np.concatenate([[0.0], np.arange(1, n + 1) / max(n, 1), [1.0 if n else np.nan]])
        axis.step(at, 100 * share, where="post", label=words, color=look["color"], linewidth=1.8,
                  alpha=1.0 if n >= style.MIN_STATIONS else 0.4)  # fmt: skip
    for line, words, side in (
        (CHIP_SIDE_M / 1000, "chips overlap below 2.56 km", "right"), (FAR_KM, "10 km", "left"),
    ):  # fmt: skip
        axis.axvline(line, color="0.35", linewidth=0.9, linestyle="--")
        axis.annotate(words, (line, 102), xytext=(0, 2), textcoords="offset points", ha=side,
                      fontsize="small", color="0.35")  # fmt: skip
    axis.set_xscale("log")
    axis.set(xlim=(0.8 * AT_ZERO_KM, far), ylim=(-2, 102),
             xlabel="distance to the nearest training station [km]",
             ylabel="held-out stations within it [%]")  # fmt: skip
    ticks = [t for t in (0.1, 1, 10, 100, 1000, 10000) if t <= far]
    axis.set_xticks(ticks, ["≤ 0.1", *(f"{t:g}" for t in ticks[1:])])
    style.quiet_grid(axis)
    style.aside(figure)
    style.head(figure, title)
    return figure


def _known(report: AuditReport | pd.Series) -> np.ndarray:
    """Sorted distances that are known, (station,), km."""
    series = report.distance_km if isinstance(report, AuditReport) else report
    values = np.sort(np.asarray(series, float))
    return values[np.isfinite(values)]


def _shares(km: np.ndarray) -> str:
    if not len(km):
        return "\n(no station)"
    near, beyond = (km < CHIP_SIDE_M / 1000).mean(), (km > FAR_KM).mean()
    return f"\n({len(km)} stations: {near:.0%} below\n2.56 km, {beyond:.0%} above 10 km)"
