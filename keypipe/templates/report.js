"use strict";
// Sort a table by a click on a column's head; empty cells go last either way.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const ascending = head.getAttribute("aria-sort") !== "ascending";
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    const numeric = head.classList.contains("number");
    const key = (row) => {
      const cell = row.cells[column];
      if (!numeric) return cell.textContent;
      return cell.dataset.value === "" ? NaN : Number(cell.dataset.value);
    };
    const compare = (a, b) => {
      const x = key(a), y = key(b);
      if (!numeric) return (ascending ? 1 : -1) * x.localeCompare(y, undefined, { numeric: true });
      if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
      return ascending ? x - y : y - x;
    };
    table.tBodies[0].append(...[...table.tBodies[0].rows].sort(compare));
  }));
}
// Enlarge a picture.
const dialog = document.getElementById("enlarged");
for (const button of document.querySelectorAll(".gallery figure button")) {
  button.addEventListener("click", () => {
    dialog.querySelector("img").src = button.querySelector("img").src;
    dialog.querySelector("img").alt = button.querySelector("img").alt;
    dialog.querySelector("figcaption").textContent = button.querySelector("img").alt;
    dialog.showModal();
  });
}
dialog.addEventListener("click", () => dialog.close());
// Read values off a line chart.
const shown = (value) => (value === null ? "–" : String(Number(value.toPrecision(4))));
for (const figure of document.querySelectorAll(".lines")) {
  const area = figure.querySelector(".area"), cursor = figure.querySelector(".cursor");
  const xs = JSON.parse(figure.dataset.x), shares = JSON.parse(figure.dataset.shares);
  const keys = [...figure.querySelectorAll(".keys li")].map((item) => {
    const figures = item.querySelector("b");
    return { figures, last: figures.textContent, values: JSON.parse(item.dataset.values) };
  });
  area.addEventListener("pointermove", (event) => {
    if (!shares.length) return;
    const box = area.getBoundingClientRect(), at = (event.clientX - box.left) / box.width;
    let nearest = 0;
    shares.forEach((share, i) => { if (Math.abs(share - at) < Math.abs(shares[nearest] - at)) nearest = i; });
    cursor.hidden = false;
    cursor.style.left = `${100 * shares[nearest]}%`;
    cursor.dataset.x = `${figure.dataset.xLabel} ${xs[nearest]}`.trim();
    cursor.classList.toggle("flipped", shares[nearest] > 0.6);
    for (const key of keys) key.figures.textContent = shown(key.values[nearest]);
  });
  area.addEventListener("pointerleave", () => {
    cursor.hidden = true;
    for (const key of keys) key.figures.textContent = key.last;
  });
}
