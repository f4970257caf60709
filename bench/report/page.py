"""The report as files: one self-contained HTML page, a markdown summary, tables and figures.

What comes from records is escaped for its medium: the page by Jinja's autoescape, the summary and the tables by
bench.escape, figures by style.look.
"""

import base64
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from bench import escape, tables
from bench.claims import CLAIMS, Outcome, Verdict
from bench.report import style
from bench.report.sections import Report, Section

SUFFIXES = {"tables": ("md", "csv"), "figures": ("png", "svg")}
"""What the folders hold."""

TITLE = "Memory of differentiable-reward fine-tuning"


def render(report: Report) -> dict[str, bytes]:
    """Path inside the report's folder -> content. The same report gives the same bytes."""
    figures = draw(report.sections)
    with style.look():
        small = {question.name: style.svg(question.figure()) for question in report.questions if question.figure}
    texts = {"index.html": page(report, pictures_of(figures) | small), "summary.md": summary(report)}
    return collect(figures, texts, all_tables(report))


def draw(sections: Sequence[Section]) -> dict[str, bytes]:
    """The figures' files."""
    figures: dict[str, bytes] = {}
    with style.look():
        for section in sections:
            if section.figure:
                drawn = section.figure()
                figures[f"figures/{section.name}.png"] = style.png(drawn)
                figures[f"figures/{section.name}.svg"] = style.svg(drawn)
    return figures


def pictures_of(figures: Mapping[str, bytes]) -> dict[str, bytes]:
    """What a page shows of the figures' files: SVG, by the name of its section."""
    return {Path(name).stem: content for name, content in figures.items() if name.endswith("svg")}


def collect(
    figures: Mapping[str, bytes], texts: Mapping[str, str], named: Mapping[str, pd.DataFrame]
) -> dict[str, bytes]:
    """Every file in the order in which it is written, those of the named tables among them."""
    texts = dict(texts)
    for name, frame in named.items():
        texts[f"tables/{name}.md"] = tables.markdown(frame)
        texts[f"tables/{name}.csv"] = csv(frame)
    return {**figures} | {name: text.encode() for name, text in reversed(texts.items())}  # the page last of all


def all_tables(report: Report) -> dict[str, pd.DataFrame]:
    """Every table by the stem of its files."""
    named = {"verdicts": verdict_table(report.verdicts), "runs": report.runs}
    named |= {"lacking": lacking_table(report)} if report.lacking else {}
    named |= {verdict.claim: verdict.numbers for verdict in report.verdicts if len(verdict.numbers)}
    named |= {s.name: s.table for s in report.sections if s.table is not None and len(s.table)}
    return named


def verdict_table(verdicts: list[Verdict]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "id": claim.id,
            "claim": claim.text,
            "verdict": verdict.words + (f" ({verdict.here})" if verdict.here else ""),
            "finding": verdict.finding,
            "from": verdict.provenance,
            "source": claim.source,
            "command": claim.command,
            "settled by": claim.settles if verdict.here else "",
        }
        for claim, verdict in zip(CLAIMS, verdicts, strict=True)
    )


def lacking_table(report: Report) -> pd.DataFrame:
    return pd.DataFrame(
        {"shard": what, "measured": row.kind, "case": row.id} for what, rows in report.lacking.items() for row in rows
    )


def csv(frame: pd.DataFrame) -> str:
    """A table for a spreadsheet: full figures, and text that is no formula."""
    texts = [not pd.api.types.is_numeric_dtype(frame[column]) for column in frame]
    columns = [frame[name].map(escape.csv) if text else frame[name] for name, text in zip(frame, texts, strict=True)]
    safe = pd.concat(columns, axis=1) if columns else frame
    return safe.rename(columns=escape.csv).to_csv(index=False, lineterminator="\n")


def summary(report: Report) -> str:
    """The report for a repository: the questions, the verdicts, then every section with its table, in one file that
    needs no other."""
    environment = _environment()
    environment.finalize = lambda value: value if isinstance(value, Markup) else escape.markdown(value)
    verdicts = verdict_table(report.verdicts)
    return environment.get_template("summary.md").render(
        title=TITLE,
        runs=report.runs,
        caveat=report.caveat,
        lacking=lacking_table(report),
        verdicts=verdicts[["id", "claim", "verdict", "finding"]],
        sources=verdicts[["id", "from", "source", "command", "settled by"]],
        questions=report.questions,
        chapters=report.chapters,
        table=lambda frame: Markup(tables.markdown(frame)),
    )


def page(report: Report, pictures: Mapping[str, bytes]) -> str:
    """The whole report in one file, with nothing to load from elsewhere; `pictures`: SVG, by section or question."""
    pairs = list(zip(CLAIMS, report.verdicts, strict=True))
    return html(
        "page.html",
        pictures,
        title=TITLE,
        runs=report.runs,
        caveat=report.caveat,
        lacking=lacking_table(report),
        judged=[(claim, verdict) for claim, verdict in pairs if verdict.outcome is not Outcome.NOT_JUDGED],
        not_judged=[(claim, verdict) for claim, verdict in pairs if verdict.outcome is Outcome.NOT_JUDGED],
        questions=report.questions,
        chapters=report.chapters,
        moves=any(section.animation for section in report.sections),
        filters=any(section.filters and section.name in pictures for section in report.sections),
        tone=style.tone,
    )


def html(template: str, pictures: Mapping[str, bytes], **given: object) -> str:
    """A template of a page, with its `pictures` by name, as SVG."""
    encoded = {name: base64.b64encode(content).decode() for name, content in pictures.items()}
    environment = _environment(autoescape=True)
    environment.globals |= {"cells": tables.cells, "asset": _asset, "zip": zip}
    return environment.get_template(template).render(pictures=encoded, **given)


def _environment(autoescape: bool = False) -> Environment:
    environment = Environment(
        loader=PackageLoader("bench.report"),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    return environment


def _asset(name: str) -> Markup:
    """A file of the page's style or script, as it is."""
    return Markup(resources.files("bench.report").joinpath("assets", name).read_text(encoding="utf-8").rstrip())
