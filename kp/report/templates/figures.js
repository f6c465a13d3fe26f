const settings = { responsive: true, displayModeBar: false };
const touch = matchMedia("(pointer: coarse)").matches; // a drag must scroll the page there, not zoom
const panels = [...document.querySelectorAll(".panels > div")].map(place => {
  const source = place.querySelector("script").textContent;
  place.replaceChildren();
  return { place, source, figure: place.closest("figure") };
});
function themed(source) {
  const style = getComputedStyle(document.documentElement);
  return JSON.parse(source.replace(/var\((--[a-z]+)\)/g, (_, name) => style.getPropertyValue(name).trim()));
}
function hidden(figure) {
  return new Set([...figure.querySelectorAll('button[aria-pressed="false"]')].map(button => button.dataset.group));
}
function draw({ place, source, figure }) {
  const { data, layout } = themed(source), off = hidden(figure);
  for (const trace of data) trace.visible = !off.has(trace.legendgroup);
  if (touch) layout.dragmode = false;
  Plotly.react(place, data, layout, settings);
}
panels.forEach(draw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => panels.forEach(draw));
document.querySelectorAll(".legend button").forEach(button => button.addEventListener("click", () => {
  button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") === "false"));
  const figure = button.closest("figure");
  panels.filter(panel => panel.figure === figure).forEach(draw);
}));
