"""The embedded world's language: what its figures can do, and how that is said.

An action is a verb with its modifiers; a meaning is one action, or two in sequence. Every meaning has a fixed handful
of captions: the grammar's wordings in an order given by a hash, cut to a number that keeps the table of their
embeddings small. No caption has two meanings.
"""

import hashlib
import itertools
from dataclasses import dataclass
from functools import cache, cached_property

SINGLE_CAPTIONS, PAIR_CAPTIONS = 6, 4
"""How many captions a meaning of one and of two actions has, at most."""
HELD_OUT = 6
"""One in so many meanings of two actions is kept for the test split; each of its actions is trained on elsewhere."""

SUBJECTS = ("a person", "someone", "the person", "a figure")
JOINS = (" then ", " and then ", ", then ", " and after that ")
SPEEDS = {"": ("",), "slow": ("slowly", "at a slow pace"), "quick": ("quickly", "fast")}
TIMES = {0: ("",), 1: ("once", "one time"), 2: ("twice", "two times"), 3: ("three times", "three times in a row")}


@dataclass(frozen=True)
class Verb:
    """What can be said of one kind of action."""

    wordings: tuple[str, ...]
    """With `{direction}` where the direction or the side stands."""
    directions: dict[str, tuple[str, ...]]
    """How each direction or side is said."""
    speeds: tuple[str, ...] = ("",)
    times: tuple[int, ...] = (0,)
    in_pairs: tuple[str, ...] = ()
    """The directions that two-action meanings use; they do the action once, at its usual speed."""


_ALL = ("", "slow", "quick")


def _sides(*wordings: str, both: bool = False) -> dict[str, tuple[str, ...]]:
    """`wordings` name a limb; both: also two of them."""
    sides = {side: tuple(f"the {side} {limb}" for limb in wordings) for side in ("left", "right")}
    return {**sides, "both": tuple(f"both {limb}s" for limb in wordings)} if both else sides


VERBS = {
    "walk": Verb(
        ("walks {direction}", "paces {direction}"),
        {
            "forward": ("forward", "ahead", "straight ahead"),
            "backward": ("backward", "backwards"),
            "circle left": ("in a circle to the left", "in a counterclockwise circle"),
            "circle right": ("in a circle to the right", "in a clockwise circle"),
        },
        speeds=_ALL,
        in_pairs=("forward", "backward"),
    ),
    "run": Verb(
        ("runs {direction}", "jogs {direction}"),
        {
            "forward": ("forward", "ahead", "straight ahead"),
            "circle left": ("in a circle to the left", "in a counterclockwise circle"),
            "circle right": ("in a circle to the right", "in a clockwise circle"),
            "place": ("in place", "on the spot"),
        },
        in_pairs=("forward",),
    ),
    "march": Verb(
        ("marches {direction}", "walks {direction} with high knees"),
        {"place": ("in place", "on the spot"), "forward": ("forward", "ahead")},
        in_pairs=("place",),
    ),
    "sidestep": Verb(
        ("steps sideways {direction}", "sidesteps {direction}"),
        {side: (f"to the {side}", f"to their {side}") for side in ("left", "right")},
        speeds=_ALL,
        in_pairs=("left", "right"),
    ),
    "turn": Verb(
        ("turns {direction}", "rotates {direction}"),
        {"left": ("to the left", "left"), "right": ("to the right", "right"), "around": ("around", "to face backward")},
        speeds=_ALL,
        in_pairs=("left", "right"),
    ),
    "jump": Verb(
        ("jumps {direction}", "leaps {direction}"),
        {"up": ("up", "up in the air"), "forward": ("forward", "ahead"), "backward": ("backward", "backwards")},
        times=(1, 2, 3),
        in_pairs=("up", "forward"),
    ),
    "jumping jack": Verb(
        ("does a jumping jack", "performs a jumping jack", "does a star jump"),
        {"": ("",)},
        times=(1, 2, 3),
        in_pairs=("",),
    ),
    "kick": Verb(
        ("kicks with {direction}", "does a kick with {direction}"),
        _sides("leg", "foot"),
        times=(1, 2, 3),
        in_pairs=("left", "right"),
    ),
    "squat": Verb(("squats", "squats down", "crouches down"), {"": ("",)}, times=(1, 2, 3), in_pairs=("",)),
    "bow": Verb(("bows", "takes a bow", "bends forward to bow"), {"": ("",)}, speeds=_ALL, in_pairs=("",)),
    "wave": Verb(
        ("waves with {direction}", "waves {direction}", "says hello with {direction}"),
        {
            "left": ("the left hand", "the left arm"),
            "right": ("the right hand", "the right arm"),
            "both": ("both hands",),
        },
        speeds=_ALL,
        in_pairs=("left", "right"),
    ),
    "raise": Verb(
        ("raises {direction}", "lifts {direction}", "puts {direction} up"),
        _sides("arm", "hand", both=True),
        speeds=_ALL,
        in_pairs=("left", "right", "both"),
    ),
    "punch": Verb(
        ("punches with {direction}", "throws a punch with {direction}"),
        _sides("hand", "arm", "fist"),
        times=(1, 2, 3),
        in_pairs=("left", "right"),
    ),
    "throw": Verb(
        ("throws something with {direction}", "throws a ball with {direction}"),
        _sides("hand", "arm"),
        in_pairs=("left", "right"),
    ),
    "clap": Verb(("claps", "claps the hands"), {"": ("",)}, times=(1, 2, 3), in_pairs=("",)),
    "spread": Verb(
        ("spreads the arms", "stretches both arms out to the sides", "opens the arms wide"),
        {"": ("",)},
        speeds=_ALL,
        in_pairs=("",),
    ),
}


@dataclass(frozen=True)
class Action:
    """One verb of VERBS with one choice of each modifier."""

    verb: str
    direction: str = ""
    """Or the side: one of the verb's `directions`."""
    speed: str = ""
    """"", "slow" or "quick"."""
    times: int = 0
    """How often; 0: not said, and done once."""

    def __str__(self) -> str:
        return " ".join(str(part) for part in (self.verb, self.direction, self.speed, self.times or "") if part)

    def phrases(self) -> list[str]:
        """All that the grammar says for it, without a subject."""
        verb = VERBS[self.verb]
        phrases = []
        for wording, words in itertools.product(verb.wordings, verb.directions[self.direction]):
            said = wording.format(direction=words)
            for speed, times in itertools.product(SPEEDS[self.speed], TIMES[self.times]):
                phrases.append(" ".join(part for part in (said, speed, times) if part))
                if speed.endswith("ly"):
                    phrases.append(" ".join(part for part in (speed, said, times) if part))
        return phrases


@dataclass(frozen=True)
class Meaning:
    """What a caption says: one action, or one and then another."""

    actions: tuple[Action, ...]

    @cached_property
    def id(self) -> str:
        """Canonical: equal for captions that mean the same."""
        return " > ".join(map(str, self.actions))

    @cached_property
    def held_out(self) -> bool:
        """Whether only the test split has it: a sixth of the two-action meanings, by a hash."""
        return len(self.actions) > 1 and number(f"held out: {self.id}") % HELD_OUT == 0

    @cached_property
    def captions(self) -> tuple[str, ...]:
        """All its captions, distinct."""
        if len(self.actions) == 1:
            phrases, most = self.actions[0].phrases(), SINGLE_CAPTIONS
        else:
            said = itertools.product(self.actions[0].phrases(), JOINS, self.actions[1].phrases())
            phrases, most = ["".join(parts) for parts in said], PAIR_CAPTIONS
        every = [f"{subject} {phrase}" for subject, phrase in itertools.product(SUBJECTS, phrases)]
        return tuple(sorted(every, key=number)[:most])


def number(text: str) -> int:
    """The same on every machine and in every run, unlike Python's own."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


@cache
def singles() -> tuple[Meaning, ...]:
    """Every meaning of one action."""
    return tuple(
        Meaning((Action(name, direction, speed, times),))
        for name, verb in VERBS.items()
        for direction in verb.directions
        for speed in verb.speeds
        for times in verb.times
    )


@cache
def pairs() -> tuple[Meaning, ...]:
    """Every meaning of two actions; the two have different verbs."""
    core = [Action(name, direction) for name, verb in VERBS.items() for direction in verb.in_pairs]
    return tuple(Meaning(both) for both in itertools.permutations(core, 2) if both[0].verb != both[1].verb)


@cache
def captions() -> tuple[str, ...]:
    """Every caption of every meaning, in a fixed order: what a table of embeddings must hold."""
    return tuple(caption for meaning in (*singles(), *pairs()) for caption in meaning.captions)
