"use strict";
// Draws the charts in the page's own colours, light or dark, and lets tables be sorted.
(() => {
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");

  function colours(printing) {
    const found = getComputedStyle(document.documentElement);
    const of = (name) => found.getPropertyValue(name).trim();
    return printing ? { ink: "#000000", line: "#bbbbbb", card: "#ffffff" } : { ink: of("--ink"), line: of("--line"), card: of("--card") };
  }

  function styled(layout, { ink, line, card }) {
    const axis = (given) => ({ gridcolor: line, zerolinecolor: line, linecolor: line, automargin: true, ...given });
    const whole = {
      margin: { l: 48, r: 14, t: 12, b: 42 }, hovermode: "closest", showlegend: false, autosize: true, dragmode: "pan",
      legend: { orientation: "h", y: 1.02, yanchor: "bottom" }, ...layout,
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: ink, size: 12, family: "system-ui, sans-serif" },
      hoverlabel: { bgcolor: card, font: { color: ink }, align: "left" },
    };
    for (const name of Object.keys(whole)) if (/^[xy]axis/.test(name)) whole[name] = axis(whole[name]);
    for (const shape of whole.shapes || []) if (shape.line && shape.line.color === "ink") shape.line = { ...shape.line, color: ink };
    return whole;
  }

  function draw(printing) {
    charts.forEach(({ data, layout }, k) => {
      const copy = JSON.parse(JSON.stringify(layout));
      const quiet = { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["select2d", "lasso2d"] };
      Plotly.react(`chart-${k}`, data, styled(copy, colours(printing)), quiet);
    });
  }

  function sort(table, column, head) {
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of table.querySelectorAll("th")) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = (row) => {
      const cell = row.cells[column];
      return "value" in cell.dataset ? Number(cell.dataset.value) : cell.textContent;
    };
    const compare = (a, b) => {
      const [x, y] = [key(a), key(b)];
      if (x === "" || y === "") return (x === "") - (y === ""); // what is not there stays last
      const order = typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y));
      return down ? -order : order;
    };
    const body = table.tBodies[0];
    body.append(...[...body.rows].sort(compare));
  }

  for (const table of document.querySelectorAll("table"))
    [...table.querySelectorAll("th")].forEach((head, column) =>
      head.firstElementChild.addEventListener("click", () => sort(table, column, head)));
  function hint() {
    for (const part of document.querySelectorAll(".table"))
      part.querySelector(".hint").hidden = part.scrollWidth <= part.clientWidth;
  }

  hint();
  window.addEventListener("resize", hint);
  dark.addEventListener("change", () => draw(false));
  window.addEventListener("beforeprint", () => {
    for (const folded of document.querySelectorAll("details")) folded.open = true;
    draw(true);
  });
  window.addEventListener("afterprint", () => draw(false));
  draw(false);
})();
