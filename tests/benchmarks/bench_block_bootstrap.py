"""A block bootstrap of 1,000 draws for 50 sensors, against pytesmo or a plain numpy loop."""

import time

import numpy as np

from soilkit import metrics
from tests.benchmarks.best import best_time
from tests.benchmarks.coverage import pairs, predictions

try:
    from pytesmo.metrics import pairwise, with_bootstrapped_ci
except ImportError:  # the peer is optional
    pairwise = None

N_SENSORS, N_DAYS, N_DRAWS, N_REPEATS = 50, 1000, 1000, 3


def with_pytesmo(x, y, rng, length):
    """Pytesmo's own bootstrap, one call a score; it draws single rows, not blocks."""
    scores = (pairwise.pearson_r, pairwise.ubrmsd, pairwise.rmsd, pairwise.bias)
    return [
        with_bootstrapped_ci(score, x, y, nsamples=N_DRAWS, method="percentile")[1:]
        for score in scores
    ]


def with_numpy(x, y, rng, length):
    """What is written by hand: draw rows of blocks, score them, one draw after the other."""
    n, draws = len(x), []
    for _ in range(N_DRAWS):
        starts = rng.integers(0, n - length + 1, -(-n // length))
        rows = (starts[:, None] + np.arange(length)).ravel()[:n]
        a, b = x[rows], y[rows]
        d = b - a
        draws.append((np.corrcoef(a, b)[0, 1], d.std(), np.sqrt(np.mean(d**2)), d.mean()))
    return np.std(draws, axis=0)


def main():
    """Print one line: both times, their ratio, whether the spreads agree."""
    rng = np.random.default_rng(0)
    x, y, _ = pairs("autoregressive", rng, shape=(N_SENSORS, N_DAYS), rho=0.7, r=0.7)
    table = predictions(x, y)
    ours_s, ours = best_time(lambda: metrics.block_bootstrap(table), N_REPEATS)
    lengths = ours["block_rows"].to_numpy()
    peer = with_numpy if pairwise is None else with_pytesmo
    name = "plain numpy loop" if pairwise is None else "pytesmo, one call a score"
    n_calls = 1 if pairwise is None else 4
    n_peer = 5  # of the sensors; the time is scaled up
    start = time.perf_counter()
    for i in range(n_peer):
        peer(x[i], y[i], rng, int(lengths[i]))
    peer_s = (time.perf_counter() - start) * N_SENSORS / n_peer
    plain = np.array([with_numpy(x[i], y[i], rng, int(lengths[i]))[3] for i in range(n_peer)])
    half = (ours["bias_m3_m3_upper"] - ours["bias_m3_m3_lower"]).to_numpy()[:n_peer] / 2
    same = np.allclose(half / plain, np.median(half / plain), rtol=0.1)
    print(
        f"block bootstrap {N_SENSORS} sensors x {N_DAYS} days x {N_DRAWS} draws (synthetic) | "
        f"ours {ours_s:.3f} s | {name} {peer_s:.2f} s | ratio {peer_s / ours_s:.0f} "
        f"(all four of ours to one call of it: {peer_s / ours_s / n_calls:.0f}) | "
        f"spreads of the bias as a plain loop's within 10 % {'yes' if same else 'no'}"
    )


if __name__ == "__main__":
    main()
