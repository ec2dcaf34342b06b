"""Several processes, precision, compilation, and the options of the descent."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from explainer.errors import InvalidInput, UnknownName
from zoo import baselines, descent
from zoo import train as training
from zoo.devices import portion
from zoo.specimens import RECIPES

QUICK = {"progress": False, "log": False, "device": "cpu"}
PARALLEL = """
import dataclasses, sys
import numpy as np
from zoo import baselines
from zoo.specimens import RECIPES
from zoo.train import train
baselines.boosting = lambda data: ("none", lambda frame: np.full((len(frame), 2), 0.5))
RECIPES["loan-mlp"] = dataclasses.replace(RECIPES["loan-mlp"], network_arguments={"dropout": 0.0})
train("loan-mlp", out=sys.argv[1], epochs=3, progress=False, log=False, device="cpu")
"""


@pytest.fixture
def mild(monkeypatch):
    """loan-mlp of a few epochs with settings changed, without the time of its baseline."""
    monkeypatch.setattr(baselines, "boosting", lambda data: ("none", lambda frame: np.full((len(frame), 2), 0.5)))
    own = RECIPES["loan-mlp"]

    def trained(folder, epochs=3, **changes):
        options = {name: changes.pop(name) for name in ("precision", "compiled", "device") if name in changes}
        monkeypatch.setitem(RECIPES, "loan-mlp", dataclasses.replace(own, **changes))
        record = training.train("loan-mlp", out=folder, epochs=epochs, **{**QUICK, **options})
        return record, load_file(folder / "model.safetensors")

    return trained


@pytest.mark.slow
def test_two_processes_come_to_what_one_does(tmp_path):
    script = tmp_path / "parallel.py"
    script.write_text(PARALLEL)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    launchers = {"one": [], "two": ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]}
    for name, launcher in launchers.items():
        command = [sys.executable, *launcher, str(script), str(tmp_path / name)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment)
        assert done.returncode == 0, done.stderr
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in launchers)
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-5
    records = [json.loads((tmp_path / name / "record.json").read_text()) for name in launchers]
    assert [record["processes"] for record in records] == [1, 2]
    assert records[1]["history"][-1]["train_loss"] == pytest.approx(records[0]["history"][-1]["train_loss"], rel=1e-4)


@pytest.mark.parametrize("n", [1, 2, 5, 8])
@pytest.mark.parametrize("kind", [torch.Tensor, tuple, dict])
def test_the_portions_of_a_batch_are_the_batch(n, kind):
    rows, labels = torch.arange(10.0, 10.0 + n), torch.arange(n)
    batch = {torch.Tensor: rows, tuple: (rows, labels), dict: {"ids": rows}}[kind]
    parts = [portion(SimpleNamespace(process_index=k, num_processes=3), batch, labels) for k in range(3)]
    firsts = [next(iter(b.values())) if kind is dict else b[0] if kind is tuple else b for b, _, _ in parts]
    assert np.mean([weight * float(first.mean()) for first, (_, _, weight) in zip(firsts, parts, strict=True)]) == pytest.approx(
        float(rows.mean())
    )
    assert sorted(torch.cat([first for first, (_, _, w) in zip(firsts, parts, strict=True) if w]).tolist()) == rows.tolist()
    assert all(torch.equal(first - 10, truth.float()) for first, (_, truth, _) in zip(firsts, parts, strict=True))


def test_sixteen_bits_come_close_on_a_cpu(mild, tmp_path):
    full, whole = mild(tmp_path / "no", precision="no")
    half, short = mild(tmp_path / "bf16", precision="bf16")
    assert (full["precision"], half["precision"]) == ("no", "bf16")
    assert all(tensor.dtype == torch.float32 for tensor in short.values())
    assert any(not torch.equal(whole[name], short[name]) for name in whole)
    assert half["history"][-1]["train_loss"] == pytest.approx(full["history"][-1]["train_loss"], rel=0.02)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler on a CPU; there is no g++ here")
def test_a_compiled_run_comes_to_the_same(mild, tmp_path):
    plain, _ = mild(tmp_path / "plain", epochs=2, network_arguments={"dropout": 0.0})
    fused, weights = mild(tmp_path / "fused", epochs=2, compiled=True, network_arguments={"dropout": 0.0})
    assert (plain["compiled"], fused["compiled"]) == (False, True)
    assert set(weights) == {f"layers.{i}.{part}" for i in (0, 3, 6) for part in ("weight", "bias")}
    assert fused["history"][-1]["train_loss"] == pytest.approx(plain["history"][-1]["train_loss"], rel=1e-3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="fp16 and the speed-ups of bf16 and torch.compile need a CUDA device")
@pytest.mark.parametrize(("precision", "compiled"), [("fp16", False), ("bf16", False), ("bf16", True)])
def test_a_gpu_trains_in_sixteen_bits_and_compiled(mild, tmp_path, precision, compiled):
    record, _ = mild(tmp_path, epochs=2, precision=precision, compiled=compiled, device="cuda")
    assert record["precision"] == precision
    assert record["history"][-1]["train_loss"] < record["history"][0]["train_loss"]


def test_bad_precision_is_said(tmp_path):
    with pytest.raises(UnknownName, match="Did you mean 'bf16'"):
        training.train("loan-mlp", out=tmp_path, precision="bf6")
    with pytest.raises(InvalidInput, match="fp16' needs a CUDA device"):
        training.train("loan-mlp", out=tmp_path, epochs=1, precision="fp16", **QUICK)


def test_l1_shrinks_matrices_by_rate_times_l1_to_zero_and_not_beyond():
    module = nn.Linear(3, 1)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[0.5, -0.02, -0.5]]))
        module.bias.fill_(0.01)
    optimizer = torch.optim.AdamW(descent.parameters(module, 0.0, 0.3), lr=0.1)
    descent.shrink(optimizer)
    assert torch.allclose(module.weight, torch.tensor([[0.47, 0.0, -0.47]]))
    assert module.weight[0, 1].item() == 0.0
    assert module.bias.item() == pytest.approx(0.01)


def test_l1_makes_a_network_sparse_and_l2_only_small(mild, tmp_path):
    small = {}
    for name, changes in {"none": {}, "l1": {"l1": 0.1}, "l2": {"decay": 3.0}}.items():
        _, weights = mild(tmp_path / name, epochs=20, **{"decay": 0.0, "rate": 5e-3, "average": 0.0, **changes})
        flat = torch.cat([tensor.ravel() for key, tensor in weights.items() if key.endswith("weight")])
        small[name] = float((flat == 0).float().mean()), float(flat.square().mean())
    assert small["l1"][0] > 0.3
    assert small["none"][0] == small["l2"][0] == 0
    assert small["l2"][1] < small["none"][1]


def test_the_rate_warms_up_and_then_falls():
    rates = [descent.schedule(share, 0.1) for share in np.linspace(0, 0.999, 1000)]
    top = int(np.argmax(rates))
    assert 95 <= top <= 105
    assert np.all(np.diff(rates[:top]) > 0) and np.all(np.diff(rates[top:]) < 0)
    assert rates[0] < 0.02 and rates[-1] < 0.02
    assert descent.schedule(0.0, 0.0) == 1.0


def test_clipping_bounds_the_gradient_of_a_step(mild, tmp_path, monkeypatch):
    norms = []
    real = torch.optim.AdamW.step

    def watched(self, *arguments, **options):
        norms.append(float(sum(p.grad.square().sum() for group in self.param_groups for p in group["params"]) ** 0.5))
        return real(self, *arguments, **options)

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    mild(tmp_path / "clipped", epochs=1, clip=0.05)
    clipped, norms[:] = max(norms), []
    mild(tmp_path / "free", epochs=1, clip=0.0)
    assert clipped <= 0.05 + 1e-5 < max(norms)
