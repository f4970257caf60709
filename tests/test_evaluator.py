"""The evaluator computes what the published one computes, keeps the order of its inputs, and loads published files."""

import pickle

import pytest
import torch
from parity.vectors import deviation, filled, given, load, weight

from bench.motion.evaluator import Evaluator, EvaluatorConfig
from bench.motion.evaluator import load as load_evaluator
from methods import checkpoint
from methods.checkpoint import CheckpointError
from methods.errors import InputError

VECTORS = load("t2m_evaluator")
NETWORKS = {"text": "text_encoder", "movement": "movement_encoder", "motion": "motion_encoder"}
TINY = EvaluatorConfig(features=11, words=5, tags=3, text_width=6, movement_width=7, motion_width=8, embedding=4)


@pytest.fixture(scope="module")
def evaluator():
    """With the rule's weights, which go by the names within each network."""
    with torch.device("meta"):
        evaluator = Evaluator()
    for network in NETWORKS.values():
        setattr(evaluator, network, filled(lambda network=network: getattr(evaluator, network)))
    return evaluator


def inputs(case: str) -> dict[str, torch.Tensor]:
    spec = VECTORS.cases[case]["inputs"]
    word = given(spec["word"])
    rows, words = torch.meshgrid(*(torch.arange(size) for size in word.shape[:2]), indexing="ij")
    assert spec["pos_onehot"] == "index (7*b+3*n)%15"
    return {
        "motions": given(spec["motion"]),
        "frames": torch.tensor(spec["m_lens"]),
        "words": word,
        "tags": torch.nn.functional.one_hot((7 * rows + 3 * words) % 15, 15).float(),
        "text_lengths": torch.tensor(spec["cap_lens"]),
        "order": torch.tensor(spec["descending_order"]),
    }


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_are_those_of_the_published_networks(evaluator, name):
    state = getattr(evaluator, NETWORKS[name]).state_dict()
    expected = VECTORS.meaning["weights"]
    values = torch.cat([value.flatten().double() for value in state.values()])
    assert len(state) == expected[name]["filled"]
    assert len(values) == expected["check"][name]["n"]
    assert values.sum().item() == pytest.approx(expected["check"][name]["sum"], rel=1e-9)
    assert values.abs().sum().item() == pytest.approx(expected["check"][name]["abs_sum"], rel=1e-9)


def test_size_of_the_published_networks():
    """HumanML3D's, which the weights above are of, and KIT-ML's, which differs in its input alone."""
    with torch.device("meta"):
        sizes = [sum(p.numel() for p in Evaluator(EvaluatorConfig(features=f)).parameters()) for f in (263, 251)]
    assert sizes == [21_690_560, 21_665_984]


@pytest.mark.parametrize("case", ["c0", "c1", "c2"])
@torch.no_grad()
def test_embeddings(evaluator, case):
    """Ours in the order given; the published wrapper's in the order of falling motion length."""
    data = inputs(case)
    motions = evaluator.embed_motions(data["motions"], data["frames"])
    texts = evaluator.embed_texts(data["words"], data["tags"], data["text_lengths"])
    got = {
        "movement": evaluator.movement_encoder(data["motions"][..., :-4]),
        "motion_embedding_desc": motions[data["order"]],
        "text_embedding": texts,
        "co_text": texts[data["order"]],
        "co_motion": motions[data["order"]],
    }
    assert sorted(got) == sorted(VECTORS.cases[case]["outputs"])
    for name, value in got.items():
        assert deviation(value, VECTORS.output(case, name), VECTORS.meaning["tolerance"]) <= 1, name


@torch.no_grad()
def test_embeddings_keep_the_order_of_the_inputs():
    torch.manual_seed(0)
    evaluator = Evaluator(TINY).eval()
    motions, frames = torch.randn(4, 20, 11), torch.tensor([8, 20, 4, 13])
    words, tags, lengths = torch.randn(4, 6, 5), torch.randn(4, 6, 3), torch.tensor([2, 6, 1, 4])
    together = evaluator.embed_motions(motions, frames), evaluator.embed_texts(words, tags, lengths)
    for row in range(4):
        one = slice(row, row + 1)
        torch.testing.assert_close(together[0][one], evaluator.embed_motions(motions[one], frames[one]))
        torch.testing.assert_close(together[1][one], evaluator.embed_texts(words[one], tags[one], lengths[one]))


@torch.no_grad()
def test_only_the_valid_part_counts():
    """Words past the end do not count; frames only up to the three that the last movement sees."""
    torch.manual_seed(0)
    evaluator = Evaluator(TINY).eval()
    motions, frames = torch.randn(1, 20, 11), torch.tensor([8])
    words, tags, lengths = torch.randn(1, 6, 5), torch.randn(1, 6, 3), torch.tensor([2])
    before = evaluator.embed_motions(motions, frames), evaluator.embed_texts(words, tags, lengths)
    motions[:, 11:], words[:, 2:], tags[:, 2:] = 9, 9, 9
    assert torch.equal(evaluator.embed_texts(words, tags, lengths), before[1])
    torch.testing.assert_close(evaluator.embed_motions(motions, frames), before[0])
    motions[:, 10] = 9
    assert not torch.allclose(evaluator.embed_motions(motions, frames), before[0])


def published_file(config: EvaluatorConfig = TINY) -> dict:
    """What the published training code saves, with the rule's weights."""
    state = Evaluator(config).state_dict()
    networks = {
        network: {
            key.removeprefix(f"{network}."): weight(key, value.shape)
            for key, value in state.items()
            if key.startswith(network)
        }
        for network in NETWORKS.values()
    }
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(2))]).state_dict()
    return {**networks, "opt_text_encoder": optimizer, "opt_motion_encoder": optimizer, "epoch": 3, "iter": 40}


@pytest.mark.parametrize("modern", [True, False], ids=["zip", "legacy"])
def test_a_published_file_loads(tmp_path, modern):
    torch.save(published_file(), tmp_path / "finest.tar", _use_new_zipfile_serialization=modern)
    loaded = load_evaluator(tmp_path / "finest.tar", TINY)
    for key, value in loaded.state_dict().items():
        assert torch.equal(value, weight(key, value.shape))
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_what_is_saved_loads_again(tmp_path):
    evaluator = Evaluator(TINY)
    checkpoint.save(evaluator, tmp_path / "evaluator.safetensors")
    torch.save(evaluator.state_dict(), tmp_path / "evaluator.pt")
    for name in ("evaluator.safetensors", "evaluator.pt"):
        loaded = load_evaluator(tmp_path / name, TINY).state_dict()
        assert all(torch.equal(value, loaded[key]) for key, value in evaluator.state_dict().items())


def refused(path, config=TINY) -> str:
    with pytest.raises(CheckpointError) as error:
        load_evaluator(path, config)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_weights_that_do_not_fit_are_named(tmp_path):
    content = published_file()
    del content["motion_encoder"]["hidden"]
    content["text_encoder"]["surprise"] = torch.zeros(1)
    content["movement_encoder"]["out_net.bias"] = torch.zeros(9)
    torch.save(content, tmp_path / "finest.tar")
    message = refused(tmp_path / "finest.tar")
    for said in ("motion_encoder.hidden", "text_encoder.surprise", "movement_encoder.out_net.bias", "[9]", "[7]"):
        assert said in message


def test_the_evaluator_of_another_data_set_is_refused(tmp_path):
    torch.save(published_file(), tmp_path / "finest.tar")
    larger = EvaluatorConfig(**{**vars(TINY), "features": 12})
    assert "size mismatch for movement_encoder.main.0.weight" in refused(tmp_path / "finest.tar", larger)


class Hostile:
    """Would create a file if it were unpickled."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (open, (self.target, "w"))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("write", [torch.save, lambda x, path: path.write_bytes(pickle.dumps(x))], ids=["zip", "bare"])
def test_a_pickle_is_refused_and_never_run(tmp_path, write):
    write({**published_file(), "x": Hostile(str(tmp_path / "owned"))}, tmp_path / "hostile.tar")
    assert "never run" in refused(tmp_path / "hostile.tar")
    assert not (tmp_path / "owned").exists()


def test_files_that_are_no_evaluator_are_refused(tmp_path):
    assert "no checkpoint" in refused(tmp_path / "none.tar")
    torch.save({"epoch": 1}, tmp_path / "empty.tar")
    assert "no state dict" in refused(tmp_path / "empty.tar")
    torch.save(published_file(), tmp_path / "whole.tar")
    (tmp_path / "cut.tar").write_bytes((tmp_path / "whole.tar").read_bytes()[:2000])
    assert "fetch it again" in refused(tmp_path / "cut.tar")


def test_inputs_that_do_not_fit_are_refused():
    evaluator = Evaluator(TINY)
    motions, words, tags = torch.zeros(2, 8, 11), torch.zeros(2, 3, 5), torch.zeros(2, 3, 3)
    for call, said in (
        (lambda: evaluator.embed_motions(torch.zeros(2, 8, 12), torch.tensor([8, 8])), "12 features a frame, the"),
        (lambda: evaluator.embed_motions(motions, torch.tensor([8, 3])), "4 to 8 frames, but row 1 has 3"),
        (lambda: evaluator.embed_motions(motions, torch.tensor([9, 8])), "row 0 has 9"),
        (lambda: evaluator.embed_texts(words, torch.zeros(2, 3, 4), torch.tensor([3, 3])), "5 and 4 wide"),
        (lambda: evaluator.embed_texts(words, tags, torch.tensor([0, 3])), "1 to 3 words, but row 0 has 0"),
    ):
        with pytest.raises(InputError, match=said):
            call()
