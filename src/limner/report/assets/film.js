// Films: play, stop and step, with a marker in the chart beside. Without a script, CSS plays them.
const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
for (const film of document.querySelectorAll(".film")) {
  const { captions, places, readings } = JSON.parse(film.dataset.film);
  const image = film.querySelector(".window img");
  const button = film.querySelector("button");
  const slider = film.querySelector("input");
  const output = film.querySelector("output");
  const chart = film.querySelector(".chart");
  const marker = film.querySelector(".marker");
  let timer = 0;
  let wanted = !still;
  let visible = false;

  function show(step) {
    const text = [captions[step - 1], readings[step - 1]].filter(Boolean).join(": ");
    slider.value = step;
    output.textContent = text;
    slider.setAttribute("aria-valuetext", text);
    image.style.transform = `translateY(${-100 * (step - 1) / captions.length}%)`;
    if (marker) marker.style.left = `${places[step - 1]}%`;
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
  function stopAt(step) {
    wanted = false;
    show(step);
    update();
  }
  button.addEventListener("click", () => { wanted = !wanted; update(); });
  slider.addEventListener("input", () => stopAt(Number(slider.value)));
  chart?.addEventListener("click", (event) => {
    const box = chart.getBoundingClientRect();
    const distances = places.map((place) => Math.abs(place - 100 * (event.clientX - box.left) / box.width));
    stopAt(distances.indexOf(Math.min(...distances)) + 1);
  });
  new IntersectionObserver((entries) => {
    visible = entries[entries.length - 1].isIntersecting;
    update();
  }).observe(film);
  film.classList.add("stepped");
  film.querySelector(".controls").hidden = false;
  if (marker) marker.hidden = false;
  show(captions.length);
}
