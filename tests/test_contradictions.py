"""Rows whose every field is right by itself, and which no measurement could have written: refused by row and field."""

import json
import re

import made_studies
import pytest
from sample_rows import committed, kind_of, today

from bench import records
from bench.records.make import to_json


def _first(values: dict) -> list:
    return next(iter(values.values()))


def _ranks(reward: dict) -> dict:
    return reward["retrieval"]["all"]["text_to_motion"]


AGAINST = {"revision": "x", "ratio": 1.0, "ratio_of_fastest": 1.0, "ratios": [1.0]}
CONTRADICTIONS = {
    "a phase that is missing": ("memory", lambda row: row["reading"]["phases"].pop("decode")),
    "a phase of another name": ("memory", lambda row: row["reading"]["phases"].update(dreaming=1)),
    "a peak below its parts": ("memory", lambda row: row["reading"].update(peak=row["reading"]["resident"])),
    "a peak of 0": (
        "memory",
        lambda row: row["reading"].update(
            peak=0, resident=0, phases=dict.fromkeys(row["reading"]["phases"], 0), owners=[]
        ),
    ),
    "a category that is missing": ("memory", lambda row: row["reading"]["categories"].pop("other")),
    "a split without a phase": ("memory", lambda row: row["reading"]["split"].pop("reward")),
    "an owner of no phase": ("memory", lambda row: row["reading"]["owners"][0].update(phase="dreaming")),
    "a phase of the time line that is none": ("memory", lambda row: row["reading"]["timeline"][0].__setitem__(2, "x")),
    "no figures": ("memory", lambda row: row.update(reading=None)),
    "no plan": ("memory", lambda row: row.update(plan=None)),
    "figures of a row that failed": ("memory", lambda row: row.update(status="failed", reason="it did")),
    "another method than its id": ("memory", lambda row: row["case"].update(method="refl")),
    "another id than its case": ("memory", lambda row: row["case"].update(id="draft-mld-T50-B256-F196-paper-host")),
    "a simulated row of a device": ("memory", lambda row: row.update(simulated=not row["simulated"])),
    "more calls than its grid": ("memory", lambda row: row["plan"].update(calls=row["plan"]["calls"] + 1)),
    "an update less than its grid": ("step_time", lambda row: row["plan"].update(grid=row["plan"]["grid"][:-1] + "S")),
    "a grid with other marks": ("memory", lambda row: row["plan"].update(grid="x" + row["plan"]["grid"][1:])),
    "a plan of other steps": ("memory", lambda row: row["plan"].update(total=7)),
    "more calls held than recorded": ("memory", lambda row: row["plan"].update(held=1000)),
    "no call held": ("memory", lambda row: row["plan"].update(held=0)),
    "draws that fall": ("memory", lambda row: row["plan"]["held_over_draws"].update(most=0)),
    "a pool of another id": ("reward_memory", lambda row: row["case"].update(method="reward:spl,pool=7")),
    "more rounds than times": ("step_time", lambda row: row["timing"].update(rounds=99)),
    "an update in no time": ("step_time", lambda row: row["timing"]["per_update"].update(median=0.0)),
    "a median above the most": ("step_time", lambda row: row["timing"]["per_update"].update(max=1e-9, min=1e-9)),
    "ratios of other rounds": (
        "step_time",
        lambda row: row["timing"].update(against=AGAINST),
    ),
    # Alignment.
    "a device that its id does not name": ("alignment", lambda row: row["case"].update(device="cuda")),
    "of the CPU and of CUDA": ("alignment", lambda row: row["environment"].update(cuda="13.0")),
    "a seed less": ("alignment", lambda row: row["alignment"]["finals"].pop()),
    "no seeds": (
        "alignment",
        lambda row: row["alignment"].update(seeds=[], curves=[], finals=[], bases=[]),
    ),
    "another method": ("alignment", lambda row: row["alignment"].update(method="refl")),
    "a curve of no points": ("alignment", lambda row: row["alignment"]["curves"][1].clear()),
    "a curve without its end": ("alignment", lambda row: row["alignment"]["curves"][1].pop()),
    "a point measured twice": (
        "alignment",
        lambda row: [curve.insert(0, curve[0]) for curve in row["alignment"]["curves"]],
    ),
    "seconds that stand still": (
        "alignment",
        lambda row: [point.update(cpu_seconds=1.0) for point in row["alignment"]["curves"][0]],
    ),
    "points of other figures": ("alignment", lambda row: row["alignment"]["curves"][0][0]["metrics"].pop("fid")),
    "a figure of no name": ("alignment", lambda row: row["alignment"]["finals"][0].update(beauty=1.0)),
    "a figure that is missing": ("alignment", lambda row: row["alignment"]["bases"][0].pop("mm_dist")),
    "an interval that is missing": ("alignment", lambda row: row["alignment"]["gain"].pop("reward")),
    "an interval without a mean": ("alignment", lambda row: row["alignment"]["gain"]["fid"].update(mean=None)),
    "a rate that was not tried": ("alignment", lambda row: row["alignment"].update(lr=0.5)),
    "a rate that is not in the grid": ("alignment", lambda row: row["alignment"]["grid"].clear()),
    "an edge that is none": ("alignment", lambda row: row["alignment"].update(at_edge="x")),
    "a peak of 0 bytes": ("alignment", lambda row: row["alignment"]["memory"].update(peak=0, resident=0)),
    "a motion of half a frame": ("alignment", lambda row: _motion(row).update(tuned=_motion(row)["tuned"][:100])),
    "a motion of no frame": ("alignment", lambda row: _motion(row).update(real="")),
    "a motion of no kind": ("alignment", lambda row: _motion(row).update(kind="dance")),
    "two motions of a kind": ("alignment", lambda row: row["alignment"]["motions"].append(_motion(row))),
    # Studies of the base model.
    "a study under another name": ("chain", lambda row: row["case"].update(name="noise", id="noise")),
    "an id of another study": ("chain", lambda row: row["case"].update(id="similarity")),
    "a step less": ("chain", lambda row: row["study"]["coefficient"].pop()),
    "no steps": ("similarity", lambda row: [values.clear() for values in _lists(row)]),
    "other steps than its case": ("noise", lambda row: row["case"].update(steps=7)),
    "no gradient": ("chain", lambda row: row["study"].update(stepwise=[0.0] * len(row["study"]["stepwise"]))),
    "a norm below 0": ("chain", lambda row: row["study"]["through_chain"].__setitem__(0, -1.0)),
    "other motions that are equal": ("similarity", lambda row: row["study"]["other"].__setitem__(3, 1.0)),
    # Studies that train.
    "a training that is 0": ("spl", lambda row: _first(row["study"]["rewards"])[0].update(training=0)),
    "a training that is a list": ("spl", lambda row: _first(row["study"]["rewards"])[0].update(training=[])),
    "an arm that is missing": ("spl", lambda row: row["study"]["rewards"].pop("control")),
    "an arm of another name": ("retrieval", lambda row: _renamed(row["study"]["rewards"], "k1")),
    "an arm of fewer seeds": ("retrieval", lambda row: row["study"]["rewards"]["spl"].pop()),
    "arms of no seeds": ("retrieval", lambda row: [arm.clear() for arm in row["study"]["rewards"].values()]),
    "more seeds than intervals are known for": (
        "retrieval",
        lambda row: [arm.extend([arm[0]] * 10) for arm in row["study"]["rewards"].values()],
    ),
    "no pairs with SPL": ("spl", lambda row: row["study"]["rewards"]["spl"][0]["training"].update(mined=None)),
    "pairs without SPL": ("spl", lambda row: row["study"]["rewards"]["control"][0]["training"].update(mined=0.5)),
    "levels where there are none": (
        "spl",
        lambda row: (arm := row["study"]["rewards"]["k1"][0])["levels"].append(arm["retrieval"]),
    ),
    "a rank that is missing": ("spl", lambda row: _ranks(row["study"]["rewards"]["k1"][0]).pop("R@1")),
    "a recall above 100%": ("spl", lambda row: _ranks(row["study"]["rewards"]["k1"][0]).update({"R@1": 101.0})),
    "a rank of 0": ("spl", lambda row: _ranks(row["study"]["rewards"]["k1"][0]).update(MedR=0.0)),
    "a direction that is missing": (
        "spl",
        lambda row: row["study"]["rewards"]["k1"][0]["retrieval"]["pools"].pop("motion_to_text"),
    ),
    "no pools of many": ("spl", lambda row: row["study"]["rewards"]["k1"][0]["retrieval"].update(pools=None)),
    "runs under another arm": ("spl", lambda row: _renamed(row["study"]["runs"], "control")),
    "a run less": ("spl", lambda row: row["study"]["runs"]["spl"].pop()),
    "a base less": ("spl", lambda row: row["study"]["base"].pop()),
    "a run without its reward": ("spl", lambda row: row["study"]["base"][0].pop("reward")),
    "a window less": ("windows", lambda row: row["study"]["windows"].pop()),
    "a window of no steps": ("windows", lambda row: row["study"]["windows"].__setitem__(1, [5, 5])),
    "a window of other steps": ("windows", lambda row: row["study"]["windows"].__setitem__(1, [15, 25])),
    "a score of another name": ("windows", lambda row: _renamed(row["study"]["runs"], "noisy")),
    "a run less in a window": ("windows", lambda row: row["study"]["runs"]["noisy"][2].pop()),
    "a level less": ("windows", lambda row: row["study"]["rewards"]["clean"][0]["levels"].pop()),
    "a reward less than of clean motion": ("windows", lambda row: row["study"]["rewards"]["aware"].pop()),
    "no levels": (
        "windows",
        lambda row: [
            row["study"]["levels"].clear(),
            *(reward["levels"].clear() for seeds in row["study"]["rewards"].values() for reward in seeds),
        ],
    ),
    "a noise of another name": ("feature_noise", lambda row: _renamed(row["study"]["rewards"]["aware"], "states")),
    "a reward less": ("feature_noise", lambda row: row["study"]["rewards"]["aware"]["features"].pop()),
    "levels that fall": ("feature_noise", lambda row: row["study"]["levels"].reverse()),
    "a method of another name": ("strength", lambda row: _renamed(row["study"]["rewards"][0]["runs"], "draft:k=10")),
    "no rewards": ("strength", lambda row: row["study"]["rewards"].clear()),
    "no methods": ("strength", lambda row: [of["runs"].clear() for of in (*row["study"]["rewards"], _own(row))]),
    "a reward of no share": ("strength", lambda row: row["study"]["rewards"][0].update(share=None)),
    "a share of the world's own": ("strength", lambda row: _own(row).update(share=0.5)),
    "no long runs": ("gaming", lambda row: row["study"]["runs"].clear()),
    "a long run less": ("gaming", lambda row: row["study"]["runs"][1]["curves"].pop()),
    "a long run twice": ("gaming", lambda row: row["study"]["runs"].append(row["study"]["runs"][0])),
    "a point less": ("gaming", lambda row: row["study"]["runs"][1]["curves"][1].pop(0)),
    "no settings": ("settings", lambda row: row["study"]["runs"].clear()),
    "a run less under a setting": ("settings", lambda row: row["study"]["runs"][1]["runs"].pop()),
    "a method twice under a setting": ("settings", lambda row: row["study"]["runs"][1].update(method="draft")),
    "a run of a setting without its reward": ("settings", lambda row: row["study"]["runs"][0]["runs"][0].pop("reward")),
    "a figure that overflows": ("gaming", lambda row: row["study"]["runs"][0]["curves"][0][0].update(updates=1e308)),
}


def _motion(row: dict) -> dict:
    return row["alignment"]["motions"][0]


def _own(row: dict) -> dict:
    return row["study"]["own"]


def _lists(row: dict) -> list[list]:
    return [values for values in row["study"].values() if isinstance(values, list)]


def _renamed(values: dict, name: str) -> None:
    values["another"] = values.pop(name)


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_what_no_measurement_could_have_written_is_refused_by_row_and_field(name):
    kind, edit = CONTRADICTIONS[name]
    rows = (*committed(), to_json(made_studies.settings()))
    row = next(today(row) for row in rows if kind in kind_of(row))
    row = json.loads(json.dumps(row))
    records.decode(row)
    edit(row)
    with pytest.raises(records.RecordError) as refused:
        records.decode(row, "run.json")
    assert re.fullmatch(
        r"run\.json has a record, \S+, (whose field \w|(of the CPU )?with |that is wrong).*: "
        r"it was edited( or cut)?, run .*",
        str(refused.value),
    )
