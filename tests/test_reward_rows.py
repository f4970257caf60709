"""The reward's own training as rows: ids and refusals, what a simulated row tells, and which runs have such rows."""

from dataclasses import replace

import pytest
from bench_command import bench_here

from bench import step_time, tables
from bench.cases import Case
from bench.lane import Desk
from bench.memory import measure
from bench.records import RewardMemoryRecord, decode
from bench.records.make import to_json
from bench.report.sections.reward_training import reward_training
from bench.reward_cases import RewardCase, memory_matrix
from methods.errors import InputError
from methods.rollout import PHASES

TINY = RewardCase(reward="spm-tiny", batch=12, frames=16)


@pytest.fixture(scope="module")
def rows() -> dict[str, RewardMemoryRecord]:
    """By training: simulated, as they are read back."""
    cases = [TINY, replace(TINY, spl=True), replace(TINY, spl=True, pool=48)]
    return {case.method: decode(to_json(measure(case))) for case in cases}


def test_ids_tell_the_cases_apart():
    assert [case.id for case in memory_matrix()] == [
        "reward-mld-B64-F196-paper-simulated",
        "reward-spl-mld-B64-F196-paper-simulated",
        "reward-spl-pool256-mld-B64-F196-paper-simulated",
    ]
    assert replace(TINY, seed=3).id == "reward-mld-tiny-B12-F16-paper-seed3-simulated"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"reward": "mdm"}, "unknown reward 'mdm'"),
        ({"meter": "tape"}, "unknown meter 'tape'"),
        ({"batch": 0}, "batch must be at least 1"),
        ({"frames": 500}, "frames 1 to 499"),
        ({"profile": "frozen"}, "a frozen reward cannot be trained"),
        ({"pool": 64}, "a pool is SPL's"),
        ({"spl": True, "pool": 32}, "holds the batch's 64 motions: 32 is none"),
        ({"spl": True, "batch": 4}, "SPL needs 10 motions in its pool, not 4"),
    ],
)
def test_cases_of_no_use(options, said):
    with pytest.raises(InputError, match=f"^[^\n]*{said}[^\n]*$"):
        RewardCase(**options)


def test_a_row_is_like_every_other(rows):
    """Phases and categories of a whole step, adding up; a kind of its own, so that no claim or gate takes it for one
    of a method."""
    for row in rows.values():
        assert (row.kind, row.status) == ("reward_memory", "ok")
        assert "plan" not in to_json(row)
        reading = row.reading
        assert reading.peak == sum(reading.categories.values()) == sum(owner.bytes for owner in reading.owners)
        assert reading.peak == max(reading.phases.values())
        assert [phase for phase in PHASES if not reading.phases[phase]] == ["rollout"]
        assert reading.sampling > reading.resident > reading.parameters > 0
        assert reading.optimiser_state > reading.parameters


def test_spl_over_the_batch_is_nearly_free_and_a_pool_is_not(rows):
    """The pool's further motions go through the encoder; the decoder, which reads the pairs alone, is as before."""
    plain, spl, pool = (row.reading for row in rows.values())
    assert plain.peak <= spl.peak < 1.01 * plain.peak
    assert pool.peak > 1.3 * spl.peak


def test_the_simulation_equals_a_real_run():
    """Without dropout, which the CPU composes otherwise."""
    case = replace(TINY, spl=True, profile="paper+train_mode=false")
    simulated, real = (measure(replace(case, meter=meter)).reading for meter in ("simulated", "host"))
    assert simulated.peak == real.peak
    assert simulated.resident == real.resident


def test_steps_are_timed_as_updates_are(tmp_path):
    """Interleaved with a method's; one optimiser step an update."""
    cases = [Case("refl:m=2", "mld-tiny", steps=2, batch=2, frames=8, meter="host"), replace(TINY, meter="host")]
    beside, row = step_time.measure(cases, 2, Desk(tmp_path, print, print))
    assert beside.ok
    assert (row.kind, row.status) == ("reward_step_time", "ok")
    timing = row.timing
    assert timing.per_update == timing.per_optimiser_step
    assert timing.per_sample.median == pytest.approx(timing.per_update.median / 12)


def test_long_updates_are_timed_twice_where_nobody_says_how_often(tmp_path, monkeypatch):
    cases = [replace(TINY, meter="host"), Case("refl:m=2", "mld-tiny", steps=2, batch=2, frames=8, meter="host")]
    monkeypatch.setattr(step_time, "_timed", lambda run: 12.0 if run.case is cases[0] else 9.0)
    rounds = {}
    for asked in (None, 3):
        (folder := tmp_path / str(asked)).mkdir()
        desk = Desk(folder, print, print)
        rounds[asked] = [row.timing.rounds for row in step_time.measure(cases, asked, desk)]
    assert rounds == {None: [2, 3], 3: [3, 3]}


def test_the_table_and_the_section(rows):
    frame = tables.reward_training([*rows.values(), measure(Case("refl:m=2", "mld-tiny", steps=2, batch=2, frames=8))])
    assert list(frame["training"]) == ["reward", "reward:spl", "reward:spl,pool=48"]
    more = (rows["reward:spl"].reading.peak - rows["reward"].reading.peak) / 2**20
    assert f"by {more:+.2f} MiB" in reward_training(list(rows.values())).see
    assert reward_training([]).command


@pytest.mark.parametrize(("options", "count"), [([], 3), (["--matrix", "gate"], 0), (["--method", "refl"], 0)])
def test_they_are_rows_of_the_default_matrix_alone(options, count):
    listed = bench_here("-m", "memory", "--collect-only", *options).stdout
    assert listed.count("test_memory[reward-") == count
