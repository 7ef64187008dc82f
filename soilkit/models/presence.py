"""Sources that may be absent: what stands in for their channels, and flags that say so."""

from collections.abc import Sequence

import torch
from torch import nn


class Presence(nn.Module):
    """Replaces absent sources by learnt values and says which ones are known.

    A source is absent from a sample where any of its numbers there is NaN; each of its channels
    then holds one learnt value (0, the middle of the range, before training), so that nothing of
    its pixels is left. In training each known source is withheld with probability ``rate`` [1]_,
    but never all of a sample: the model learns to do without any.

    Parameters
    ----------
    sources : the source of each channel of the images and scalars, in their order
    rate : probability that training withholds a source

    References
    ----------
    .. [1] Neverova et al. (2016), doi:10.1109/TPAMI.2015.2461544 (ModDrop)

    Examples
    --------
    >>> presence = Presence(["sentinel1", "smap"], rate=0.0)
    >>> high, coarse = torch.full((1, 1, 2, 2), float("nan")), torch.ones(1, 1)
    >>> (high, coarse), known = presence([high, coarse])
    >>> high.flatten().tolist(), coarse.tolist(), known.tolist()
    ([0.0, 0.0, 0.0, 0.0], [[1.0]], [[0.0, 1.0]])
    """

    members: torch.Tensor

    def __init__(self, sources: Sequence[str], *, rate: float):
        super().__init__()
        self.names = tuple(dict.fromkeys(sources))
        self.rate = rate
        members = [[float(source == name) for name in self.names] for source in sources]
        self.register_buffer("members", torch.tensor(members), persistent=False)
        self.stand_in = nn.Parameter(torch.zeros(len(sources)))

    def forward(
        self, groups: Sequence[torch.Tensor | None]
    ) -> tuple[list[torch.Tensor | None], torch.Tensor]:
        """The groups without NaN, and what is known, (B, source) of 0 and 1.

        Parameters
        ----------
        groups : tensors (B, channel, row, col) or (B, channel), or None; NaN is absent
        """
        found = [group for group in groups if group is not None]
        sums = [group.flatten(2).sum(2) if group.ndim == 4 else group for group in found]
        unknown = torch.cat(sums, dim=1).isnan().to(self.members.dtype)  # (B, channel)
        known = (unknown @ self.members) == 0  # (B, source)
        if self.training and self.rate:
            kept = known & (torch.rand(known.shape, device=known.device) >= self.rate)
            known = torch.where(kept.any(dim=1, keepdim=True), kept, known)
        flags = known.to(self.members.dtype)
        shown = (flags @ self.members.T) > 0  # (B, channel)
        filled: list[torch.Tensor | None] = []
        first = 0
        for group in groups:
            if group is None:
                filled.append(None)
                continue
            these = slice(first, first + group.shape[1])
            shape = (-1, group.shape[1], *(1,) * (group.ndim - 2))
            stand_in = self.stand_in[these].to(group.dtype).view(shape)
            filled.append(torch.where(shown[:, these].view(shape), group, stand_in))
            first += group.shape[1]
        return filled, flags
