"""The procedural world: motion made from a grammar of actions, so that anyone can train and measure without data.

A clip is one action or two in sequence. Each action gives curves: the path of the pelvis, where the feet stand and
swing, and the angles of trunk and arms. Legs are then bent to reach the feet (so planted feet stay where they are),
trunk and arms follow by forward kinematics, all on one skeleton of fixed size. What a caption leaves open is drawn at
random: strength, pace, posture, small movements of the body, drift of the heading.

From the inside out: body (measures of the figure), part (curves of one action, and random choices), gait (stepping
along a path), the actions (locomotion, exercises, gestures), pose (curves to joints), clips (meanings, splits,
captions).
"""

from bench.world.procedural.clips import (
    CAPTIONS,
    MAX_LENGTH,
    MIN_LENGTH,
    clip,
    draw_meaning,
    generate,
    perform,
)

__all__ = ["CAPTIONS", "MAX_LENGTH", "MIN_LENGTH", "clip", "draw_meaning", "generate", "perform"]
