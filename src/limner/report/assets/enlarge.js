// Enlarged figures: a click on a picture, or its button, shows it in a dialog; Escape closes it.
const dialog = document.getElementById("enlarged");
const stage = dialog.querySelector(".stage");
for (const figure of document.querySelectorAll(".picture")) {
  const button = figure.querySelector(".enlarge");
  const panels = figure.querySelector(".panels");
  const caption = figure.querySelector("figcaption");

  function open() {
    stage.replaceChildren(...[...panels.children, caption].map((part) => part.cloneNode(true)));
    dialog.setAttribute("aria-label", figure.querySelector("h3").firstChild.textContent.trim());
    dialog.showModal();
    stage.scrollTo(0, 0);
  }
  button.hidden = false;
  button.addEventListener("click", open);
  panels.classList.add("opens");
  panels.addEventListener("click", open);
}
dialog.addEventListener("click", (event) => {
  if (event.target === dialog) dialog.close();
});
