"""Before and after: the motion that the base makes of a test prompt, and what it makes of it once it was fine-tuned."""

from bench import claims
from bench.report import figures, stick
from bench.report import rows as pick
from bench.report.animation import animation
from bench.report.sections.section import Records, Section


def in_place(records: Records) -> Section:
    return _section(records, "place", "Before and after: in place", "stays where it is")


def travelling(records: Records) -> Section:
    return _section(records, "way", "Before and after: travelling", "goes somewhere")


def turning(records: Records) -> Section:
    return _section(records, "turn", "Before and after: a turn", "turns the body")


def _section(records: Records, kind: str, title: str, what: str) -> Section:
    """The section of one of bench.alignment.motions.KINDS; `what` the real motion does."""
    name, rows = f"motion_{kind}", pick.aligned(records)
    shown = stick.shown(rows, kind)
    if shown is None:
        return Section(name, title, command=claims.ALIGN_COMMAND)
    see = (
        f"“{shown.text}”: the first test prompt whose real motion {what}. Base and methods start from the same noise "
        f"(training seed 0). Motion of the {rows[0].case.world} world."
    )
    moving = animation(shown, f"{name}_animation")
    return Section(name, title, see, lambda: figures.motions(rows, kind), animation=moving)
