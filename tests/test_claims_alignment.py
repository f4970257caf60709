"""The verdicts on alignment: what the rows say, no more, and never as if it were of the published model."""

import pytest

from bench import claims
from bench.claims.alignment import aligned, judge_alignment, time_to_reward
from bench.claims.verdict import NotJudgedError, Outcome
from bench.report import figures, sections


def interval(mean: float) -> dict:
    return {"mean": mean, "half_width": 0.01}


def row(method: str, mm_dist: float, r1: float = 0.5, fid: float = 1.0, seconds: float | None = 10.0, **case) -> dict:
    final = {"mm_dist": interval(mm_dist), "r1": interval(r1), "fid": interval(fid), "reward": interval(0.9)}
    final |= {name: interval(1.0) for name in ("r2", "r3", "diversity", "multimodality")}
    start, end = (
        {"trajectories": n, "cpu_seconds": 5.0 * n, "reward": 0.5 + n / 10, "r1": 0.4, "fid": 2.0} for n in (0, 2)
    )
    return {
        "schema": 1,
        "kind": "alignment",
        "case": {"method": method, "steps": 20, "batch": 16, "size": "full", "meter": "host", "id": method, **case},
        "status": "ok",
        "reason": None,
        "simulated": False,
        "settings": {},
        "environment": {"device": "a CPU", "torch": "2.13.0"},
        "alignment": {
            "lr": 1e-4,
            "at_edge": None,
            "seeds": [0, 1, 2],
            "curves": [[start, end]] * 3,
            "final": final,
            "base": final,
            "gain": final,
            "real": dict.fromkeys(final, 0.9),
            "hacked": [],
            "memory": {"peak": 2**27, "sampling": 2**25, "resident": 2**24},
            "to_reach": {"seconds": seconds, "trajectories": 2.0, "reward": 0.7, "note": None},
        },
    }


BASELINES = [row("draft", 2.0), row("alignprop", 2.0), row("drtune:k=4", 2.0)]


@pytest.mark.parametrize(
    ("easytune", "outcome"),
    [
        (row("easytune", 1.8, r1=0.6, fid=0.8), Outcome.HOLDS),
        (row("easytune", 1.8, r1=0.5, fid=1.0), Outcome.IN_PART),
        (row("easytune", 2.2, r1=0.4, fid=1.2), Outcome.FAILS),
        (row("easytune", 1.985, r1=0.515, fid=0.985), Outcome.FAILS),  # better, but within the intervals
    ],
)
def test_c4_needs_clear_differences(easytune, outcome):
    verdict = judge_alignment([*BASELINES, easytune])
    assert verdict.outcome is outcome
    assert "embedded world" in verdict.finding
    assert set(verdict.numbers["method"]) == {"draft", "alignprop", "drtune:k=4", "easytune"}


def test_the_full_size_counts_before_a_quick_look():
    quick = [row(method, 9.0, size="quick") for method in ("draft", "easytune")]
    assert aligned([*BASELINES, row("easytune", 1.0), *quick])["easytune"]["case"]["size"] == "full"
    assert aligned(quick)["easytune"]["case"]["size"] == "quick"
    with pytest.raises(NotJudgedError):
        aligned(BASELINES)


def test_c3_is_also_read_as_time_to_a_reward():
    found = time_to_reward([*BASELINES, row("easytune", 1.0, seconds=4.0)])
    assert found["times faster"] == pytest.approx(2.5)
    assert time_to_reward([*BASELINES, row("easytune", 1.0, seconds=None)])["times faster"] is None
    assert time_to_reward([]) is None


def test_the_report_draws_alignment_and_says_who_was_hacked():
    rows = [*BASELINES, row("easytune", 1.0)]
    rows[0]["alignment"]["hacked"] = ["fid"]
    for make, axes in ((sections.alignment, 2), (sections.paths, 2), (sections.pareto, 2)):
        section = make(rows)
        assert len(section.figure().axes) == axes
    assert "Reward hacking" in sections.paths(rows).see
    assert "FID" in sections.paths(rows).see
    assert sections.alignment([]).command == claims.ALIGN_COMMAND
    rows[0]["alignment"]["hacked"] = []
    assert "No method" in sections.paths(rows).see
    assert figures.pareto(rows) is not None
