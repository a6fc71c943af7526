// Films: play, stop and step; without this script they play by CSS alone. On paper all is open.
"use strict";
const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details")) details.open = true;
});
for (const film of document.querySelectorAll(".film")) {
  const captions = JSON.parse(film.dataset.captions);
  const image = film.querySelector("img");
  const button = film.querySelector("button");
  const slider = film.querySelector("input");
  const output = film.querySelector("output");
  let timer = 0;
  let wanted = !still;
  let visible = false;

  function show(step) {
    slider.value = step;
    output.textContent = captions[step - 1];
    slider.setAttribute("aria-valuetext", captions[step - 1]);
    image.style.transform = `translateY(${-100 * (step - 1) / captions.length}%)`;
  }
  function next() {
    const step = Number(slider.value) % captions.length + 1;
    show(step);
    timer = setTimeout(next, step === captions.length ? 1800 : 300);
  }
  function update() {
    clearTimeout(timer);
    button.textContent = wanted ? "❚❚" : "▶";
    button.setAttribute("aria-label", wanted ? "Pause" : "Play");
    if (wanted && visible) timer = setTimeout(next, 600);
  }
  button.addEventListener("click", () => { wanted = !wanted; update(); });
  slider.addEventListener("input", () => { wanted = false; show(Number(slider.value)); update(); });
  new IntersectionObserver((entries) => {
    visible = entries[entries.length - 1].isIntersecting;
    update();
  }).observe(film);
  film.classList.add("stepped");
  film.querySelector(".controls").hidden = false;
  show(captions.length);
}
