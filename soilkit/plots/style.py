"""Words, colours and units that every picture shares."""

MOISTURE = "m³ m⁻³"
METRIC_LABELS = {
    "r": "correlation R [1]",
    "ubrmse_m3_m3": f"ubRMSE [{MOISTURE}]",
    "rmse_m3_m3": f"RMSE [{MOISTURE}]",
    "bias_m3_m3": f"bias, predicted − observed [{MOISTURE}]",
}
# Okabe and Ito's palette, told apart with any colour vision and in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F")


def label(metric: str) -> str:
    """The axis label of a score or of an aggregate such as "r_block_mean"."""
    for ending, words in (("_block_mean", "mean over blocks, "), ("_mean", "mean "), ("", "")):
        name = metric.removesuffix(ending) if metric.endswith(ending) else ""
        if name in METRIC_LABELS:
            return words + METRIC_LABELS[name]
    return metric


def colours(n: int) -> list[str]:
    """The first ``n`` colours, begun anew where they run out."""
    return [COLOURS[i % len(COLOURS)] for i in range(n)]
