// The facts of every adapter: searched, filtered and sorted here, and drawn a hundred rows at a time.
// Every text goes into the page as text, never as markup.
const PAGE = 100;
document.querySelectorAll("figure.browser").forEach(figure => {
  const { texts, models, facts, rows } = JSON.parse(figure.querySelector("script").textContent);
  const body = figure.querySelector("tbody"), count = figure.querySelector(".count"), more = figure.querySelector(".more");
  const said = (answer, times) => answer < 0 ? "–" : `${texts[answer]} (${times}×)`;
  const all = rows.map(([place, model, role, category, right, asked, answer, times]) => {
    const [question, relation, object, before, baseRight, baseAsked, baseAnswer, baseTimes] = facts[place];
    const change = right / asked - baseRight / baseAsked;
    const cells = [
      texts[question], texts[object], texts[relation], models[model], texts[role],
      `${texts[before]}\n${baseRight} of ${baseAsked}`, said(baseAnswer, baseTimes),
      `${texts[category]}\n${right} of ${asked}`, said(answer, times),
      `${change > 0 ? "+" : change < 0 ? "\u2212" : ""}${Math.abs(100 * change).toFixed(0)}`,
    ];
    const keys = [...cells];
    [keys[5], keys[7], keys[9]] = [baseRight / baseAsked, right / asked, change];
    return { cells, keys, text: cells.join(" ").toLowerCase(), model: models[model], role: texts[role], before: texts[before], after: texts[category], relation: texts[relation] };
  });
  let found = all, shown = PAGE, order = null;
  const selects = [...figure.querySelectorAll("select")], search = figure.querySelector("input");
  for (const select of selects) {
    const values = [...new Set(all.map(row => row[select.name]))].sort((one, other) => one.localeCompare(other, "en", { numeric: true }));
    select.append(...values.map(value => new Option(value, value)));
  }
  const titles = [...figure.querySelectorAll("thead th")].map(title => title.textContent);
  function drawn(row) {
    const line = document.createElement("tr");
    row.cells.forEach((text, place) => {
      const cell = document.createElement(place ? "td" : "th");
      cell.textContent = text;
      cell.dataset.title = titles[place];
      line.append(cell);
    });
    return line;
  }
  function redraw() {
    body.replaceChildren(...found.slice(0, shown).map(drawn));
    count.textContent = `${found.length.toLocaleString("en")} of ${all.length.toLocaleString("en")} rows`;
    more.hidden = found.length <= shown;
  }
  function select() {
    const words = search.value.toLowerCase().split(/\s+/);
    const wanted = selects.filter(one => one.value);
    found = all.filter(row => wanted.every(one => row[one.name] === one.value) && words.every(word => row.text.includes(word)));
    if (order) found.sort(order);
    shown = PAGE;
    redraw();
  }
  sortable(figure.querySelector("table"), (place, numeric, down) => {
    order = (one, other) => {
      const [first, second] = [one.keys[place], other.keys[place]];
      return (down ? -1 : 1) * (typeof first === "number" ? first - second : first.localeCompare(second, "en", { numeric: true }));
    };
    select();
  });
  search.addEventListener("input", select);
  selects.forEach(one => one.addEventListener("change", select));
  more.addEventListener("click", () => { shown += PAGE; redraw(); });
  redraw();
});
