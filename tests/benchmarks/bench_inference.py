"""The full model's high-resolution encoder for maps: folded, bfloat16, compiled, against eager.

Compiled where a C++ compiler is at hand. The relative error is that of the pooled features, after
the batch norms have seen smooth images.
"""

import copy
import os

import torch
from torch.nn import functional

from soilkit.models import count_flops
from soilkit.models.folding import folded, for_inference
from soilkit.models.xception import pool_center
from soilkit.models.xception_fusion import XceptionFusion
from soilkit.training.acceleration import compiled
from tests.benchmarks.turns import in_turn, matmul_flops_per_s, plain_layout

BATCH, ROUNDS, REQUIRED = 8, 5, 5.0
WARM_UP = 8  # batches that fill the running statistics


def scenes(n, seed):
    """Smooth random fields of ten bands with a tenth of noise."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(n, 10, 9, 9, generator=generator)
    smooth = functional.interpolate(coarse, size=(256, 256), mode="bilinear")
    return smooth + 0.1 * torch.randn(n, 10, 256, 256, generator=generator)


def seasoned():
    """A model of one encoder whose running statistics are those of such scenes."""
    torch.manual_seed(0)
    model = XceptionFusion.preset("paper", high_channels=10)
    for norm in model.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.momentum = None  # the plain mean over the batches
    with torch.no_grad():
        for seed in range(WARM_UP):
            model.train()(scenes(BATCH, seed))
    return model.eval()


def main():
    """Print one line for speed and one for errors."""
    torch.set_num_threads(os.cpu_count() or 1)
    model = seasoned()
    eager = plain_layout(copy.deepcopy(model)).high_encoder
    fast = for_inference(model.high_encoder)
    fused = compiled(fast, mode=True, device=torch.device("cpu"))
    images = scenes(BATCH, 99)
    exact = folded(model)
    with torch.inference_mode():
        seconds = in_turn(
            {"ours": lambda: fused(images), "eager": lambda: eager(images)}, rounds=ROUNDS
        )
        features = pool_center(eager(images))
        errors = [
            float((pool_center(e(images)) - features).norm() / features.norm())
            for e in (exact.high_encoder, fast, fused)
        ]
        moisture = model(images)
        change = (exact(images) - moisture).abs().max() / moisture.abs().max()
    rate = BATCH * count_flops(model) / seconds["ours"] / matmul_flops_per_s(torch.bfloat16)
    print(
        f"encoder inference, full model, batch {BATCH}, CPU | ours {BATCH / seconds['ours']:.2f} "
        f"images/s | eager float32 {BATCH / seconds['eager']:.2f} images/s | "
        f"ratio {seconds['eager'] / seconds['ours']:.2f}, required {REQUIRED} | "
        f"{rate:.0%} of this machine's bfloat16 matmul rate"
    )
    print(
        f"encoder inference, relative error of pooled features | folded float32 {errors[0]:.1e}, "
        f"required 1e-5 (answers {float(change):.1e}) | bfloat16 {errors[1]:.1e}, "
        f"compiled {errors[2]:.1e}, required 1e-2"
    )


if __name__ == "__main__":
    main()
