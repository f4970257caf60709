"""Stick figures that move, side by side in the report's page: canvases, their data, and the script that draws them.

Nothing is loaded from elsewhere. Figures stand still until they are started where the reader's system asks for reduced
motion; without scripts nothing is shown, and the strip of the same motions above remains.
"""

import html
import json

import numpy as np

from bench.report import stick
from bench.report.stick import Shown
from bench.report.style import FAINT, INK, SOFT

CSS = """
.motion .stage { display: grid; grid-template-columns: repeat(auto-fill, minmax(190px, 1fr)); gap: .5rem; }
.motion figure { margin: 0; }
.motion canvas { width: 100%; display: block; background: #fafbfc; border-radius: 4px; }
.motion figcaption { font-size: .84rem; text-align: center; }
.motion .controls { display: flex; gap: .8rem; align-items: center; margin: .6rem 0 1rem; }
.motion .controls input { flex: 1; }
.motion button { font: inherit; font-size: .9rem; min-width: 5rem; padding: .15rem .6rem; }
"""

_MARGIN = 0.15
"""Metres around all that moves."""
_PIXELS = 380
"""Width of a canvas."""


def markup(shown: Shown, name: str) -> str:
    """The animation of one prompt; `name` is its anchor. SCRIPT draws it, once in a page."""
    points = np.concatenate([stick.project(joints).reshape(-1, 2) for joints in shown.motions.values()])
    low, high = points.min(0) - _MARGIN, points.max(0) + _MARGIN
    width, height = high - low
    data = {
        "fps": shown.fps,
        "right": stick.RIGHT,
        "up": stick.UP,
        "limbs": [[stick.SIDES[side], chain] for side, chain in stick.LIMBS],
        "head": [stick.HEAD, INK],
        "path": [SOFT, FAINT],
        "corner": [round(float(value), 3) for value in (low[0], high[1])],
        "width": round(float(width), 3),
        "motions": list(shown.packed.values()),
    }
    told = json.dumps(data, separators=(",", ":"))  # numbers, colours and base64: nothing that could end the element
    figures = "".join(
        f'<figure><canvas role="img" width="{_PIXELS}" height="{round(_PIXELS * height / width)}" '
        f'aria-label="{_text(f"{label}: stick figure, “{shown.text}”")}"></canvas>'
        f"<figcaption>{_text(label)}</figcaption></figure>"
        for label in shown.packed
    )
    return f"""<div class="motion" id="{name}" role="group" aria-label="{_text(f"Animation: {shown.text}")}" hidden>
<div class="stage">{figures}</div>
<div class="controls"><button type="button">Play</button>
<input type="range" min="0" step="0.1" value="0" aria-label="Time in seconds"><span>0.0 s</span></div>
<script type="application/json">{told}</script>
</div>"""


def _text(value: str) -> str:
    return html.escape(value, quote=True)


SCRIPT = """
"use strict";
const still = matchMedia("(prefers-reduced-motion: reduce)");
const REST = 0.8;  // seconds that a motion's end stays

function joints(text) {  // frames of [x, y, z] in metres
  const bytes = Uint8Array.from(atob(text), c => c.charCodeAt(0)), view = new DataView(bytes.buffer);
  const frames = [];
  for (let at = 0; at < bytes.length; at += 132) {
    const frame = [];
    for (let n = 0; n < 22; n++) {
      frame.push([0, 2, 4].map(place => view.getInt16(at + 6 * n + place, true) / 1000));
    }
    frames.push(frame);
  }
  return frames;
}

function start(group) {
  const data = JSON.parse(group.querySelector("script").textContent);
  const motions = data.motions.map(joints);
  const canvases = [...group.querySelectorAll("canvas")];
  const [button, slider, clock] = ["button", "input", ".controls span"].map(name => group.querySelector(name));
  const end = (Math.max(...motions.map(frames => frames.length)) - 1) / data.fps;
  const scale = canvases[0].width / data.width;
  const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
  const seen = p => [(dot(p, data.right) - data.corner[0]) * scale, (data.corner[1] - dot(p, data.up)) * scale];
  let now = 0, playing = false, visible = true, asked = false, last = null;

  function line(pen, points, colour, width) {
    pen.beginPath();
    points.forEach((point, n) => pen[n ? "lineTo" : "moveTo"](...point));
    pen.strokeStyle = colour; pen.lineWidth = width; pen.lineCap = pen.lineJoin = "round";
    pen.stroke();
  }

  function body(frames, time) {  // between two frames
    const place = Math.min(time * data.fps, frames.length - 1), n = Math.floor(place), share = place - n;
    const next = frames[Math.min(n + 1, frames.length - 1)];
    return frames[n].map((p, j) => p.map((value, axis) => value + share * (next[j][axis] - value)));
  }

  function draw() {
    const time = Math.min(now, end);
    canvases.forEach((canvas, n) => {
      const pen = canvas.getContext("2d"), frames = motions[n], pose = body(frames, time);
      const floor = p => seen([p[0], 0, p[2]]);
      pen.clearRect(0, 0, canvas.width, canvas.height);
      line(pen, frames.map(frame => floor(frame[0])), data.path[1], 3);
      const gone = frames.slice(0, Math.floor(time * data.fps) + 1).map(frame => floor(frame[0]));
      line(pen, [...gone, floor(pose[0])], data.path[0], 2);
      for (const [colour, chain] of data.limbs) line(pen, chain.map(j => seen(pose[j])), colour, 4);
      const [head, ink] = data.head;
      pen.beginPath();
      pen.arc(...seen(pose[head]), 0.09 * scale, 0, 2 * Math.PI);
      pen.fillStyle = ink;
      pen.fill();
    });
    slider.value = time;
    clock.textContent = time.toFixed(1) + " s";
  }

  function tick(stamp) {
    asked = false;
    if (last !== null) now += (stamp - last) / 1000;
    if (now > end + REST) now = 0;
    last = stamp;
    draw();
    go();
  }

  function go() {
    if (!playing || !visible) {
      last = null;
    } else if (!asked) {
      asked = true;
      requestAnimationFrame(tick);
    }
  }

  function play(on) {
    playing = on;
    button.textContent = on ? "Pause" : "Play";
    go();
  }

  slider.max = end;
  button.addEventListener("click", () => play(!playing));
  slider.addEventListener("input", () => { play(false); now = Number(slider.value); draw(); });
  still.addEventListener("change", () => { if (still.matches) play(false); });
  new IntersectionObserver(entries => { visible = entries[entries.length - 1].isIntersecting; go(); }).observe(group);
  group.hidden = false;
  draw();
  play(!still.matches);
}

document.querySelectorAll(".motion").forEach(start);
"""
