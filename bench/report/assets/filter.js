"use strict";

function opened(image) {  // the figure's SVG in its place, so that parts of it can be hidden
  const bytes = Uint8Array.from(atob(image.src.split(",")[1]), c => c.charCodeAt(0));
  const svg = new DOMParser().parseFromString(new TextDecoder().decode(bytes), "image/svg+xml").documentElement;
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", image.alt);
  svg.querySelectorAll("metadata").forEach(element => element.remove());
  image.replaceWith(svg);
  return svg;
}

function filtering(form) {
  const marks = JSON.parse(form.querySelector("script").textContent);
  const section = document.getElementById(form.dataset.of);
  const svg = opened(section.querySelector("img")), rows = [...section.querySelectorAll("tr")].slice(1);
  const slider = form.querySelector("[type=range]"), boxes = [...form.querySelectorAll("[type=checkbox]")];

  function show() {
    const left_out = boxes.filter(box => !box.checked);
    marks.forEach((mark, n) => {
      const hidden = mark.memory > slider.value || left_out.some(box => mark.choices[box.name] === box.value);
      svg.querySelectorAll(`[id^="row-${n}-"]`).forEach(part => { part.style.display = hidden ? "none" : ""; });
      rows[n].hidden = hidden;
    });
    form.querySelector("output").textContent = slider.value;
  }

  form.addEventListener("input", show);
  form.addEventListener("submit", event => event.preventDefault());
  form.hidden = false;
  show();
}

document.querySelectorAll(".filters").forEach(filtering);
