// A film: frames below each other in one picture, shown one at a time. Plays once when it changes.
const find = (selector) => element.querySelector(selector);
const image = find("img"), slider = find("input"), button = find("button"), output = find("output");
const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
let captions = [], timer = 0;

function show(step) {
  slider.value = step;
  output.textContent = captions[step - 1];
  slider.setAttribute("aria-valuetext", captions[step - 1]);
  image.style.transform = `translateY(${-100 * (step - 1) / captions.length}%)`;
}
function stop() {
  clearTimeout(timer);
  timer = 0;
  button.textContent = "▶";
  button.setAttribute("aria-label", "Play");
}
function next() {
  const step = Number(slider.value) + 1;
  show(step);
  if (step < captions.length) timer = setTimeout(next, pause());
  else stop();
}
function pause() {
  return Math.min(200, 3000 / captions.length);
}
function play() {
  show(1);
  button.textContent = "❚❚";
  button.setAttribute("aria-label", "Pause");
  timer = setTimeout(next, pause());
}
button.addEventListener("click", () => {
  if (timer) stop();
  else play();
});
slider.addEventListener("input", () => {
  stop();
  show(Number(slider.value));
});
function update() {
  stop();
  const film = props.value;
  find(".empty").hidden = Boolean(film);
  find(".shown").hidden = !film;
  if (!film) return;
  captions = film.captions;
  image.onload = () => {
    find(".window").style.aspectRatio = `${film.width} / ${film.height}`;
    find(".shown").style.maxWidth = `${film.width}px`;
    slider.max = captions.length;
    find(".controls").hidden = captions.length < 2;
    find(".names").replaceChildren(...film.names.map((name) => {
      const label = document.createElement("span");
      label.textContent = name;
      return label;
    }));
    find(".said").textContent = film.said;
    find("figcaption").textContent = film.caption;
    if (still || captions.length < 2) show(captions.length);
    else play();
  };
  image.alt = film.alt;
  image.src = film.src;
}
watch("value", update);
update(); // a page in another tab is made when it is first seen, and may have its film by then
