"""The studies of the base model."""

from collections.abc import Callable

from matplotlib.figure import Figure

from bench import claims
from bench.claims.verdict import NotJudgedError
from bench.records import StudyRecord
from bench.report import figures
from bench.report.sections.section import Records, Section


def chain(records: Records) -> Section:
    return _study(records, "chain", "The gradient along the chain", claims.base_model.judge_chain, figures.chain)


def similarity(records: Records) -> Section:
    title = "What the reward sees under noise"
    return _study(records, "similarity", title, claims.base_model.judge_similarity, figures.similarity)


def _study(records: Records, name: str, title: str, judge: Callable, draw: Callable[[StudyRecord], Figure]) -> Section:
    try:
        verdict, record = judge(records), claims.base_model.study(records, name)
    except NotJudgedError:
        return Section(name, title, command=claims.base_studies())
    return Section(name, title, verdict.finding, lambda: draw(record), verdict.numbers)
