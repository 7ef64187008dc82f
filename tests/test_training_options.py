"""Options of speed change nothing but the last digits, and running out of memory gives advice."""

import errno
import shutil

import numpy as np
import pytest
import torch
from torch.nn import functional

from soilkit.errors import CheckpointError, ContractError
from soilkit.models.training import Settings, predict
from soilkit.models.xception_fusion import XceptionFusion, look
from tests.helpers_training import fit

torch.set_num_threads(1)
GENERATOR = torch.Generator().manual_seed(0)
BATCH = {"high": torch.randn(8, 3, 32, 32, generator=GENERATOR), "moisture": torch.rand(8)}


def image_model():
    torch.manual_seed(0)
    return XceptionFusion.preset("small", high_channels=3)


def run(loss=functional.huber_loss, *, path=None, model=None, **settings):
    model = model or image_model()
    how = Settings(**{"steps": 3, "validate_every": 3} | settings)
    history = fit(model, ([BATCH], [BATCH]), loss, settings=how, path=path, progress=False)
    return model, history


def raising(error):
    def loss(predicted, observed):
        raise error

    return loss


SHORTAGES = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore lines"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried ..."),
    RuntimeError("CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    MemoryError(),
]


@pytest.mark.parametrize("shortage", SHORTAGES, ids=lambda e: str(e)[:24])
def test_running_out_of_memory_names_batch_crop_preset_and_precision(shortage):
    with pytest.raises(MemoryError) as caught:
        run(raising(shortage))
    message = str(caught.value)
    assert str(shortage).split("\n")[0] in message and "\n" not in message
    for advice in ("batch_size", "crop_px", 'preset="small"', 'precision="bfloat16"', "workers"):
        assert advice in message


def test_what_the_allocator_really_says_is_understood():
    """An honest refusal: more memory than any machine has."""

    def loss(predicted, observed):
        return predicted.new_empty(2**50).sum()

    with pytest.raises(MemoryError, match="Halve batch_size"):
        run(loss)


def test_other_errors_pass_as_they_are():
    with pytest.raises(RuntimeError, match="^shapes do not match$"):
        run(raising(RuntimeError("shapes do not match")))
    with pytest.raises(FileNotFoundError):
        run(raising(FileNotFoundError(errno.ENOENT, "gone")))


@pytest.mark.slow
def test_a_compiled_model_learns_the_same():
    if shutil.which("c++") is None:
        pytest.skip("no C++ compiler here")
    ours, _ = run(compile=True)
    theirs, _ = run()
    assert predict(ours, [BATCH], look) == pytest.approx(predict(theirs, [BATCH], look), rel=1e-2)


def test_a_run_resumes_under_the_same_options_only(tmp_path):
    run(path=tmp_path / "a.pt", steps=4)
    with pytest.raises(CheckpointError, match="settings"):
        run(path=tmp_path / "a.pt", steps=4, precision="bfloat16")


def test_an_answer_that_is_no_number_is_refused():
    high = BATCH["high"].clone()
    high[5] = np.nan
    with pytest.raises(ContractError, match="1 of 8 samples, the first of them number 5"):
        predict(image_model(), [{"high": high}], look)
