"""Networks of one shape trained side by side: weights stacked as (member, in, out).

Each member has its own initial weights, order of rows, dropout and sample weights, all drawn from
a stream of its own: it comes out the same, to rounding, whoever else is in the stack.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import nn

from soilkit.errors import DivergedError

Member = dict[str, torch.Tensor]
# outputs (member, row, output), target (member, row) -> error (member, row)
RowLoss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Rows(NamedTuple):
    """Training rows: inputs (row, in), target (row,), weights (member, row), crosses (row, cross).

    ``crosses`` numbers each row's class of every crossing, 0 for none; ``n_crossed`` counts them.
    """

    inputs: torch.Tensor
    target: torch.Tensor
    weights: torch.Tensor
    crosses: torch.Tensor | None = None
    n_crossed: int = 0


class Recipe(NamedTuple):
    """How members are trained; ``epochs`` and ``batch_size`` are final numbers."""

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    dropout: float


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let torch work on one thread: its threads wait for each other longer than such layers take.

    On a busy machine that costs minutes; and rounding no longer depends on the number of cores.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def first_member(shape: tuple[int, ...], seed: int) -> tuple[Member, torch.Generator]:
    """Initial weights of layers ``shape`` (in, hidden..., out), and the stream they came from."""
    with torch.random.fork_rng(devices=[]):  # torch draws a layer's weights from the global stream
        torch.manual_seed(seed)
        layers = [nn.Linear(a, b) for a, b in zip(shape, shape[1:], strict=False)]
        stream = torch.Generator()
        stream.set_state(torch.random.get_rng_state())
    member: Member = {}
    for number, layer in enumerate(layers):
        member[f"weight{number}"] = layer.weight.detach().T.contiguous()  # (in, out)
        member[f"bias{number}"] = layer.bias.detach()[None]  # (1, out)
    return member, stream


def stacked(members: list[Member]) -> Member:
    """One set of tensors (member, ...) of many."""
    return {name: torch.stack([member[name] for member in members]) for name in members[0]}


def forward(
    stack: Member, x: torch.Tensor, crosses: torch.Tensor | None = None, masks: tuple = ()
) -> torch.Tensor:
    """Outputs (member, row, output) of inputs x (member, row, in).

    Parameters
    ----------
    crosses : int tensor (member, row, cross) or None; the wide part adds their weights
    masks : one tensor (member, row, unit) for each hidden layer, what dropout leaves; () for none
    """
    n_layers = sum(name.startswith("weight") for name in stack)
    for number in range(n_layers):
        x = torch.baddbmm(stack[f"bias{number}"], x, stack[f"weight{number}"])
        if number < n_layers - 1:
            x = nn.functional.silu(x)
            x = x * masks[number] if masks else x
    if crosses is not None:
        x = x + _wide(stack["wide"], crosses)
    return x


def _wide(table: torch.Tensor, crosses: torch.Tensor) -> torch.Tensor:
    """Sum over crossings of the weights (member, class) of each row's classes.

    Class 0, a combination that training never held, stays at the zero that it began with.
    """
    n_members, n_classes = table.shape
    first = torch.arange(n_members)[:, None, None] * n_classes
    weights = nn.functional.embedding(crosses + first, table.reshape(-1, 1))[..., 0]
    return weights.sum(dim=-1, keepdim=True)  # (member, row, 1)


@one_thread()
def train(
    rows: Rows, recipe: Recipe, *, shape: tuple[int, ...], seeds, loss: RowLoss
) -> list[Member]:
    """Train one member a seed by AdamW; the rate falls to zero along a half cosine over the epochs.

    Raises
    ------
    DivergedError
        If a member's loss is no finite number.
    """
    starts = [first_member(shape, int(seed)) for seed in seeds]
    orders = [torch.Generator().manual_seed(int(seed)) for seed in seeds]
    streams = [stream for _, stream in starts]
    stack = stacked([member for member, _ in starts])
    if rows.crosses is not None:
        stack["wide"] = torch.zeros(len(starts), rows.n_crossed + 1)
    parameters = [tensor.requires_grad_() for tensor in stack.values()]
    optimizer = torch.optim.AdamW(
        parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(recipe.epochs, 1))
    for epoch in range(recipe.epochs):
        order = torch.stack([torch.randperm(len(rows.target), generator=g) for g in orders])
        for chosen in order.split(recipe.batch_size, dim=1):  # (member, row)
            masks = _masks(streams, chosen.shape[1], units=shape[1:-1], dropout=recipe.dropout)
            error = _error(stack, rows, chosen, masks=masks, loss=loss)
            optimizer.zero_grad()
            error.backward()
            optimizer.step()
        if not torch.isfinite(error):
            raise DivergedError(
                f"The loss became {error.item()} in epoch {epoch + 1} of {recipe.epochs}. "
                f"Lower the learning rate of {recipe.learning_rate:g}."
            )
        schedule.step()
    final = {name: tensor.detach() for name, tensor in stack.items()}
    return [{name: t[k].clone() for name, t in final.items()} for k in range(len(starts))]


def _error(
    stack: Member, rows: Rows, chosen: torch.Tensor, *, masks: tuple, loss: RowLoss
) -> torch.Tensor:
    """Sum over members of their weighted mean errors: no member's gradient touches another's."""
    crosses = None if rows.crosses is None else rows.crosses[chosen]
    outputs = forward(stack, rows.inputs[chosen], crosses, masks)
    errors = loss(outputs, rows.target[chosen]) * rows.weights.gather(1, chosen)
    return errors.mean(dim=1).sum()


def _masks(
    streams: list[torch.Generator], n_rows: int, *, units: tuple[int, ...], dropout: float
) -> tuple:
    """What dropout leaves of each hidden layer, each member's from its own stream."""
    if not dropout:
        return ()
    masks = [torch.empty(len(streams), n_rows, n) for n in units]
    for number, stream in enumerate(streams):
        for mask in masks:
            mask[number].bernoulli_(1 - dropout, generator=stream)
    return tuple(mask.div_(1 - dropout) for mask in masks)
