"""Several processes learn what one learns, from the same batches, and one of them writes."""

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from torch.utils.data import DataLoader, DistributedSampler

from soilkit.errors import ContractError
from soilkit.models.training import Settings, load_checkpoint
from soilkit.models.training.loop import _batches
from soilkit.models.training.parallel import Parts, Team
from soilkit.models.xception_fusion import XceptionFusion
from tests.helpers_training import Chips, loaders, member, train

torch.set_num_threads(1)
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What two gloo processes found, and their folder."""
    folder = tmp_path_factory.mktemp("two")
    mp.spawn(member, (2, str(folder)), nprocs=2)
    found = [torch.load(folder / f"found{rank}.pt", weights_only=False) for rank in range(2)]
    return folder, found


def close(ours, theirs):
    """Equal to a hundred-thousandth of each tensor's largest number."""
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        scale = max(float(tensor.abs().max()), 1e-3)
        distance = float((ours[name] - tensor).abs().max())
        assert distance <= TOLERANCE * scale, (name, distance, scale)


def test_two_processes_have_the_gradients_and_weights_of_one(two, tmp_path):
    """Batches of 8, 8 and 7 samples: parts of four, and of four and three, weighted."""
    _, found = two
    for steps in (1, 3):
        alone = train(tmp_path / f"{steps}.pt", steps=steps)
        close(found[0][steps]["gradients"], alone["gradients"])
        close(found[0][steps]["weights"], alone["weights"])
        ours, theirs = found[0][steps]["history"], alone["history"]
        assert ours[["step", "epoch"]].equals(theirs[["step", "epoch"]])
        assert ours.loss.to_numpy() == pytest.approx(theirs.loss.to_numpy(), rel=1e-4)
        assert ours.score.to_numpy() == pytest.approx(theirs.score.to_numpy(), rel=1e-4)


def test_both_processes_end_with_the_same_bytes(two):
    _, found = two
    for run in (1, 3, "whole", "parted"):
        first, second = (found[rank][run] for rank in range(2))
        assert all(torch.equal(first["weights"][k], v) for k, v in second["weights"].items())
        assert first["history"].equals(second["history"])


def test_the_first_process_alone_writes_and_anyone_reads_it(two):
    folder, found = two
    assert not (folder / "process1").exists()
    names = sorted(p.name for p in (folder / "process0").iterdir())
    assert names == sorted(
        f"{n}{s}" for n in ("1", "3", "whole", "parted") for s in (".pt", ".resume.pt")
    )
    checkpoint = load_checkpoint(folder / "process0" / "3.pt")
    assert all(torch.equal(checkpoint.weights[k], v) for k, v in found[0][3]["weights"].items())


def test_an_interrupted_run_of_two_goes_on_exactly(two):
    """With dropout and drop path: each process has random numbers of its own, by (seed, step)."""
    _, found = two
    assert found[0]["interrupted"] and found[1]["interrupted"]
    whole, parted = found[0]["whole"], found[0]["parted"]
    assert all(torch.equal(whole["weights"][k], v) for k, v in parted["weights"].items())
    assert whole["history"].equals(parted["history"])


def one_of(size, rank):
    """A process of several, as far as sharing goes."""
    team = Team()
    team.rank, team.size = rank, size
    return team


@pytest.mark.parametrize("size", [2, 3])
def test_every_sample_of_a_batch_is_read_by_one_process(size):
    """Without overlap or loss, and nobody reads the others' samples."""
    whole, _ = loaders(11, 4)
    shares = []
    for rank in range(size):
        share = one_of(size, rank).share(DataLoader(Chips(11), 4), every_step=True)
        shares.append((share, list(share)))
    assert sorted(sum((s.dataset.read for s, _ in shares), [])) == list(range(11))
    expected = list(DataLoader(Chips(11), 4))
    for b, batch in enumerate(expected):
        for rank, (_, batches) in enumerate(shares):
            assert torch.equal(batches[b]["coarse"], batch["coarse"][rank::size])
    assert len(whole) == len(shares[0][0]) == 3


def test_batches_that_are_no_torch_loader_are_cut():
    batches = [{"tiles": torch.zeros(5, 2, 8, 8), "target": torch.arange(5.0)}]
    parts = [list(one_of(2, r).share(batches, every_step=True))[0] for r in range(2)]
    assert [p["target"].tolist() for p in parts] == [[0, 2, 4], [1, 3]]
    assert [len(p["tiles"]) for p in parts] == [3, 2]


def test_lists_of_indices_of_any_kind_are_cut_and_the_loader_keeps_its_settings():
    """Tuples, arrays and mappings with lists for values; timeout, prefetching and generator."""
    cut = Parts([(4, 5, 6), np.arange(3), {"a": [7, 8]}], one_of(2, 1), every_step=True)
    assert [list(np.ravel(part)) for part in list(cut)[:2]] == [[5], [1]]
    assert list(cut)[2] == {"a": [8]}
    whole = DataLoader(Chips(8), 4, shuffle=True, num_workers=1, timeout=7, prefetch_factor=3)
    share = one_of(2, 0).share(whole, every_step=True)
    assert (share.timeout, share.prefetch_factor) == (7, 3)
    share = one_of(2, 0).share(DataLoader(Chips(8), 4, shuffle=True), every_step=True)
    plain = DataLoader(Chips(8), 4, shuffle=True)
    next(_batches(share, Settings(steps=1, seed=5), start=0, whole=plain))
    assert share.generator is plain.generator is not None


def test_a_batch_too_small_for_all_processes_is_refused():
    loader = DataLoader(Chips(5), 4)
    with pytest.raises(ContractError, match="batch of 1 samples cannot be shared by 2"):
        list(one_of(2, 0).share(loader, every_step=True))
    assert len(list(one_of(2, 1).share(loader, every_step=False))) == 1  # validation may


def test_a_loader_that_shares_by_itself_is_refused():
    """Sharing twice would lose samples in silence."""
    sampler = DistributedSampler(Chips(8), num_replicas=2, rank=0)
    with pytest.raises(ContractError, match="same in every process"):
        one_of(2, 0).share(DataLoader(Chips(8), 4, sampler=sampler), every_step=True)


def test_batch_norms_on_the_cpu_are_refused():
    """torch shares them between GPUs only; halves with statistics of their own would differ."""
    with pytest.raises(ContractError, match="2 processes share on GPUs only"):
        one_of(2, 0).wrap(XceptionFusion.preset("small", coarse=2))


def test_a_process_alone_is_a_team_of_one():
    team, loader = Team(), loaders(11, 4).train
    assert team.leads and team.share(loader, every_step=True) is loader
    error = torch.ones(()).requires_grad_()
    assert team.pool(error, 3)[0] is error
