"""`python -m bench.report --history FILE...`: peak and step time of each case over commits.

lines    which rows a line joins, and what changed on the way
figure   the lines, drawn
page     the sections and the files
"""

from bench.report.history.page import FILES, build, render

__all__ = ["FILES", "build", "render"]
