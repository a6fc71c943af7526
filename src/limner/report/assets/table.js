// Tables: a button in each heading sorts by its column; a note where a table scrolls sideways.
for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];

  function compare(a, b, sign) {
    const [left, right] = [a, b].map((cell) => cell.dataset.value ?? cell.textContent.trim());
    if (left === "" || right === "") return (left === "") - (right === "");
    return sign * ("value" in a.dataset ? left - right : left.localeCompare(right));
  }
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const rising = heading.getAttribute("aria-sort") !== "ascending";
      for (const other of headings) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", rising ? "ascending" : "descending");
      const sorted = [...body.rows].sort((a, b) =>
        compare(a.cells[column], b.cells[column], rising ? 1 : -1));
      body.append(...sorted);
    });
  });
}
function cue() {
  for (const scroll of document.querySelectorAll(".scroll")) {
    scroll.previousElementSibling.hidden = scroll.scrollWidth <= scroll.clientWidth;
  }
}
addEventListener("resize", cue);
cue();
