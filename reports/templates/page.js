"use strict";
// Sorts, filters, names the point under the pointer. All tables are there without it.
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
document.querySelector(".scripted").hidden = false;

function sortBy(table, index, heading) {
  const descending = heading.getAttribute("aria-sort") !== "descending";
  all("th", table.tHead).forEach((th) => th.removeAttribute("aria-sort"));
  heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const key = (row) => {
    const cell = row.cells[index];
    const value = parseFloat(cell.dataset.value);
    return Number.isNaN(value) ? cell.textContent.trim() : value;
  };
  const compare = (a, b) => {
    const [x, y] = [key(a), key(b)];
    const [hasX, hasY] = [typeof x === "number", typeof y === "number"];
    // What has no number stays at the end, whichever way the numbers go.
    if (hasX !== hasY) return hasX ? -1 : 1;
    const order = hasX ? x - y : x.localeCompare(y);
    return descending === hasX ? -order : order;
  };
  const body = table.tBodies[0];
  all("tr.part", body).forEach((row) => row.remove()); // headings mean nothing in another order
  all("tr", body).sort(compare).forEach((row) => body.append(row));
}

for (const table of all("table")) {
  const headings = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
  headings.forEach((heading, index) => {
    heading.tabIndex = 0;
    heading.classList.add("sorts");
    heading.addEventListener("click", () => sortBy(table, index, heading));
    heading.addEventListener("keydown", (event) => {
      if (event.key === "Enter") sortBy(table, index, heading);
    });
  });
}

const [method, group, task] = ["method", "group", "task"].map((id) => document.getElementById(id));

function filter() {
  const words = method.value.toLowerCase().split(/\s+/).filter(Boolean);
  const fits = (name) => words.every((word) => name.toLowerCase().includes(word));
  all("tr[data-name], .point").forEach((row) => row.classList.toggle("out", !fits(row.dataset.name)));
  for (const table of all("table")) {
    const row = table.tHead.rows[table.tHead.rows.length - 1];
    const shown = [...row.cells].map(
      ({ dataset }) =>
        !dataset.group ||
        ((!group.value || dataset.group === group.value) && (!task.value || dataset.task === task.value))
    );
    if (!all("th[data-group]", row).length) continue;
    all("tr:not(.groups):not(.part)", table).forEach((line) =>
      [...line.cells].forEach((cell, index) => cell.classList.toggle("out", !shown[index]))
    );
    const heads = [...row.cells];
    all("tr.groups th", table).forEach((head) => {
      const left = heads.filter((th, index) => th.dataset.group === head.dataset.group && shown[index]);
      head.colSpan = Math.max(1, left.length);
      head.classList.toggle("out", !left.length);
    });
  }
}
[method, group, task].forEach((input) => input.addEventListener("input", filter));
