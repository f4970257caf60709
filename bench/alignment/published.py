"""`python -m bench.alignment.published FOLDER`: Lists the parts of a world of published models and data: what is there
and fits, what is missing, and where its authors publish it."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.command import add_import_option, carry_out, import_modules
from bench.world.manifest import MANIFEST, Folder, Part
from methods.errors import InputError


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit code: 0; 1 where a part is missing or does not fit; or as
    bench.command.carry_out."""
    parser = argparse.ArgumentParser("python -m bench.alignment.published", description=__doc__.partition(": ")[2])
    parser.add_argument("folder", type=Path, metavar="FOLDER", help=f"with {MANIFEST}, which names the files")
    add_import_option(parser.add_argument)
    options = parser.parse_args(arguments)
    return carry_out("bench.alignment.published", lambda: _list(options))


def _list(options: argparse.Namespace) -> int:
    import_modules(options.modules)
    folder = Folder(options.folder)
    states = [_state(part) for part in folder.parts()]
    for part, (state, said) in zip(folder.parts(), states, strict=True):
        print(f"{state:8} {part.name}: {said}")
    whole = all(state == "there" for state, _ in states)
    if states[0][0] == "there":
        for note in folder.notes():
            print(f"         {note}")
    if whole:
        print(f"ready: python -m bench.alignment.finetune --world published:{options.folder} --out DIR")
    return 0 if whole else 1


def _state(part: Part) -> tuple[str, str]:
    """there, missing or unfit, and the files, or what is wrong with them."""
    if part.missing:
        return "missing", f"{', '.join(map(str, part.missing))}; published at {part.source}"
    try:
        part.read()
    except InputError as error:
        return "unfit", str(error)
    return "there", ", ".join(map(str, part.paths))


if __name__ == "__main__":
    sys.exit(main())
