"""Motions kept in a row and shown in the report: packed text, the rule that chooses, the strip, the moving page."""

import json
import re

import numpy as np
import pytest
from msgspec import to_builtins
from test_claims_alignment import changed, row

from bench import claims
from bench.alignment import motions
from bench.alignment.motions import KINDS, pack, unpack
from bench.motion.clip import DataError
from bench.motion.skeleton import T2M
from bench.records import AlignmentRecord
from bench.records.types import ShownMotion
from bench.report import __main__ as command
from bench.report import page, sections, stick, style
from bench.world import World, load


@pytest.fixture(scope="module")
def own() -> World:
    return load()


def body(frames: int, ahead: float = 0.0) -> np.ndarray:
    """Joints `[frames, 22, 3]` of a made-up body that goes `ahead` metres in all."""
    joints = np.random.default_rng(0).uniform(0, 1.8, (1, 22, 3)).repeat(frames, axis=0)
    joints[:, :, 2] += np.linspace(0, ahead, frames)[:, None]
    return joints.astype(np.float32)


class TestPacking:
    def test_joints_come_back_to_the_millimetre_in_few_characters(self):
        joints = body(40, ahead=-3.0)
        text = pack(joints)
        assert np.abs(unpack(text) - joints).max() <= 0.00051
        assert len(text) == 40 * 176
        assert json.loads(json.dumps(text)) == text

    def test_what_is_too_far_away_is_drawn_in_and_does_not_wrap_round(self):
        assert unpack(pack(np.full((1, 22, 3), 1000.0)))[0, 0, 0] == pytest.approx(32.767)
        assert unpack(pack(np.full((1, 22, 3), -1000.0)))[0, 0, 0] == pytest.approx(-32.768)

    @pytest.mark.parametrize("text", ["not base64!", "AAAA", pack(body(2))[:-8]], ids=["foreign", "short", "cut"])
    def test_a_motion_of_no_use_is_refused_in_a_sentence(self, text):
        with pytest.raises(DataError, match="a motion in the row cannot be read"):
            unpack(text)


class TestChoice:
    def test_each_kind_has_the_first_test_prompt_whose_real_motion_is_of_it(self, own):
        picked = motions.chosen(own)
        assert list(picked) == list(KINDS)
        every = [motions.kind(own.content.example(n).features()) for n in own.clips["test"][:64].tolist()]
        assert picked == {kind: every.index(kind) for kind in KINDS}

    @pytest.mark.parametrize(
        ("meaning", "kind"), [("kick left 1", "place"), ("walk forward", "way"), ("turn around", "turn")]
    )
    def test_kinds_are_what_they_are_called(self, own, meaning, kind):
        prompts = own.prompts("train", 40).meanings + own.prompts("test", 64).meanings
        clips = own.clips["train"][:40].tolist() + own.clips["test"][:64].tolist()
        alike = [n for n, what in zip(clips, prompts, strict=True) if what.startswith(meaning) and ">" not in what]
        assert alike
        assert {motions.kind(own.content.example(n).features()) for n in alike} == {kind}

    def test_real_and_sampled_motions_of_a_prompt_are_alike_in_length_and_begin_at_the_same_place(self, own):
        made = motions.sampled(own, 2)
        assert made == motions.sampled(own, 2)  # the same noise every time
        prompts = own.prompts("test", 64)
        for place, about, text in zip(motions.chosen(own).values(), motions.described(own), made, strict=True):
            real, sampled = unpack(about["real"]), unpack(text)
            assert about["text"] == prompts.texts[place]
            assert real.shape == sampled.shape == (-(-int(prompts.lengths[place]) // 2), 22, 3)
            assert real[0, 0, [0, 2]].tolist() == sampled[0, 0, [0, 2]].tolist() == [0, 0]


def test_the_picture_shows_left_on_the_right_and_up_as_up():
    """As a body that faces the viewer is seen; the axes stand on one another and keep lengths."""
    left, up, ahead = stick.project(np.eye(3))
    assert left[0] > 0.5
    assert (up[0], up[1] > 0.9) == (0, True)
    assert ahead[0] > 0.5
    assert ahead[1] < 0  # what is nearer is lower
    axes = np.array([stick.RIGHT, stick.UP])
    assert axes @ axes.T == pytest.approx(np.eye(2))
    assert [side for side, _ in stick.LIMBS] == ["right", "left", "middle", "right", "left"]
    assert T2M.joints[stick.HEAD] == "head"


def rows() -> list[AlignmentRecord]:
    """Two methods' rows with motions of two of the three kinds."""
    return [
        changed(
            row(method, 2.0),
            motions=[
                ShownMotion(
                    kind, 'a <person> & "so on"', 10, pack(body(20, 2.0)), pack(body(20)), pack(body(20, 1.0 + n))
                )
                for kind in ("place", "way")
            ],
        )
        for n, method in enumerate(("draft", "easytune"))
    ]


def test_the_strip_has_a_row_for_real_motion_base_and_each_method():
    section = sections.travelling(rows())
    with style.look():
        figure = section.figure()
    (axes,) = figure.axes
    said = [text.get_text() for text in (*axes.texts, *figure.texts)]
    for words in ("real motion", "base", "DRaFT-20", "EasyTune", '“a <person> & "so on"”'):
        assert words in said
    assert any("embedded world" in text for text in said)
    assert "1.9 s" in said
    colours = [line.get_color() for line in axes.lines]
    assert colours.count(stick.SIDES["left"]) == colours.count(stick.SIDES["right"]) == 4 * 12 * 2


def test_the_page_moves_the_rows_motions_and_loads_nothing():
    text = page.page(sections.build(rows()), {})
    told = [json.loads(data) for data in re.findall(r'<script type="application/json">(.*?)</script>', text)]
    assert len(told) == 2
    moved = [unpack(motion) for motion in told[1]["motions"]]
    assert [round(float(joints[-1, 0, 2] - joints[0, 0, 2]), 2) for joints in moved] == [2.0, 0.0, 1.0, 2.0]
    corner, width = np.array(told[1]["corner"]), told[1]["width"]
    for joints in moved:  # nothing leaves its canvas
        places = stick.project(joints)
        assert (places[..., 0] > corner[0]).all()
        assert (places[..., 0] < corner[0] + width).all()
        assert (places[..., 1] < corner[1]).all()
    assert text.count("<canvas") == text.count('role="img"') == 8
    assert text.count('aria-label="EasyTune: stick figure, “a &lt;person&gt; &amp; &#34;so on&#34;”"') == 2
    assert "prefers-reduced-motion" in text
    assert text.count('"use strict"') == 1
    rest = re.sub(r"<script type=.*?</script>|base64,[^\"]+", "", text)
    assert not re.search(r"https?:|src=\"(?!data:)|url\(|import", rest)


def test_rows_without_motions_leave_the_sections_with_their_command():
    for make in (sections.in_place, sections.travelling, sections.turning):
        section = make([row("draft", 2.0)])
        assert (section.see, section.animation, section.command) == ("", None, claims.ALIGN_COMMAND)
        assert section.title.startswith("Before and after")
    assert not sections.turning(rows()).see  # a world without a prompt of the kind


def test_a_row_whose_motion_was_edited_is_refused_in_a_sentence(tmp_path, capsys):
    made = [to_builtins(record) for record in rows()]
    made[0]["alignment"]["motions"][0]["real"] = "AAAA"
    path = tmp_path / "run.json"
    path.write_text(json.dumps({"benchmarks": [{"extra_info": own} for own in made]}))
    assert command.main([str(path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{path} has a record, draft-embedded-T20-B16-full, whose field alignment.motions[0].real is wrong" in line
