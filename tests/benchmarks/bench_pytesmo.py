"""Point scores of 1,300 stations / 650,000 samples, against pytesmo in a loop over the same table.

Needs the validation extra: python -m pip install "soilkit[validation]".
"""

import numpy as np
import pandas as pd

from soilkit import metrics
from tests.benchmarks.best import best_time

N_STATIONS, N_SAMPLES, N_REPEATS = 1300, 650_000, (25, 5)
COLUMNS = ["observed_m3_m3", "predicted_m3_m3"]


def make_predictions(rng):
    """Synthetic predictions sorted by sensor and time, every id a category."""
    sensor = np.sort(rng.integers(0, N_STATIONS, N_SAMPLES))
    names = [f"NET__S{i:04d}__P__0__5" for i in range(N_STATIONS)]
    ids = pd.Categorical.from_codes(sensor, names)
    zeros = np.zeros(N_SAMPLES, int)
    words = {"network": "NET", "model": "m", "split": "test"}
    constant = {name: pd.Categorical.from_codes(zeros, [word]) for name, word in words.items()}
    observed = rng.uniform(0, 0.6, N_SAMPLES)
    return pd.DataFrame(
        {
            "sample_id": np.arange(N_SAMPLES).astype("U7"),
            "sensor_id": ids,
            "station_id": ids,
            "time": np.datetime64("2020-01-01", "us") + np.arange(N_SAMPLES).astype("m8[h]"),
            "observed_m3_m3": observed,
            "predicted_m3_m3": 0.7 * observed + 0.3 * rng.uniform(0, 0.6, N_SAMPLES),
            **constant,
        }
    )


def peer_scores(table):
    """The loop over stations that a user of pytesmo writes."""
    import pytesmo.metrics as peer

    rows = {}
    for name, part in table.groupby("sensor_id", observed=True):
        x, y = part[COLUMNS[0]].to_numpy(), part[COLUMNS[1]].to_numpy()
        rows[name] = (peer.pearson_r(x, y), peer.ubrmsd(x, y), peer.rmsd(x, y), peer.bias(y, x))
    return pd.DataFrame.from_dict(rows, orient="index", columns=list(metrics.METRICS))


def main():
    """Print one line: both times, their ratio, whether the scores agree to 1e-12."""
    table = make_predictions(np.random.default_rng(0))
    ours_s, ours = best_time(lambda: metrics.point_scores(table), N_REPEATS[0])
    peer_s, peer = best_time(lambda: peer_scores(table), N_REPEATS[1])
    ours = ours.set_index("sensor_id").loc[peer.index.astype("str"), list(metrics.METRICS)]
    equal = np.allclose(ours, peer, rtol=0, atol=1e-12)
    print(
        f"point scores {N_STATIONS} stations x {N_SAMPLES} samples (synthetic), sorted categories "
        f"| ours {ours_s:.4f} s | pytesmo in a loop {peer_s:.3f} s | ratio {peer_s / ours_s:.1f} | "
        f"equal to 1e-12 {'yes' if equal else 'no'}"
    )


if __name__ == "__main__":
    main()
