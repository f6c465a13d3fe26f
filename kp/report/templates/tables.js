// Every table sorts by a click on a column's title; a long one has a field that filters its rows.
// A row's note moves with it, and the rows of the base and of the noise stay on top.
const LONG = 12;
const NUMBER = /[+\-\u2212]?(?:\d[\d,]*)(?:\.\d+)?(?:e[+\-]?\d+)?/i;
function numberIn(text) {
  const found = text.match(NUMBER);
  return found ? Number(found[0].replace(/,/g, "").replace("\u2212", "-")) : NaN;
}
function compared(one, other, numeric) {
  if (!numeric) return one.localeCompare(other, "en", { numeric: true });
  const [first, second] = [numberIn(one), numberIn(other)];
  if (Number.isNaN(first) || Number.isNaN(second)) return Number.isNaN(first) - Number.isNaN(second);
  return first - second;
}
function sortable(table, sort) {
  const titles = [...table.tHead.rows[0].cells];
  titles.forEach((title, place) => {
    title.tabIndex = 0;
    title.title = "sort";
    const turn = () => {
      const down = title.getAttribute("aria-sort") === "ascending";
      titles.forEach(other => other.removeAttribute("aria-sort"));
      title.setAttribute("aria-sort", down ? "descending" : "ascending");
      sort(place, title.classList.contains("number"), down);
    };
    title.addEventListener("click", turn);
    title.addEventListener("keydown", event => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); turn(); } });
  });
}
function grouped(body) {
  const groups = [];
  for (const row of body.rows) row.classList.contains("note") ? groups.at(-1).push(row) : groups.push([row]);
  return groups;
}
document.querySelectorAll("table.sorts").forEach(table => {
  const body = table.tBodies[0], groups = grouped(body);
  const fixed = groups.filter(([row]) => row.classList.contains("reference"));
  const free = groups.filter(([row]) => !row.classList.contains("reference"));
  sortable(table, (place, numeric, down) => {
    const missing = ([row]) => numeric && Number.isNaN(numberIn(row.cells[place].textContent));
    free.sort((one, other) => (missing(one) - missing(other))
      || (down ? -1 : 1) * compared(one[0].cells[place].textContent, other[0].cells[place].textContent, numeric));
    body.append(...fixed.flat(), ...free.flat());
  });
  if (free.length <= LONG) return;
  const field = document.createElement("input");
  Object.assign(field, { type: "search", placeholder: `filter ${free.length} rows`, className: "filter" });
  field.setAttribute("aria-label", "filter the rows of this table");
  field.addEventListener("input", () => {
    const words = field.value.toLowerCase().split(/\s+/);
    for (const rows of free) {
      const text = rows.map(row => row.textContent).join(" ").toLowerCase();
      rows.forEach(row => { row.hidden = !words.every(word => text.includes(word)); });
    }
  });
  table.closest("figure").querySelector(".scroll").before(field);
});
