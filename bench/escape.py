"""Text from records as each medium takes it, so that a record says only what it says: no markup, no formula."""

import re

_LINE_ENDS = re.compile(r"\s*[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]\s*")
_MARKS = re.compile(r"[\\|<\[`]")
_ENTITY = re.compile(r"&(?=#?\w+;)")
_NUMBER = re.compile(r"[+-]\d+(\.\d+)?%?( ± \d+(\.\d+)?%?)?")
"""With its sign, and perhaps an interval."""


def markdown(value: object) -> str:
    """On one line, without tags, links or code: for a sentence, and for a cell of a table."""
    line = _ENTITY.sub("&amp;", _LINE_ENDS.sub(" ", str(value)))
    return _MARKS.sub(lambda mark: "&lt;" if mark[0] == "<" else f"\\{mark[0]}", line)


def csv(cell: object) -> object:
    """A cell of a table. A spreadsheet takes text that begins with one of = + - @ (or a tab) for a formula: an
    apostrophe before it says that it is text. Numbers stay numbers."""
    if not isinstance(cell, str) or not cell.startswith(("=", "+", "-", "@", "\t", "\r")) or _NUMBER.fullmatch(cell):
        return cell
    return f"'{cell}"
