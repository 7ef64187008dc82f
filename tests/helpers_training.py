"""Small runs of training that tests start in processes of their own: importable, spawn-safe."""

import os
import signal
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from soilkit.models import training
from soilkit.models.training import Loaders, Settings
from soilkit.models.xception_fusion import XceptionFusion, look, step_by

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def fit(model, loaders, loss, **options):
    """The loop on a fusion model's batches, by a loss (predicted, observed)."""
    return training.fit(model, loaders, step_by(loss), look, **options)


class Chips(Dataset):
    """Small random images and scalars, in float64, whose label is a line of the first scalar."""

    def __init__(self, n, seed=0):
        generator = torch.Generator().manual_seed(seed)
        self.high = torch.randn(n, 3, 32, 32, generator=generator).double()
        self.coarse = torch.randn(n, 2, generator=generator).double()
        self.moisture = 0.25 + 0.05 * self.coarse[:, 0].float()
        self.read: list[int] = []

    def __len__(self):
        return len(self.moisture)

    def __getitem__(self, i):
        self.read.append(i)
        return {"high": self.high[i], "coarse": self.coarse[i], "moisture": self.moisture[i]}


def loaders(n, batch_size):
    """Training batches of which the last is smaller, and validation ones of an odd number."""
    train = DataLoader(Chips(n), batch_size, shuffle=True)
    return Loaders(train, DataLoader(Chips(5, seed=1), 3))


def chip_model(*, by_chance=False):
    """A small model in float64, so that two orders of adding differ by nothing that counts.

    Without ``by_chance`` nothing in it is dropped at random. Processes share batch norms on GPUs
    only: on the CPU each sample is normalised alone.
    """
    torch.manual_seed(0)
    model = XceptionFusion.preset("small", high_channels=3, coarse=2, mean_label_m3_m3=0.25)
    for module in list(model.modules()):
        if not by_chance and isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if not by_chance and hasattr(module, "keep"):
            module.keep = 1.0
        for name, child in module.named_children():
            if DEVICE == "cpu" and isinstance(child, torch.nn.modules.batchnorm._BatchNorm):
                setattr(module, name, torch.nn.GroupNorm(1, child.num_features))
    return model.double().to(DEVICE)


def train(path, *, steps, killed_at=None, by_chance=False, **settings):
    """Fit; the model's gradients of the last step, history and weights."""

    def loss(predicted, observed):
        if killed_at is not None and next(calls) == killed_at:
            raise KeyboardInterrupt
        return functional.huber_loss(predicted, observed)

    calls = iter(range(10**9))
    model = chip_model(by_chance=by_chance)
    settings = Settings(steps=steps, learning_rate=0.001, **{"validate_every": 2} | settings)
    history = fit(model, loaders(23, 8), loss, settings=settings, path=path, progress=False)
    gradients = {k: p.grad.cpu() for k, p in model.named_parameters()}
    weights = {k: v.cpu() for k, v in model.state_dict().items()}
    return {"gradients": gradients, "history": history, "weights": weights}


def member(rank, size, folder):
    """One of several processes: a whole run, one interrupted, and the same taken up again."""
    torch.set_num_threads(1)
    folder = Path(folder)
    address = (folder / "meeting").absolute().as_uri()
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=size)
    mine = folder / f"process{rank}"  # rank 1's folder stays empty: the first process writes
    found = {n: train(mine / f"{n}.pt", steps=n) for n in (1, 3)}
    whole = train(mine / "whole.pt", steps=5, by_chance=True)
    try:
        train(mine / "parted.pt", steps=5, by_chance=True, killed_at=3)
    except KeyboardInterrupt:
        found["interrupted"] = True
    found["parted"] = train(mine / "parted.pt", steps=5, by_chance=True)
    found["whole"] = whole
    torch.save(found, folder / f"found{rank}.pt")
    dist.destroy_process_group()


def scalars_run(path, killed_at, steps):
    """A run on scalars that a SIGKILL ends in the middle of step ``killed_at`` (None: not at all).

    A negative step kills in the middle of writing that checkpoint instead.
    """
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = XceptionFusion.preset("small", coarse=2, mean_label_m3_m3=0.25)
    chips = Chips(40)
    batches = DataLoader(
        list(zip(chips.coarse.float(), chips.moisture, strict=True)), 8, shuffle=True
    )
    calls, writes, save = iter(range(10**9)), iter(range(1, 10**9)), torch.save

    def die():
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))

    def loss(predicted, observed):
        if next(calls) == killed_at:
            die()
        return functional.huber_loss(predicted, observed)

    def half_written(content, file):
        save(content, file)
        if killed_at is not None and next(writes) == -killed_at:
            file.flush()
            die()

    torch.save = half_written
    settings = Settings(steps=steps, learning_rate=0.1, validate_every=4)
    whole = Loaders(Scalars(batches), Scalars(batches))
    fit(model, whole, loss, settings=settings, path=path, progress=False)


class Scalars:
    """Batches of coarse and moisture out of a loader of pairs."""

    def __init__(self, loader):
        self.loader, self.sampler = loader, loader.sampler

    def __len__(self):
        return len(self.loader)

    def __iter__(self):
        return ({"coarse": coarse, "moisture": moisture} for coarse, moisture in self.loader)
