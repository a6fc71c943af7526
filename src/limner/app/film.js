// A film: the frames of a panel are below each other in one picture, and windows are drawn over it.
const find = (selector) => element.querySelector(selector);
const slider = find(".controls input"), play = find(".play"), output = find("output");
const resample = find(".resample"), kl = find(".kl"), strip = find(".strip");
const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
let scene = null, panels = [], timer = 0, forward = true;

function made(name, parent, attributes = {}) {
  const drawn = ["svg", "rect", "polyline", "circle"].includes(name);
  const child = drawn ? document.createElementNS("http://www.w3.org/2000/svg", name)
    : document.createElement(name);
  for (const key in attributes) child.setAttribute(key, attributes[key]);
  return parent.appendChild(child);
}
// A panel's element, and functions that show one of its frames.
function panel({ name, src, frames, width, height, image, columns, boxes, role }) {
  const outer = made("div", find(".panels"), { class: `panel ${role}`, style: `flex-grow: ${width / height}` });
  made("p", outer).textContent = name;
  const frame = made("div", outer, { class: "window", style: `aspect-ratio: ${width} / ${height}` });
  const picture = made("img", frame, { src, alt: "" });
  const marks = boxes ? windows(frame, width, height, image, columns, boxes) : [];
  return (step) => {
    picture.style.transform = `translateY(${-100 * Math.min(step - 1, frames - 1) / frames}%)`;
    for (const mark of marks) mark(step - 1);
  };
}
// Windows in an image's own pixels, numbered from 1: pixel p covers p - 1/2 to p + 1/2.
function windows(frame, width, height, [w, h], columns, boxes) {
  const cover = made("svg", frame, { viewBox: `0 0 ${width} ${height}`, "aria-hidden": true });
  const thin = w / 90, alone = boxes[0].length === 1;
  return boxes[0].map((_, k) => {
    const place = { x: k % columns * (w + 1), y: Math.floor(k / columns) * (h + 1), width: w, height: h };
    const cell = made("svg", cover, { ...place, viewBox: `0.5 0.5 ${w} ${h}` });
    const path = alone && made("polyline", cell), dots = alone ? boxes.map(() => made("circle", cell)) : [];
    const lines = ["casing", "line"].map((name) => made("rect", cell, { class: name }));
    const centres = boxes.map((step) => [step[k][0] + step[k][2] / 2, step[k][1] + step[k][3] / 2]);
    return (now) => {
      const [x, y, across, down, line] = boxes[now][k];
      const thick = Math.max(line, w / 60);
      lines.forEach((rect, i) => {
        const edge = { x, y, width: across, height: down, "stroke-width": i ? thick : thick + 2 * thin };
        for (const key in edge) rect.setAttribute(key, edge[key]);
        rect.style.strokeDasharray = cell.closest(".write") ? `${w / 11} ${w / 16}` : "";
      });
      if (path) path.setAttribute("points", centres.slice(0, now + 1).join(" "));
      dots.forEach((dot, t) => {
        const shown = { cx: centres[t][0], cy: centres[t][1], r: t === now ? w / 45 : w / 70 };
        for (const key in shown) dot.setAttribute(key, shown[key]);
        dot.style.display = t <= now ? "" : "none";
      });
    };
  });
}
function mark(parent, now) {
  [...parent.children].forEach((child, k) => child.classList.toggle("now", k === now));
}
function show(step) {
  const count = scene.captions.length, caption = scene.captions[step - 1];
  slider.value = step;
  output.textContent = caption;
  slider.setAttribute("aria-valuetext", caption);
  for (const set of panels) set(step);
  mark(strip, scene.stops.findLastIndex((stop) => stop < step));
  mark(kl, step - 1);
  if (scene.kl.length) {
    const most = Math.max(...scene.kl).toFixed(1);
    find(".bars p").textContent = `KL per ${scene.unit}: ${scene.kl[step - 1].toFixed(1)} nats in `
      + `${scene.unit} ${step}, at most ${most}`;
  }
  resample.disabled = step === count;
  resample.textContent = step === count ? `Resample: first choose an earlier ${scene.unit}`
    : `Resample from ${scene.unit} ${step}`;
}
function stop() {
  clearTimeout(timer);
  timer = 0;
  play.textContent = "▶";
  play.setAttribute("aria-label", "Play");
}
function next() {
  const step = Number(slider.value) + (forward ? 1 : -1), count = scene.captions.length;
  show(step);
  const ended = step === (forward ? count : 1);
  if (ended && scene.strip !== null) forward = !forward;
  if (ended && scene.strip === null) stop();
  else timer = setTimeout(next, pause());
}
function pause() {
  return Math.min(200, 3000 / scene.captions.length);
}
function start() {
  forward = true;
  show(1);
  play.textContent = "❚❚";
  play.setAttribute("aria-label", "Pause");
  timer = setTimeout(next, pause());
}
function go(step) {
  stop();
  show(step);
}
play.addEventListener("click", () => timer ? stop() : start());
slider.addEventListener("input", () => go(Number(slider.value)));
find(".save").addEventListener("click", () => trigger("download", scene.ask));
resample.addEventListener("click", () => {
  stop();
  trigger("submit", { keep: Number(slider.value), seed: Math.floor(Math.random() * 2 ** 31) });
});
function bars() {
  kl.replaceChildren();
  find(".bars").hidden = !scene.kl.length;
  const most = Math.max(...scene.kl, 1e-9);
  scene.kl.forEach((nats, k) => {
    const bar = made("i", kl, { style: `--share: ${Math.max(0, nats) / most}`, title: `${nats.toFixed(1)} nats` });
    bar.addEventListener("click", () => go(k + 1));
  });
}
function thumbnails() {
  strip.replaceChildren();
  if (scene.strip === null) return;
  const { src, frames, width, height } = scene.panels[scene.strip];
  for (const stop of scene.stops) {
    const style = `background-image: url(${src}); background-position: 0 ${100 * stop / Math.max(1, frames - 1)}%;`
      + `aspect-ratio: ${width} / ${height}`;
    made("span", strip, { style }).addEventListener("click", () => go(stop + 1));
  }
}
function update() {
  stop();
  scene = props.value;
  find(".empty").hidden = Boolean(scene);
  find(".shown").hidden = !scene;
  if (!scene) return;
  const count = scene.captions.length;
  find(".panels").replaceChildren();
  find(".panels").setAttribute("aria-label", scene.alt);
  panels = scene.panels.map(panel);
  slider.max = count;
  find(".controls").hidden = count < 2;
  resample.hidden = !(props.resample && scene.unit && count > 1);
  find(".legend").hidden = !scene.panels.some(({ boxes }) => boxes);
  find(".legend .read").hidden = !scene.panels.some(({ boxes, role }) => boxes && role === "read");
  find(".said").textContent = scene.said;
  find("figcaption").textContent = scene.caption;
  bars();
  thumbnails();
  if (still || count < 2 || !scene.plays) show(count);
  else start();
}
watch("value", update);
update(); // a page in another tab is made when it is first seen, and may have its film by then
