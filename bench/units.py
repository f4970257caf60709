"""Bytes as people read them. Records hold integers; reports show GiB (2^30)."""

GIB = 2**30


def gib(size: float | None) -> str:
    """`20.77 GiB`; `-` for None."""
    if size is None:
        return "-"
    for factor, unit in ((GIB, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if abs(size) >= factor:
            return f"{size / factor:.2f} {unit}"
    return f"{size:.0f} B"


def signed_gib(size: int) -> str:
    """A difference: `+0.61 GiB`, `-512 B`."""
    return ("+" if size > 0 else "") + gib(size)
