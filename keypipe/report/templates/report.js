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
for (const button of document.querySelectorAll(".gallery figure button, .card .look")) {
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
// Filter findings; the page's address keeps the choice.
const filters = document.querySelector("form.filters");
if (filters) {
  const choices = [...filters.querySelectorAll("select")], cards = [...document.querySelectorAll(".card")];
  const groups = [...document.querySelectorAll(".group")], all = filters.querySelector("button");
  const apply = () => {
    let shown = 0;
    for (const card of cards) {
      card.hidden = choices.some((choice) => choice.value && card.dataset[choice.name] !== choice.value);
      shown += !card.hidden;
    }
    for (const group of groups) group.hidden = !group.querySelector(".card:not([hidden])");
    for (const choice of choices) choice.classList.toggle("active", choice.value !== "");
    all.hidden = choices.every((choice) => choice.value === "");
    filters.querySelector("output").textContent = `${shown} of ${cards.length} shown`;
  };
  const read = () => {
    if (location.hash && !location.hash.includes("=")) return;  // a link to a section leaves the choice alone
    const kept = new URLSearchParams(location.hash.slice(1));
    for (const choice of choices) {
      const value = kept.get(choice.name) ?? "";
      choice.value = [...choice.options].some((option) => option.value === value) ? value : "";
    }
    apply();
  };
  const keep = () => {
    const kept = new URLSearchParams(choices.filter((choice) => choice.value).map((choice) => [choice.name, choice.value]));
    history.replaceState(null, "", `#${kept}`);
    apply();
  };
  filters.addEventListener("change", keep);
  filters.addEventListener("submit", (event) => event.preventDefault());
  all.addEventListener("click", (event) => {
    event.preventDefault();
    choices.forEach((choice) => { choice.value = ""; });
    keep();
  });
  addEventListener("hashchange", read);
  read();
  if (!filters.querySelector("output").textContent) apply();
}
// Copy a command; without permission it is selected instead.
for (const button of document.querySelectorAll(".copy")) {
  button.addEventListener("click", async () => {
    const code = button.previousElementSibling;
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "copied";
      setTimeout(() => { button.textContent = "copy"; }, 1500);
    } catch {
      getSelection().selectAllChildren(code);
    }
  });
}
