"""The figure's measures, in metres, and the names of the angles that move it.

Axes are those of HumanML3D: x to the figure's left, y up, z ahead. Points are given for the left side; x changes its
sign for the right one.
"""

import numpy as np

THIGH, SHIN = 0.39, 0.40
HIP, PELVIS = np.array([0.07, -0.08, 0.0]), 0.935
"""The left hip from the pelvis, and the pelvis's height in standing."""
ANKLE = np.array([0.0, 0.065, -0.13])
"""From the ball of the foot, flat on the floor."""
AHEAD = 0.09
"""How far before the pelvis the balls of the feet stand."""
REACH = 0.998 * (THIGH + SHIN)
"""Legs are never quite straight."""
SPINE = np.array([[0.0, 0.11, -0.015], [0.0, 0.13, 0.0], [0.0, 0.06, 0.01]])
NECK, HEAD = np.array([0.0, 0.21, -0.02]), np.array([0.0, 0.09, 0.04])
COLLAR, SHOULDER = np.array([0.07, 0.12, -0.01]), np.array([0.11, 0.03, 0.0])
"""The left ones, from the chest and from the collar."""
UPPER_ARM, FOREARM = np.array([0.0, -0.27, 0.0]), np.array([0.0, -0.25, 0.0])
LEFT_RIGHT = np.array([1.0, -1.0])
"""The sign of x on each side; 0 is left and 1 is right in every pair."""

BODY = ("tilt", "bend", "lean", "twist", "nod", "look")
"""Radians: of the pelvis forward; of the spine forward, to the left and turned to the left; of the head down and to the
left."""
ARM = ("flex", "abduct", "across", "roll", "elbow")
"""Radians: raised forward, raised sideways, brought before the chest, turned outwards, bent."""
AT_REST = {"flex": 0.05, "abduct": 0.14, "across": 0.0, "roll": -0.25, "elbow": 0.3}
