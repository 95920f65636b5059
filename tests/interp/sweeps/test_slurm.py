"""Shards as submitit's jobs, here as processes of this machine."""

from __future__ import annotations

from functools import partial
from unittest.mock import Mock

import cloudpickle
import pytest
import submitit

import interp
from interp.errors import InputError, InterpError
from interp.sweeps.engines import jobs
from interp.sweeps.shard import Done, Task
from interp.sweeps.work import Work
from tests.interp.sweeps.drivers import assert_same, sweep
from tests.interp.sweeps.stubs import KeptBy, tasks_of


@pytest.fixture
def on_this_machine(monkeypatch):
    """Jobs of submitit as processes of this machine, be Slurm here or not."""
    monkeypatch.setattr(submitit, "AutoExecutor", partial(submitit.AutoExecutor, cluster="local"))
    monkeypatch.setattr(jobs, "_PAUSE", 0.2)
    monkeypatch.setattr(submitit.LocalJob, "_results_timeout_s", 1)  # 15 are for a disk that several machines share


@pytest.mark.slow
def test_jobs_give_the_rows_of_one_process(model_path, prompts, tmp_path, undisturbed, on_this_machine):
    done = sweep(model_path, prompts, tmp_path, executor="submitit", workers=2)
    assert done.status()["shards_done"] > 10
    assert_same(tmp_path, undisturbed)
    assert list((tmp_path / ".submitit").iterdir())


def test_a_job_that_is_asked_for_again_computes_what_is_left(model_path, prompts, subject, tmp_path):
    """`checkpoint` is what submitit calls when a job runs out of time."""
    (tmp_path / "rows").mkdir()
    done = sweep(subject, prompts, tmp_path / "rows")
    work = replace_work(subject, done)
    tasks = [Task(shard, [prompts[number] for number in shard.prompt_ids]) for shard in done._shards[:3]]
    again = jobs.Job(work, tasks).checkpoint()
    assert again.function() == []
    victim = next((tmp_path / "rows").glob(f"*{tasks[1].shard.name}.parquet"))
    victim.unlink()
    monkey = Mock(return_value=Done(tasks[1].shard.name))
    work.attempt = monkey
    assert again.function() == [Done(tasks[1].shard.name)]
    monkey.assert_called_once_with(tasks[1])


def replace_work(subject, done):
    facts = done.provenance
    return Work(
        "logit_lens", subject, {}, {"targets": "argmax"}, facts["run_id"], facts["fingerprint"], done.out,
        done._manifest.kept_as, facts["parameters"], 1 << 30,
    )  # fmt: skip


@pytest.fixture
def sent_whole():
    """Remote runs register the workbench, whose code then goes with what is pickled."""
    registered = "interp" in cloudpickle.list_registry_pickle_by_value()
    cloudpickle.register_pickle_by_value(interp)
    yield
    if not registered:
        cloudpickle.unregister_pickle_by_value(interp)


def test_a_job_that_dies_is_told_of_and_others_go_on(tmp_path, on_this_machine, sent_whole):
    (tmp_path / "rows").mkdir()
    work = KeptBy(str(tmp_path), out=str(tmp_path / "rows"))
    found = jobs.run(work, tasks_of("deadly", "easy"), 2, logs=str(tmp_path / "logs"), slurm={"timeout_min": 1})
    assert next(found).name == "shard1"
    with pytest.raises(InterpError, match=r"a job ended too soon: .*; its logs are in .*, and the same call goes on"):
        list(found)


def test_what_submitit_refuses_is_said(tmp_path, on_this_machine):
    with pytest.raises(InputError, match=r"slurm=\{'slurm_partitoin': 'gpu'\}: submitit refuses it: Unknown argument"):
        next(jobs.run(KeptBy("x"), tasks_of("easy"), 1, logs=str(tmp_path), slurm={"slurm_partitoin": "gpu"}))
