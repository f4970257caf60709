"""The evaluator's vocabulary: captions are read as the published code reads them, and no pickle builds anything."""

import pickle
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest

from bench.motion import glove
from bench.motion.clip import DataError
from bench.motion.glove import LARGEST, TAGS, Vocabulary, read_pickle

WORDS = ["a", "person", "walk", "slowly", "left", "arm", "sos", "eos", "unk", "chair"]


def written(folder: Path, **files) -> Path:
    """The three files, or others in their place."""
    rows = dict(zip(WORDS, reversed(range(len(WORDS))), strict=True))
    np.save(folder / "our_vab_data.npy", np.arange(3.0 * len(WORDS)).reshape(-1, 3))
    for name, value in {"words": WORDS, "idx": rows, **files}.items():
        (folder / f"our_vab_{name}.pkl").write_bytes(value if isinstance(value, bytes) else pickle.dumps(value))
    return folder


def test_captions_are_read_as_published(tmp_path):
    """A first and a last word around each; own tags for words of a kind, whatever part of speech they are; OTHER for
    unknown words and parts."""
    vocabulary = Vocabulary(written(tmp_path))
    vectors, tags, lengths = vocabulary.read(
        [["a/DET", "person/NOUN", "walk/VERB", "slowly/ADV"], ["moonwalk/VERB", "chair/NOUN", "a/X"], []]
    )
    assert lengths.tolist() == [6, 5, 2]
    named = [[TAGS[int(tag.argmax())] for tag in row[:length]] for row, length in zip(tags, lengths, strict=True)]
    assert named == [
        ["OTHER", "DET", "NOUN", "act", "desc", "OTHER"],
        ["OTHER", "OTHER", "obj", "OTHER", "OTHER"],
        ["OTHER", "OTHER"],
    ]
    said = [[9 - int(row[0]) // 3 for row in of_one] for of_one in vectors]
    known = {word: number for number, word in enumerate(WORDS)}
    assert said[0] == [known[word] for word in ("sos", "a", "person", "walk", "slowly", "eos")]
    assert said[1][:5] == [known[word] for word in ("sos", "unk", "chair", "a", "eos")]
    assert not vectors[1, 5:].any()
    assert not tags[2, 2:].any()


def test_only_the_first_twenty_words_are_read(tmp_path):
    vectors, _, lengths = Vocabulary(written(tmp_path)).read([["walk/VERB"] * 25])
    assert lengths.tolist() == [22]
    assert vectors.shape == (1, 22, 3)


def test_the_tags_are_the_published_ones():
    assert len(TAGS) == 15
    assert [sum(kind == name for kind in glove._KIND_OF.values()) for name in glove.KINDS] == [12, 13, 10, 34, 12]


class Runs:
    """Would run a command if it were unpickled."""

    def __init__(self, call, *arguments):
        self.made_by = call, arguments

    def __reduce__(self):
        return self.made_by


def hostile(target: Path) -> dict[str, bytes]:
    """Pickles that would make `target`, or fill the memory."""
    command = Runs(subprocess.call, ["touch", str(target)])
    return {
        "a call": pickle.dumps([command]),
        "a call of old": pickle.dumps([command], protocol=0),
        "a file": pickle.dumps({"x": Runs(open, str(target), "w")}),
        "evaluated": pickle.dumps(Runs(eval, f"open({str(target)!r}, 'w')")),
        "an array": pickle.dumps([np.zeros(3)]),
        "a class": pickle.dumps([dict]),
        "by name": b"cos\nsystem\n(S'touch " + str(target).encode() + b"'\ntR.",
        "an instance": b"(S'touch " + str(target).encode() + b"'\nios\nsystem\n.",
        "an extension": b"\x80\x02]\x82\x01a.",
        "outside": b"\x80\x02]U\x01aQa.",
        "a set": pickle.dumps({"a", "b"}),
        "a tuple": pickle.dumps([("a", "b")]),
        "nothing": pickle.dumps(None),
        "nested": pickle.dumps([["a"]]),
        "bytes": pickle.dumps([b"a"]),
        "numbers many": b"\x80\x02]r" + struct.pack("<I", 0xFFFFFFFF) + b".",
        "long": b"\x80\x04]\x8d" + struct.pack("<Q", 1 << 40) + b"a.",
        "an array of bytes": b"\x80\x05]\x96" + struct.pack("<Q", 1 << 40) + b"a.",
        "cut off": pickle.dumps(WORDS)[:-5],
        "empty": b"",
        "text": b"a person walks",
    }


@pytest.mark.parametrize("name", list(hostile(Path("x"))))
def test_a_pickle_that_builds_anything_else_is_refused_and_never_run(tmp_path, name):
    target = tmp_path / "owned"
    (path := tmp_path / "our_vab_words.pkl").write_bytes(hostile(target)[name])
    with pytest.raises(DataError, match="not a whole pickle of plain lists"):
        read_pickle(path)
    assert not target.exists()


def test_the_refused_class_is_named(tmp_path):
    (path := tmp_path / "x.pkl").write_bytes(hostile(tmp_path / "owned")["by name"])
    with pytest.raises(DataError, match=r"asks for 'os\.system'.*nothing in it was run"):
        read_pickle(path)


def test_a_large_file_is_refused_before_it_is_read(tmp_path):
    with (path := tmp_path / "large.pkl").open("wb") as file:
        file.truncate(LARGEST + 1)
    with pytest.raises(DataError, match=r"large\.pkl"):
        read_pickle(path)


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"words": {"a": 1}}, "our_vab_words.pkl is not a list of words"),
        ({"idx": {"a": 99}}, "does not give rows"),
        ({"idx": {"a": 1.5}}, "does not give rows"),
        ({"idx": {"a": 0, "sos": 1, "eos": 2}}, "lacks the word 'unk'"),
        ({"words": [*WORDS, "moonwalk"]}, "lacks the word 'moonwalk'"),
    ],
    ids=str,
)
def test_files_that_do_not_fit_are_refused(tmp_path, files, says):
    with pytest.raises(DataError, match=says):
        Vocabulary(written(tmp_path, **files))


def test_a_missing_file_says_where_it_comes_from(tmp_path):
    written(tmp_path).joinpath("our_vab_idx.pkl").unlink()
    with pytest.raises(DataError, match=r"there is no .*our_vab_idx\.pkl: unpack glove\.zip"):
        Vocabulary(tmp_path)
