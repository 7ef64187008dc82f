"""Losses on soil moisture, each a function (predicted, observed) -> scalar."""

from collections.abc import Callable
from functools import partial

import torch
from torch.nn import functional

from soilkit.errors import UnknownNameError

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def huber(predicted: torch.Tensor, observed: torch.Tensor, *, delta: float = 0.4) -> torch.Tensor:
    """Mean Huber loss: e^2 / 2 where |e| <= delta, delta (|e| - delta / 2) beyond [1]_.

    ``delta`` 0.4 is Table 7's [2]_. Labels lie between 0 and about 0.6 m3 m-3, so hardly an error
    passes 0.4: in practice this is half the squared error, and the linear part only guards against
    outputs that run away early in training.

    Parameters
    ----------
    predicted, observed : tensor (B,), m3 m-3
    delta : float, m3 m-3

    Returns
    -------
    tensor (), m6 m-6

    References
    ----------
    .. [1] Huber (1964), doi:10.1214/aoms/1177703732
    .. [2] Batchu et al. (2022), arXiv:2206.09649, section 3b1

    Examples
    --------
    >>> huber(torch.tensor([0.3]), torch.tensor([0.1]))
    tensor(0.0200)
    """
    return functional.huber_loss(predicted, observed, delta=delta)


def mse(predicted: torch.Tensor, observed: torch.Tensor) -> torch.Tensor:
    """Mean squared error.

    Parameters
    ----------
    predicted, observed : tensor (B,), m3 m-3

    Returns
    -------
    tensor (), m6 m-6
    """
    return functional.mse_loss(predicted, observed)


def mae(predicted: torch.Tensor, observed: torch.Tensor) -> torch.Tensor:
    """Mean absolute error.

    Parameters
    ----------
    predicted, observed : tensor (B,), m3 m-3

    Returns
    -------
    tensor (), m3 m-3
    """
    return functional.l1_loss(predicted, observed)


LOSSES: dict[str, Callable[..., torch.Tensor]] = {"huber": huber, "mse": mse, "mae": mae}


def by_name(name: str, *, delta: float = 0.4) -> Loss:
    """The loss of a name, "huber", "mse" or "mae"; ``delta`` is Huber's alone.

    Errors rarely pass Huber's delta, so its gradient is half that of "mse" and about |e| times that
    of "mae": a learning rate that fits one loss need not fit another.

    Raises
    ------
    UnknownNameError
        With the names that there are.

    Examples
    --------
    >>> by_name("mae")(torch.tensor([0.3]), torch.tensor([0.1]))
    tensor(0.2000)
    """
    if name not in LOSSES:
        raise UnknownNameError(f"No loss {name!r}; there are {', '.join(LOSSES)}. Name one.")
    return partial(huber, delta=delta) if name == "huber" else LOSSES[name]
