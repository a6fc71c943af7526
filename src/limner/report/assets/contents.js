// The table of contents: open on wide screens, closed on a phone, and marked where the reader is.
const contents = document.querySelector("nav details");
const wide = matchMedia("(min-width: 68rem)");
const links = new Map([...contents.querySelectorAll("a")].map((link) => [link.hash.slice(1), link]));
const targets = [...links.keys()].map((id) => document.getElementById(id));

function fit() {
  contents.open = wide.matches;
}
function mark() {
  const passed = targets.filter((target) => target.getBoundingClientRect().top < innerHeight / 3);
  const here = links.get((passed.at(-1) ?? targets[0]).id);
  for (const link of links.values()) {
    if (link === here) link.setAttribute("aria-current", "location");
    else link.removeAttribute("aria-current");
  }
  for (const item of contents.querySelectorAll(".here")) item.classList.remove("here");
  here.closest("nav > details > ul > li").classList.add("here");
}
contents.addEventListener("click", (event) => {
  if (event.target.closest("a")) fit();
});
wide.addEventListener("change", fit);
addEventListener("scroll", mark, { passive: true });
fit();
mark();
