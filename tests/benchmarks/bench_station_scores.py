"""The four point scores of 1,300 stations, against one scipy call a station."""

import numpy as np
import pandas as pd
from scipy import stats

from soilkit import metrics
from tests.benchmarks.best import best_time

N_STATIONS, N_SAMPLES, N_REPEATS = 1300, 650_000, 5


def make_predictions(rng):
    """Synthetic predictions in random row order, ids as categories."""
    sensor = rng.integers(0, N_STATIONS, N_SAMPLES)
    names = [f"NET__S{i:04d}__P__0__5" for i in range(N_STATIONS)]
    observed = rng.uniform(0, 0.6, N_SAMPLES)
    ids = pd.Categorical.from_codes(sensor, names)
    zeros = np.zeros(N_SAMPLES, int)
    words = {"network": "NET", "model": "m", "split": "test"}
    constant = {name: pd.Categorical.from_codes(zeros, [word]) for name, word in words.items()}
    return pd.DataFrame(
        {
            "sample_id": np.arange(N_SAMPLES).astype("U7"),
            "sensor_id": ids,
            "station_id": ids,
            "time": np.datetime64("2020-01-01", "us")
            + rng.integers(0, 700, N_SAMPLES) * np.timedelta64(1, "D"),
            "observed_m3_m3": observed,
            "predicted_m3_m3": 0.7 * observed + 0.3 * rng.uniform(0, 0.6, N_SAMPLES),
            **constant,
        }
    )


def peer_scores(part):
    """What is written by hand everywhere: one station, scipy and numpy."""
    x, y = part["observed_m3_m3"].to_numpy(), part["predicted_m3_m3"].to_numpy()
    difference = y - x
    return pd.Series(
        {
            "r": stats.pearsonr(x, y).statistic,
            "ubrmse_m3_m3": difference.std(),
            "rmse_m3_m3": np.sqrt(np.mean(difference**2)),
            "bias_m3_m3": difference.mean(),
        }
    )


def main():
    """Print one line: both times, their ratio, whether the scores agree to 1e-12."""
    table = make_predictions(np.random.default_rng(0))
    columns = ["observed_m3_m3", "predicted_m3_m3"]
    ours_s, ours = best_time(lambda: metrics.point_scores(table), N_REPEATS)
    peer_s, peer = best_time(
        lambda: table.groupby("sensor_id", observed=True)[columns].apply(peer_scores), N_REPEATS
    )
    full_s, _ = best_time(lambda: metrics.station_scores(table), N_REPEATS)
    ours = ours.set_index("sensor_id").loc[peer.index.astype("str"), list(metrics.METRICS)]
    equal = np.allclose(ours, peer[list(metrics.METRICS)], rtol=0, atol=1e-12)
    print(
        f"point scores {N_STATIONS} stations x {N_SAMPLES} samples (synthetic) | "
        f"ours {ours_s:.3f} s | scipy + pandas.groupby {peer_s:.3f} s | "
        f"ratio {peer_s / ours_s:.1f} | equal results {'yes' if equal else 'no'} | "
        f"with all intervals {full_s:.2f} s"
    )


if __name__ == "__main__":
    main()
