"""Shards on Ray."""

from __future__ import annotations

import pytest

from interp.errors import InputError, InterpError
from interp.sweeps.engines import actors
from tests.interp.sweeps.drivers import assert_same, start
from tests.interp.sweeps.stubs import Deadly, tasks_of


def test_actors_that_die_are_replaced_and_errors_come_back(cluster, tmp_path):
    work = Deadly(str(tmp_path))
    done = list(actors.run(work, tasks_of("easy", "once deadly", "easy"), 2))
    assert sorted(one.name for one in done) == [f"shard{number}" for number in range(3)]
    assert work.n_threads == 1
    with pytest.raises(InputError, match="shard1"):
        list(actors.run(work, tasks_of("easy", "refused"), 1))
    with pytest.raises(InterpError, match="3 workers died over the shard of prompts 0 to 0"):
        list(actors.run(work, tasks_of("deadly"), 1))


def test_more_gpus_than_a_machine_has_are_refused(cluster):
    with pytest.raises(InputError, match=r"num_gpus=2: no machine of this Ray cluster has as many \(the most is 0\)"):
        next(actors.run(Deadly("x"), tasks_of("easy"), 1, num_gpus=2))


@pytest.mark.slow
def test_ray_begins_by_itself_and_gives_the_rows_of_one_process(model_path, prompts, tmp_path, undisturbed):
    process = start(model_path, prompts, tmp_path, executor="ray", workers=2)
    process.join()
    assert process.exitcode == 0
    assert_same(tmp_path, undisturbed)
