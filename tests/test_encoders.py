"""Text encoders in local folders: their widths, their vectors, and the table that stands for them in training."""

import json

import pytest
import torch
from text_encoders import clip, configuration, distilbert, sentence_t5

from bench.motion import encoders
from bench.motion.clip import DataError
from bench.motion.encoders import TextTable, Widths, table, widths

TEXTS = ["a person walks", "a person turns left slowly", ""]


class Counted:
    """A text encoder whose vectors say which text and which word they are of."""

    name, width = "counted", 3

    def encode(self, texts):
        return torch.tensor([[len(text), 0.0, 1.0] for text in texts])

    def tokens(self, texts):
        counts = [len(text.split()) + 1 for text in texts]
        mask = torch.arange(max(counts)) < torch.tensor(counts)[:, None]
        return torch.arange(max(counts)).float()[None, :, None].expand(len(texts), -1, 2) * mask[..., None], mask


@pytest.fixture
def counted(monkeypatch):
    """How often an encoder was loaded."""
    loaded = []
    monkeypatch.setattr(encoders, "load", lambda folder: loaded.append(folder) or Counted())
    return loaded


@pytest.mark.parametrize(
    ("make", "given", "expected"),
    [
        (clip, {}, Widths(8, 6)),
        (distilbert, {}, Widths(None, 6)),
        (sentence_t5, {}, Widths(5, 6)),
        (configuration, {"sentence": 768, "token": 1024}, Widths(768, 1024)),
        (configuration, {"sentence": None, "token": 768}, Widths(None, 768)),
    ],
    ids=["clip", "distilbert", "sentence-t5", "sentence-transformers", "transformers"],
)
def test_widths_stand_in_the_configuration(tmp_path, make, given, expected):
    if make is not configuration:
        pytest.importorskip("transformers")
    if make is sentence_t5:
        pytest.importorskip("sentence_transformers")
    assert widths(make(tmp_path / "encoder", **given)) == expected


@pytest.mark.parametrize("make", [clip, distilbert, sentence_t5])
def test_a_caption_has_the_vectors_that_it_has_alone(tmp_path, make):
    """Whatever captions are encoded beside it; of the widths that the folder says."""
    pytest.importorskip("sentence_transformers" if make is sentence_t5 else "transformers")
    folder = make(tmp_path / "encoder")
    encoder, wide = encoders.load(folder), widths(folder)
    vectors, mask = encoder.tokens(TEXTS)
    assert vectors.shape[2] == wide.token
    # Captions of three, five and no words, and the special tokens around them.
    assert (mask.sum(1) - mask.sum(1)[2]).tolist() == [3, 5, 0]
    assert not vectors[~mask].any()
    for row, text in enumerate(TEXTS):
        torch.testing.assert_close(vectors[row][mask[row]], encoder.tokens([text])[0][0], atol=1e-6, rtol=1e-5)
    if wide.sentence is None:
        with pytest.raises(DataError, match="gives vectors of tokens, none of sentences"):
            encoder.encode(TEXTS)
        return
    sentences = encoder.encode(TEXTS)
    assert sentences.shape == (3, wide.sentence)
    torch.testing.assert_close(sentences[1:2], encoder.encode([TEXTS[1]]), atol=1e-6, rtol=1e-5)


def test_clip_reads_as_many_tokens_as_mdm_gives_it(tmp_path):
    pytest.importorskip("transformers")
    encoder = encoders.load(clip(tmp_path / "encoder"))
    long = "a person walks " * 20
    assert encoder.tokens([long])[1].sum() == encoders.CLIP_TOKENS
    torch.testing.assert_close(encoder.encode([long]), encoder.encode([" ".join(long.split()[:20])]))


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({}, "is no text encoder's folder"),
        ({"config.json": "{"}, "is no text encoder's folder"),
        ({"config.json": '{"model_type": "resnet"}'}, "is no text encoder's folder"),
        ({"modules.json": "[]"}, "is no text encoder's folder"),
        ({"modules.json": '[{"path": ""}]', "config.json": "[]"}, "is no text encoder's folder"),
    ],
    ids=str,
)
def test_another_folder_is_refused(tmp_path, files, says):
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=says):
        widths(tmp_path)


# The table.


def test_a_table_gives_what_the_encoder_gave(tmp_path, counted):
    encoder = configuration(tmp_path / "counted", 3, 2)
    made = table(tmp_path, encoder, [*TEXTS, TEXTS[0]], print)
    assert (made.name, made.width, made.texts) == ("counted", 3, TEXTS)
    assert torch.equal(made.encode(TEXTS[::-1]), Counted().encode(TEXTS[::-1]))
    for ours, theirs in zip(made.tokens(TEXTS), Counted().tokens(TEXTS), strict=True):
        assert torch.equal(ours, theirs)
    with pytest.raises(DataError, match="holds no vector of 'a person flies'"):
        made.encode(["a person flies"])


def test_a_table_of_tokens_alone_has_no_sentences(tmp_path, counted):
    made = table(tmp_path, configuration(tmp_path / "counted", None, 2), TEXTS, print)
    assert made.width == 2
    with pytest.raises(DataError, match="holds vectors of tokens alone"):
        made.encode(TEXTS)


def test_a_table_is_made_once(tmp_path, counted):
    """Anew for other texts or another encoder; not where the encoder has gone since."""
    encoder = configuration(tmp_path / "counted", 3, 2)
    for _ in range(2):
        table(tmp_path, encoder, TEXTS, print)
    assert len(counted) == 1
    table(tmp_path, encoder, TEXTS[:2], print)
    assert len(counted) == 2
    (encoder / "config.json").write_text(json.dumps({"d_model": 2, "model_type": "t5", "changed": True}))
    table(tmp_path, encoder, TEXTS[:2], print)
    assert len(counted) == 3
    encoder.rename(tmp_path / "elsewhere")
    assert table(tmp_path, encoder, TEXTS[:2], print).texts == TEXTS[:2]
    with pytest.raises(DataError, match="there is no folder"):
        table(tmp_path, encoder, TEXTS, print)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_damaged_table_is_refused(tmp_path, counted, share):
    path = table(tmp_path, configuration(tmp_path / "counted", 3, 2), TEXTS, print).path
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(DataError, match="is not a whole table of captions: remove it"):
        TextTable(path)
