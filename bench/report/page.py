"""The report as files: one self-contained HTML page, a markdown summary, tables and figures."""

import base64
import html

import pandas as pd

from bench import tables
from bench.claims import CLAIMS, Claim, Outcome, Verdict
from bench.report import animation, style
from bench.report.sections import Report, Section

SUFFIXES = {"tables": ("md", "csv"), "figures": ("png", "svg")}
"""What the folders hold."""

TITLE = "Memory of differentiable-reward fine-tuning"


def render(report: Report) -> dict[str, bytes]:
    """Path inside the report's folder -> content. The same report gives the same bytes."""
    figures: dict[str, bytes] = {}
    with style.look():
        for section in report.sections:
            if section.figure:
                drawn = section.figure()
                figures[f"figures/{section.name}.png"] = style.png(drawn)
                figures[f"figures/{section.name}.svg"] = style.svg(drawn)
    texts = {"index.html": page(report, figures), "summary.md": summary(report)}
    for name, frame in all_tables(report).items():
        texts[f"tables/{name}.md"] = tables.markdown(frame)
        texts[f"tables/{name}.csv"] = frame.to_csv(index=False, lineterminator="\n")
    return figures | {name: text.encode() for name, text in reversed(texts.items())}  # the page last of all


def all_tables(report: Report) -> dict[str, pd.DataFrame]:
    """Every table by the stem of its files."""
    found = {"verdicts": verdict_table(report.verdicts), "runs": report.runs}
    found |= {verdict.claim: verdict.numbers for verdict in report.verdicts if len(verdict.numbers)}
    found |= {s.name: s.table for s in report.sections if s.table is not None and len(s.table)}
    return found


def verdict_table(verdicts: list[Verdict]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "id": claim.id,
            "claim": claim.text,
            "verdict": str(verdict.outcome),
            "finding": verdict.finding,
            "from": verdict.provenance,
            "source": claim.source,
            "command": claim.command,
        }
        for claim, verdict in zip(CLAIMS, verdicts, strict=True)
    )


# Markdown.


def summary(report: Report) -> str:
    """The report for a repository: verdicts, then every section with its figure and a link to its table."""
    verdicts = verdict_table(report.verdicts)[["id", "claim", "verdict", "finding"]]
    parts = [
        f"# {TITLE}\n",
        tables.markdown(report.runs),
        report.caveat + "\n",
        "## Verdicts\n",
        tables.markdown(verdicts),
    ]
    parts += ["To reproduce: the command of each verdict is in [tables/verdicts.md](tables/verdicts.md).\n"]
    for section in report.sections:
        parts.append(f"## {section.title}\n")
        if not section.see:
            parts.append(f"No data in these records. To make them: `{section.command}`\n")
            continue
        parts.append(section.see + "\n")
        if section.figure:
            parts.append(f"![{section.title}](figures/{section.name}.png)\n")
        if section.table is not None and len(section.table):
            parts.append(f"Numbers: [markdown](tables/{section.name}.md), [CSV](tables/{section.name}.csv)\n")
    return "\n".join(parts)


# HTML.

_CSS = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; color: #1a1a1a; background: #fff;
  max-width: 960px; margin: 2.5rem auto 5rem; padding: 0 1.25rem; }
h1 { font-size: 1.8rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.3rem; margin: 3rem 0 .4rem; padding-top: 1rem; border-top: 1px solid #d5d8dc; }
p { margin: .4rem 0; }
.soft { color: #5f6368; }
img { width: 100%; height: auto; display: block; margin: 1rem 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .84rem; margin: .5rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .28rem .7rem .28rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid #e9ebed; }
th { font-weight: 600; color: #5f6368; white-space: nowrap; }
td.n, th.n { text-align: right; }
code { font: .82rem/1.5 ui-monospace, Menlo, Consolas, monospace; background: #f1f3f4; padding: .12rem .35rem;
  border-radius: 4px; overflow-wrap: anywhere; }
summary { cursor: pointer; color: #5f6368; font-size: .9rem; }
details { margin: .5rem 0; }
.card { border: 1px solid #d5d8dc; border-left: 6px solid var(--tone); border-radius: 6px; padding: .8rem 1.1rem;
  margin: .8rem 0; }
.card h3 { margin: 0 0 .3rem; font-size: 1.02rem; line-height: 1.35; }
.verdict { display: inline-block; color: #fff; background: var(--tone); border-radius: 4px; padding: .05rem .55rem;
  font-size: .84rem; font-weight: 600; margin-right: .5rem; white-space: nowrap; }
nav a { color: #00507d; margin-right: 1rem; white-space: nowrap; }
"""

_TONES = {
    Outcome.HOLDS: "#006b4f",
    Outcome.IN_PART: "#8a5a00",
    Outcome.FAILS: "#a63a00",
    Outcome.NOT_JUDGED: "#6b7075",
}


def page(report: Report, figures: dict[str, bytes]) -> str:
    """The whole report in one file, with nothing to load from elsewhere."""
    judged = [(c, v) for c, v in zip(CLAIMS, report.verdicts, strict=True) if v.outcome is not Outcome.NOT_JUDGED]
    others = [(c, v) for c, v in zip(CLAIMS, report.verdicts, strict=True) if v.outcome is Outcome.NOT_JUDGED]
    links = " ".join(f'<a href="#{s.name}">{_text(s.title)}</a>' for s in report.sections if s.see)
    body = [
        f"<h1>{TITLE}</h1>",
        '<p class="soft">Text-to-motion diffusion, five methods on one rollout: what was run, whether the published '
        "claims hold, and the figures behind it. GiB are 2³⁰ bytes.</p>",
        _table(report.runs),
        f'<p class="soft">{_text(report.caveat)}</p>',
        f'<nav><a href="#verdicts">Verdicts</a> {links}</nav>',
        '<h2 id="verdicts">Do the published claims hold?</h2>',
        *(_card(claim, verdict) for claim, verdict in judged),
        _not_judged(others) if others else "",
        *(_section(section, figures.get(f"figures/{section.name}.svg")) for section in report.sections),
    ]
    moves = any(section.animation for section in report.sections)
    if moves:
        body.append(f"<script>{animation.SCRIPT}</script>")
    sizes = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    head = f"{sizes}<title>{TITLE}</title><style>{_CSS}{animation.CSS if moves else ''}</style>"
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n' + "\n".join(body) + "\n</body></html>\n"


def _card(claim: Claim, verdict: Verdict) -> str:
    origin = verdict.provenance[:1].upper() + verdict.provenance[1:]
    return f"""<div class="card" style="--tone: {_TONES[verdict.outcome]}" id="{claim.id}">
<h3><span class="verdict">{verdict.outcome}</span>{claim.id}: {_text(claim.text)}</h3>
<p>{_text(verdict.finding)}</p>
<p class="soft">{_text(origin)}. Claimed in {_text(claim.source)}. {_text(claim.note)}</p>
<details><summary>Numbers, and the command that reproduces them</summary>
{_table(verdict.numbers)}
<p><code>{_text(claim.command)}</code></p></details>
</div>"""


def _not_judged(pairs: list[tuple[Claim, Verdict]]) -> str:
    rows = [
        f"<tr><td>{claim.id}</td><td>{_text(claim.text)}</td><td>{_text(verdict.finding)}"
        + (f"<br><code>{_text(claim.command)}</code>" if claim.command else "")
        + "</td></tr>"
        for claim, verdict in pairs
    ]
    head = "<tr><th>id</th><th>claim</th><th>what is missing</th></tr>"
    return f'<h3>Not judged here</h3><div class="scroll"><table>{head}{"".join(rows)}</table></div>'


def _section(section: Section, figure: bytes | None) -> str:
    head = f'<h2 id="{section.name}">{_text(section.title)}</h2>'
    if not section.see:
        return (
            f'{head}<p class="soft">No data in these records. To make them: <code>{_text(section.command)}</code></p>'
        )
    parts = [head, f"<p>{_text(section.see)}</p>"]
    if figure:
        data = base64.b64encode(figure).decode()
        parts.append(f'<img alt="{_text(section.title)}. {_text(section.see)}" src="data:image/svg+xml;base64,{data}">')
    if section.animation:
        parts.append(section.animation)
    if section.table is not None and len(section.table):
        table = _table(section.table)
        parts.append(f"<details><summary>Numbers</summary>{table}</details>" if figure else table)
    return "\n".join(parts)


def _table(frame: pd.DataFrame) -> str:
    if not len(frame):
        return ""
    numeric = [pd.api.types.is_numeric_dtype(frame[column]) for column in frame]
    side = [' class="n"' if right else "" for right in numeric]
    head = "".join(f"<th{s}>{_text(column)}</th>" for s, column in zip(side, frame.columns, strict=True))
    rows = (
        "".join(f"<td{s}>{_text(_cell(cell))}</td>" for s, cell in zip(side, cells, strict=True))
        for cells in frame.to_numpy(dtype=object)
    )
    return f'<div class="scroll"><table><tr>{head}</tr>{"".join(f"<tr>{row}</tr>" for row in rows)}</table></div>'


def _cell(value: object) -> object:
    """Three figures behind the point at most; nothing for what is not known."""
    if pd.isna(value):
        return ""
    return (f"{value:.3f}" if value % 1 else f"{value:.0f}") if isinstance(value, float) else value


def _text(value: object) -> str:
    return html.escape(str(value), quote=True)
