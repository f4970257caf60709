"""What a motion is put together from: the curves of one action (Part), and the random choices of a clip (Draw)."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bench.world.procedural.body import AHEAD, ARM, BODY, LEFT_RIGHT
from bench.world.procedural.grammar import Action

Curve = NDArray[np.float64]
"""[F]: one value a frame."""


@dataclass
class Part:
    """The curves of one action over F frames, in the frame where it starts: at the origin, facing +z, feet together."""

    frames: int
    stance: float
    """Half the distance between the feet."""
    x: Curve = field(init=False)
    z: Curve = field(init=False)
    yaw: Curve = field(init=False)
    """Heading, to the left positive."""
    rise: Curve = field(init=False)
    """Of the pelvis over its height in standing."""
    toes: NDArray[np.float64] = field(init=False)
    """[2, F, 3]: the balls of the left and the right foot."""
    toe_yaw: NDArray[np.float64] = field(init=False)
    """[2, F]: where the feet point."""
    heel: NDArray[np.float64] = field(init=False)
    """[2, F]: angles of the feet, heel up positive."""
    body: dict[str, Curve] = field(init=False)
    arms: dict[str, NDArray[np.float64]] = field(init=False)
    """[2, F] each, beyond the arms at rest."""

    def __post_init__(self) -> None:
        self.x, self.z, self.yaw, self.rise = np.zeros((4, self.frames))
        self.toes = np.zeros((2, self.frames, 3))
        self.toes[..., 0] = self.stance * LEFT_RIGHT[:, None]
        self.toes[..., 2] = AHEAD
        self.toe_yaw, self.heel = np.zeros((2, 2, self.frames))
        self.body = dict(zip(BODY, np.zeros((len(BODY), self.frames)), strict=True))
        self.arms = dict(zip(ARM, np.zeros((len(ARM), 2, self.frames)), strict=True))


class Draw:
    """The random choices of one clip: its style, and variation around given values."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.strength = self.around(1.0, 0.10)
        self.pace = self.around(1.0, 0.07)
        self.stance = self.around(0.10, 0.10)
        self.arm_swing = self.around(1.0, 0.2)

    def around(self, value: float, spread: float = 0.08) -> float:
        """A value near the given one, at most by one and a half of `spread` as a share of it."""
        return value * (1 + spread * float(np.clip(self.rng.normal(), -1.5, 1.5)))

    def side(self) -> int:
        return int(self.rng.integers(2))

    def frames(self, usual: float, speed: str = "") -> int:
        """A duration in frames for a usual one, by speed and the clip's pace."""
        return round(usual * {"": 1.0, "slow": 1.6, "quick": 0.65}[speed] / self.pace * self.around(1.0, 0.05))


def smooth(share: NDArray[np.float64]) -> NDArray[np.float64]:
    """From 0 to 1, at rest at both ends; flat outside."""
    s = np.clip(share, 0, 1)
    return s * s * (3 - 2 * s)


def bump(share: NDArray[np.float64]) -> NDArray[np.float64]:
    """From 0 up to 1 at the middle, and back to 0; 0 outside."""
    s = np.clip(share, 0, 1)
    return 16 * (s * (1 - s)) ** 2


def keys(frames: int, *points: tuple[float, float]) -> Curve:
    """A smooth curve from 0 to 0 through points (share of the duration, value), at rest at each."""
    times, values = np.array([(0.0, 0.0), *points, (1.0, 0.0)]).T
    at = np.linspace(0, 1, frames)
    piece = np.clip(np.searchsorted(times, at, side="right") - 1, 0, len(times) - 2)
    span = np.maximum(times[piece + 1] - times[piece], 1e-9)
    return values[piece] + (values[piece + 1] - values[piece]) * smooth((at - times[piece]) / span)


def chain(parts: list[Part]) -> Part:
    """Parts one after another, each beginning where the one before ended."""
    whole = Part(sum(part.frames for part in parts), parts[0].stance)
    begin, x, z, yaw = 0, 0.0, 0.0, 0.0
    for part in parts:
        span = slice(begin, begin + part.frames)
        cos, sin = np.cos(yaw), np.sin(yaw)
        whole.x[span], whole.z[span] = x + cos * part.x + sin * part.z, z - sin * part.x + cos * part.z
        whole.toes[:, span, 0] = x + cos * part.toes[..., 0] + sin * part.toes[..., 2]
        whole.toes[:, span, 2] = z - sin * part.toes[..., 0] + cos * part.toes[..., 2]
        whole.toes[:, span, 1] = part.toes[..., 1]
        whole.yaw[span], whole.toe_yaw[:, span] = yaw + part.yaw, yaw + part.toe_yaw
        whole.rise[span], whole.heel[:, span] = part.rise, part.heel
        for name in BODY:
            whole.body[name][span] = part.body[name]
        for name in ARM:
            whole.arms[name][:, span] = part.arms[name]
        begin, x, z, yaw = span.stop, whole.x[span][-1], whole.z[span][-1], whole.yaw[span][-1]
    return whole


def repeat(action: Action, once: Callable[[], Part]) -> Part:
    """An action as often as it says, each time a little different."""
    return chain([once() for _ in range(max(action.times, 1))])
