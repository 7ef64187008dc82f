"""The fastest of a few calls: what a benchmark of numpy and pandas code compares."""

import time


def best_time(function, n_repeats):
    """Seconds of the fastest call, and the result of the last."""
    seconds = []
    for _ in range(n_repeats):
        start = time.perf_counter()
        result = function()
        seconds.append(time.perf_counter() - start)
    return min(seconds), result
