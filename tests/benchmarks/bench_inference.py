"""The full model's high-resolution encoder for maps: folded, bfloat16, compiled, against eager.

Compiled, which wants a C++ compiler. The ceiling is the ratio that a bfloat16 matrix product's
rate on all operations would give: without matrix units for bfloat16 no CPU gets past twice its
float32 rate. Errors are of pooled features and of answers, of a small model that has learnt (random
weights pass every rounding on, learnt ones do not).
"""

import copy
import os

import torch
from torch.nn import functional

from soilkit.models import count_flops
from soilkit.models.encoders import pool_center
from soilkit.models.inference import folded, for_inference
from soilkit.models.xception_fusion import XceptionFusion
from tests.benchmarks.turns import in_turn, matmul_flops_per_s, plain_layout

BATCH, ROUNDS, REQUIRED = 8, 5, 5.0
WARM_UP = 8  # batches that fill the running statistics
LEARNT = 120  # steps of the small model


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


def learnt():
    """A small model that has learnt to tell the mean of two bands around the middle."""
    torch.manual_seed(0)
    model = XceptionFusion.preset("small", high_channels=10)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for step in range(LEARNT):
        images = scenes(BATCH, step)[..., 64:192, 64:192].contiguous()
        optimizer.zero_grad()
        functional.huber_loss(model.train()(images), wetness(images)).backward()
        optimizer.step()
    return model.eval()


def wetness(images):
    """What the small model learns, (image,), of the size of soil moisture."""
    return 0.25 + 0.05 * images[:, :2, 48:80, 48:80].mean(dim=(1, 2, 3))


def errors_of(model, images):
    """Relative errors (features, answers) by way of inference, against eager float32."""
    features, answers = pool_center(model.high_encoder(images)), model(images)
    found = {}
    for name, fast in (("folded float32", folded(model)), ("bfloat16", for_inference(model))):
        of_features = (pool_center(fast.high_encoder(images)) - features).norm() / features.norm()
        of_answers = (fast(images) - answers).abs().max() / answers.abs().max()
        found[name] = float(of_features), float(of_answers)
    return found


def main():
    """Print one line for speed and one for errors."""
    torch.set_num_threads(os.cpu_count() or 1)
    model = seasoned()
    eager = plain_layout(copy.deepcopy(model)).high_encoder
    fused = torch.compile(for_inference(model).high_encoder, dynamic=False)
    images = scenes(BATCH, 99)
    with torch.inference_mode():
        rivals = {"ours": lambda: fused(images), "eager": lambda: eager(images)}
        seconds = in_turn(rivals, rounds=ROUNDS)
    fastest = BATCH * count_flops(model) / matmul_flops_per_s(torch.bfloat16)
    print(
        f"encoder inference, full model, batch {BATCH}, CPU | ours {BATCH / seconds['ours']:.2f} "
        f"images/s | eager float32 {BATCH / seconds['eager']:.2f} images/s | "
        f"ratio {seconds['eager'] / seconds['ours']:.2f}, required {REQUIRED}, "
        f"ceiling here {seconds['eager'] / fastest:.2f}"
    )
    small = learnt()
    with torch.inference_mode():
        errors = errors_of(small, scenes(BATCH, LEARNT)[..., 64:192, 64:192])
    told = [f"{name} {a:.1e} (answers {b:.1e})" for name, (a, b) in errors.items()]
    print(
        f"encoder inference, relative error of pooled features, learnt small model | {told[0]}, "
        f"required 1e-5 | {told[1]}, required 1e-2"
    )


if __name__ == "__main__":
    main()
