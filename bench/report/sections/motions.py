"""Before and after: the motion that the base makes of a test prompt, and what it makes of it once it was fine-tuned."""

from bench import claims
from bench.report import animation, figures, stick
from bench.report import rows as pick
from bench.report.sections.section import Records, Section


def place(records: Records) -> Section:
    return _section(records, "place", "Before and after: in place", "stays where it is")


def way(records: Records) -> Section:
    return _section(records, "way", "Before and after: on the way", "goes somewhere")


def turn(records: Records) -> Section:
    return _section(records, "turn", "Before and after: a turn", "turns the body")


def _section(records: Records, kind: str, title: str, what: str) -> Section:
    """The section of one of bench.alignment.motions.KINDS; `what` its real motion does."""
    name, rows = f"motion_{kind}", pick.aligned(records)
    shown = stick.shown(rows, kind)
    if shown is None:
        return Section(name, title, command=claims.ALIGN_COMMAND)
    see = (
        f"“{shown.text}”: the first test prompt whose real motion {what}, whatever was made of it. Base and methods "
        "start from the same noise (training seed 0). Motion of the embedded world, a small procedural one."
    )
    return Section(
        name, title, see, lambda: figures.motions(rows, kind), animation=animation.markup(shown, f"{name}_animation")
    )
