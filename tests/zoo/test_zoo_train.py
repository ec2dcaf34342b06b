"""The training loop: reproducible, resumable after a kill, nothing half-written, errors that say what to do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import zoo
from explainer.errors import Cancelled, CorruptFile, ExplainerError, InvalidInput, UnknownName, Unsupported
from zoo import baselines, checkpoint
from zoo import train as training
from zoo.specimens import RECIPES

QUICK = {"progress": False, "log": False, "device": "cpu"}


@pytest.fixture(scope="module")
def small():
    """A third of the vowels, so that a run takes a second or two."""
    data = RECIPES["vowels-rnn"].data()
    import dataclasses

    return dataclasses.replace(data, train=data.train.take(np.arange(0, len(data.train), 3)), test=data.test.take(np.arange(0, 370, 3)))


@pytest.fixture(scope="module")
def whole(small, tmp_path_factory):
    """An uninterrupted run of three epochs."""
    folder = tmp_path_factory.mktemp("whole")
    return training.train("vowels-rnn", out=folder, epochs=3, data=small, **QUICK), folder


def timeless(record):
    return {key: value for key, value in record.items() if key != "seconds"}


def stop_after(steps):
    def progress(done, total):
        if done >= steps:
            raise KeyboardInterrupt

    return progress


def wait_for_epoch(folder, epoch, process):
    deadline = time.monotonic() + 120
    while checkpoint.epoch(folder / checkpoint.NAME) < epoch and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)


def test_a_run_leaves_weights_record_card_and_nothing_else(whole):
    record, folder = whole
    assert {path.name for path in folder.iterdir()} == {"model.safetensors", "preprocess.json", "background.json", "record.json", "card.md"}
    assert json.loads((folder / "record.json").read_text()) == record
    specimen = zoo.load("vowels-rnn", folder)
    assert specimen.record["epochs"] == 3
    assert [row["epoch"] for row in specimen.record["history"]] == [1, 2, 3]


def test_training_learns(whole):
    record, _ = whole
    losses = [row["train_loss"] for row in record["history"]]
    assert losses[-1] < losses[0]
    assert record["metrics"]["accuracy"]["low"] > 1 / 9


def test_the_same_seed_gives_the_same_run_and_another_seed_another(whole, small, tmp_path):
    again = training.train("vowels-rnn", out=tmp_path / "a", epochs=3, data=small, **QUICK)
    assert timeless(again) == timeless(whole[0])
    other = training.train("vowels-rnn", out=tmp_path / "b", epochs=3, data=small, seed=1, **QUICK)
    assert other["weights_sha256"] != whole[0]["weights_sha256"]


def test_a_teacher_takes_its_share_of_each_label(small, monkeypatch):
    import dataclasses

    sure = np.arange(9) == 4
    monkeypatch.setattr(training.baselines, "unseen", lambda teacher, data: np.tile(sure, (len(data.train), 1)).astype(float))
    chosen = dataclasses.replace(RECIPES["vowels-rnn"], epochs=1, teacher="zoo.baselines:padded", taught=0.25)
    run, _ = training.fit(chosen, small)
    assert np.allclose(run.labels, 0.75 * np.eye(9)[small.train.labels] + 0.25 * sure)
    wholly = training.fit(dataclasses.replace(chosen, epochs=8, taught=1.0), small)
    assert (run.predict(wholly[1].module, wholly[1].weights(), small.test).argmax(1) == 4).all()


def test_what_was_measured_apart_outlives_a_new_run_on_the_same_data_alone(small, tmp_path):
    import dataclasses

    training.train("vowels-rnn", out=tmp_path, epochs=1, data=small, **QUICK)
    path = tmp_path / "record.json"
    measured = {"unheard_speakers": {"one": {"rows": 1, "accuracy": {"value": 1.0, "low": 1.0, "high": 1.0}}}, "distillation": {}}
    path.write_text(json.dumps(json.loads(path.read_text()) | measured))
    again = training.train("vowels-rnn", out=tmp_path, epochs=2, data=small, **QUICK)
    assert again["unheard_speakers"] == measured["unheard_speakers"] == json.loads(path.read_text())["unheard_speakers"]
    assert "distillation" not in again  # it is about the weights that are gone
    other = dataclasses.replace(small, test=small.test.take(np.arange(60)))
    assert "unheard_speakers" not in training.train("vowels-rnn", out=tmp_path, epochs=1, data=other, **QUICK)


def test_an_interrupted_run_goes_on_to_the_same_result(whole, small, tmp_path):
    steps = -(-len(small.train) // RECIPES["vowels-rnn"].batch)
    with pytest.raises(Cancelled, match=r"Stopped\. Kept: .*epoch 1 of 3\).*goes on from there"):
        training.train("vowels-rnn", out=tmp_path, epochs=3, data=small, **{**QUICK, "progress": stop_after(steps + 1)})
    assert {path.name for path in tmp_path.iterdir()} == {checkpoint.NAME}
    resumed = training.train("vowels-rnn", out=tmp_path, epochs=3, data=small, **QUICK)
    assert timeless(resumed) == timeless(whole[0])
    assert not (tmp_path / checkpoint.NAME).exists()


def test_interrupted_before_the_first_epoch_nothing_was_kept(small, tmp_path):
    with pytest.raises(Cancelled, match="nothing was kept"):
        training.train("vowels-rnn", out=tmp_path, epochs=3, data=small, **{**QUICK, "progress": stop_after(1)})


def test_a_killed_process_resumes_to_the_same_weights(tmp_path, monkeypatch):
    """SIGKILL in the middle; then the same call runs to the end, and equals a run that was never killed."""
    killed, never = tmp_path / "killed", tmp_path / "never"
    code = "import sys, torch; torch.set_num_threads(1); from zoo.train import train; "
    code += "train('loan-mlp', out=sys.argv[1], epochs=12, progress=False, log=False, device='cpu')"
    process = subprocess.Popen([sys.executable, "-c", code, str(killed)])
    wait_for_epoch(killed, 2, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed / "record.json").exists(), "the run ended before it was killed"
    assert 2 <= checkpoint.epoch(killed / checkpoint.NAME) < 12
    monkeypatch.setattr(baselines, "boosting", lambda data: ("none", lambda frame: np.full((len(frame), 2), 0.5)))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for folder in (killed, never):
            training.train("loan-mlp", out=folder, epochs=12, **QUICK)
    finally:
        torch.set_num_threads(threads)
    for name in ("model.safetensors", "preprocess.json", "background.json"):
        assert (killed / name).read_bytes() == (never / name).read_bytes(), name


def test_a_checkpoint_of_another_run_is_refused(small, tmp_path):
    """Whatever the record says of how the weights were made must have been so from the first epoch."""
    with pytest.raises(Cancelled):
        training.train("vowels-rnn", out=tmp_path, epochs=3, data=small, **{**QUICK, "progress": stop_after(4)})
    assert checkpoint.epoch(tmp_path / checkpoint.NAME) == 1
    for name, value in {"seed": 1, "precision": "bf16", "compiled": True}.items():
        with pytest.raises(InvalidInput, match=rf"its {name} is not this one's.*--fresh"):
            training.train("vowels-rnn", out=tmp_path, epochs=3, data=small, **{name: value}, **QUICK)
    made = [training.Run(RECIPES["vowels-rnn"], small, None, tmp_path, 0, 3, processes=n) for n in (1, 2)]
    assert made[0].identity != made[1].identity
    assert training.train("vowels-rnn", out=tmp_path, epochs=1, data=small, seed=1, resume=False, **QUICK)["seed"] == 1


def test_a_damaged_checkpoint_is_said(small, tmp_path):
    (tmp_path / checkpoint.NAME).write_bytes(b"not a checkpoint")
    with pytest.raises(CorruptFile, match="not a readable checkpoint"):
        training.train("vowels-rnn", out=tmp_path, epochs=1, data=small, **QUICK)


def test_a_full_disk_leaves_the_old_weights(whole, small, tmp_path, monkeypatch):
    for path in whole[1].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    real = training.write_atomic

    def full(path, write):
        if path.name == ".record.json.new":
            raise OSError(28, "No space left on device")
        real(path, write)

    monkeypatch.setattr(training, "write_atomic", full)
    with pytest.raises(ExplainerError, match=r"No space left on device.*untouched.*Kept: .*checkpoint"):
        training.train("vowels-rnn", out=tmp_path, epochs=1, seed=5, data=small, **QUICK)
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {checkpoint.NAME}
    assert zoo.load("vowels-rnn", tmp_path).model is not None


def test_random_state_and_accelerate_are_as_they_were(small, tmp_path):
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    training.train("vowels-rnn", out=tmp_path, epochs=1, data=small, **QUICK)
    assert torch.equal(torch.rand(3), expected)
    from accelerate.state import AcceleratorState

    assert not AcceleratorState._shared_state


def test_training_stops_when_validation_no_longer_improves(small, tmp_path, monkeypatch):
    import dataclasses

    monkeypatch.setitem(RECIPES, "vowels-rnn", dataclasses.replace(RECIPES["vowels-rnn"], patience=2, rate=0.0))
    record = training.train("vowels-rnn", out=tmp_path, epochs=9, data=small, **QUICK)
    assert record["epochs"] == record["best_epoch"] + 2 < 9


def test_tensorboard_gets_the_history(small, tmp_path):
    training.train("vowels-rnn", out=tmp_path / "out", epochs=1, data=small, **{**QUICK, "log": tmp_path / "log"})
    assert list((tmp_path / "log" / "vowels-rnn").rglob("events.out.tfevents.*"))


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"name": "vowel-rnn"}, UnknownName, "Did you mean 'vowels-rnn'"),
        ({"name": "vowels-rnn", "device": "gpu"}, UnknownName, "cuda"),
        ({"name": "vowels-rnn", "epochs": 0}, InvalidInput, "epochs must be a whole number from 1 .*; 0 came"),
        ({"name": "vowels-rnn", "epochs": 1.5}, InvalidInput, "epochs must be a whole number.*1.5 came"),
        ({"name": "breast-forest", "seed": -1}, InvalidInput, "seed must be a whole number from 0 to 4,294,967,295; -1 came"),
        ({"name": "breast-mlp", "seed": 2**63 - 1}, InvalidInput, "seed must be a whole number from 0 to 4,294,967,295"),
        ({"name": "planted-linear", "epochs": 3}, Unsupported, "planted-linear is built as it stands.* so epochs would do nothing"),
        ({"name": "imagenet-lite0", "epochs": 2}, Unsupported, "imagenet-lite0 is built as it stands"),
        ({"name": "breast-forest", "device": "cuda", "precision": "fp16"}, Unsupported, "fitted by scikit-learn.*device and precision"),
        ({"name": "breast-forest", "compiled": True, "log": "log"}, Unsupported, "compiled and log would do nothing. Leave that out"),
    ],
)
def test_bad_arguments_are_said(arguments, error, says, tmp_path):
    with pytest.raises(error, match=says):
        training.train(**arguments, out=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_cuda_without_a_device_is_said(small, tmp_path):
    with pytest.raises(InvalidInput, match="no CUDA device"):
        training.train("vowels-rnn", out=tmp_path, data=small, **{**QUICK, "device": "cuda"})


def application():
    import typer

    from zoo import cli

    app = typer.Typer()
    app.command("train")(cli.train)
    app.command("models")(cli.models)
    return app


def test_command_line_trains_into_the_folder_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    result = CliRunner().invoke(application(), ["train", "loan-mlp", "--epochs", "1", "--json", "--log", "log"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["epochs"] == 1
    assert (tmp_path / "runs" / "loan-mlp" / "model.safetensors").exists()


def test_command_line_says_what_is_wrong_and_exits_with_2():
    result = CliRunner().invoke(application(), ["train", "loan-mpl"])
    assert result.exit_code == 2
    assert "Did you mean 'loan-mlp'" in result.output


def test_a_run_is_held_against_the_packaged_figure_and_its_exit_code_tells(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    again = CliRunner().invoke(application(), ["train", "planted-linear", "--check"])
    assert again.exit_code == 0
    known = zoo.load("planted-linear").record["metrics"]["accuracy"]
    assert f"Check: accuracy {known['value']:.3f} is within the packaged specimen's" in again.stdout
    short = CliRunner().invoke(application(), ["train", "vowels-rnn", "--epochs", "1", "--log", "log", "--json", "--check"])
    assert short.exit_code == 1
    value = json.loads(short.stdout)["metrics"]["accuracy"]["value"]
    assert value < zoo.load("vowels-rnn").record["metrics"]["accuracy"]["low"]
    assert f"Check: accuracy {value:.3f} is OUTSIDE the packaged specimen's" in short.stderr


@pytest.mark.parametrize(("value", "inside"), [(0.79, False), (0.8, True), (0.85, True), (0.9, True), (0.91, False)])
def test_within_the_interval_is_from_its_lower_to_its_upper_end(value, inside):
    from zoo.cli import held

    def of(middle):
        return {"metric": "accuracy", "metrics": {"accuracy": {"value": middle, "low": 0.8, "high": 0.9}}}

    assert held(of(value), of(0.85))[0] is inside


def test_the_largest_seed_trains(small, tmp_path):
    assert (
        training.train("vowels-rnn", out=tmp_path, epochs=np.int64(1), data=small, seed=np.int64(2**32 - 1), **QUICK)["seed"] == 2**32 - 1
    )


def test_command_line_refuses_an_option_that_would_do_nothing(tmp_path):
    result = CliRunner().invoke(application(), ["train", "planted-linear", "--epochs", "3", "--out", str(tmp_path / "out")])
    assert result.exit_code == 2 and "epochs would do nothing" in result.output
    assert not (tmp_path / "out").exists()


def test_command_line_lists_the_models_with_their_figures():
    result = CliRunner().invoke(application(), ["models", "--json"])
    rows = {row["model"]: row for row in json.loads(result.stdout)}
    assert set(rows) == {f"zoo:{name}" for name in zoo.names()}
    assert rows["zoo:vowels-rnn"]["value"]["value"] == zoo.load("vowels-rnn").record["metrics"]["accuracy"]["value"]
    assert "zoo:loan-mlp" in CliRunner().invoke(application(), ["models"]).stdout


def test_ctrl_c_says_what_was_kept_and_exits_with_130(tmp_path):
    code = "import typer; from zoo.cli import train; typer.run(train)"
    arguments = [
        sys.executable,
        "-c",
        code,
        "loan-mlp",
        "--out",
        str(tmp_path),
        "--epochs",
        "150",
        "--log",
        str(tmp_path / "log"),
        "--json",
    ]
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    wait_for_epoch(tmp_path, 2, process)
    process.send_signal(signal.SIGINT)
    _, shown = process.communicate(timeout=60)
    assert process.returncode == 130, shown
    assert "Stopped. Kept:" in shown
    assert not (tmp_path / "model.safetensors").exists()
