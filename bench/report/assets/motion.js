"use strict";
const still = matchMedia("(prefers-reduced-motion: reduce)");
const REST = 0.8;  // seconds that a motion's end stays

function joints(text) {  // frames of [x, y, z] in metres
  const bytes = Uint8Array.from(atob(text), c => c.charCodeAt(0)), view = new DataView(bytes.buffer);
  const frames = [];
  for (let at = 0; at < bytes.length; at += 132) {
    const frame = [];
    for (let n = 0; n < 22; n++) {
      frame.push([0, 2, 4].map(axis => view.getInt16(at + 6 * n + axis, true) / 1000));
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
    const position = Math.min(time * data.fps, frames.length - 1), n = Math.floor(position), share = position - n;
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
