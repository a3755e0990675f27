"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const plot = document.getElementById("plot");
  const panel = document.getElementById("candidate");
  const heading = document.getElementById("candidate-name");
  const told = document.getElementById("candidate-figures");
  const front = document.getElementById("front");
  const body = front.tBodies[0];
  const byIndex = new Map(data.points.map((point) => [point.index, point]));
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const colours = ["#2f7fd0", "#d9641e", "#2e9d4f", "#a05bc4", "#b08d00", "#12968a", "#d6457a", "#7a8794"];
  const symbols = ["circle", "square", "diamond", "triangle-up", "cross", "star"];
  const buttons = [["zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"]];
  let chosen = null;

  // Names are shown as they are: Plotly takes some of HTML for markup.
  const plain = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const selected = (name, otherwise) => {
    const select = document.getElementById("select-" + name);
    return select === null ? otherwise : select.value;
  };

  function element(name, text, parent) {
    const made = document.createElement(name);
    if (text !== null) made.textContent = text;
    parent.append(made);
    return made;
  }

  function table(caption, headings, rows) {
    const made = element("table", null, told);
    element("caption", caption, made);
    if (headings.length) {
      const head = element("tr", null, element("thead", null, made));
      for (const text of headings) element("th", text, head).scope = "col";
    }
    const lines = element("tbody", null, made);
    for (const [name, ...cells] of rows) {
      const line = element("tr", null, lines);
      element("th", name, line).scope = "row";
      for (const [text, small] of cells) {
        const cell = element("td", text, line);
        if (small) element("small", small, cell);
      }
    }
  }

  function choose(index) {
    const point = byIndex.get(index);
    told.replaceChildren();
    if (point === undefined) {
      heading.textContent = "Candidate " + index + " is not drawn";
      return;
    }
    chosen = point;
    heading.textContent = "Candidate " + index + (point.front ? ", on the front" : ", not on the front");
    if (point.better !== null) {
      const note = element("p", "It is beaten by ", told);
      element("a", "candidate " + point.better, note).href = "#candidate=" + point.better;
      note.append(", which is worse in no objective.");
    }
    table("What it chooses", [], data.choices.map((name, place) => [name, [point.chosen[place], ""]]));
    const figures = data.figures.map((name, place) => {
      const [text, interval, known] = point.figures[place];
      return [name, [text, interval], data.evidence[known].split(": ")];
    });
    table("Its figures", ["figure", "value", "evidence"], figures);
    if (data.bounds.length) {
      const bounds = data.bounds.map((name, place) => [name, ...point.bounds[place].map((text) => [text, ""])]);
      table("Constraints", ["constraint", "value", "to spare", "binds"], bounds);
    } else {
      element("p", "The study has no constraints.", told);
    }
    for (const row of body.rows) {
      if (Number(row.dataset.index) === index) row.setAttribute("aria-current", "true");
      else row.removeAttribute("aria-current");
    }
    draw();
    panel.scrollIntoView({ block: "nearest" });
  }

  function go(index) {
    const wanted = "#candidate=" + index;
    if (location.hash === wanted) choose(index);
    else location.hash = wanted;
  }

  function follow() {
    const match = /^#candidate=(\d+)$/.exec(location.hash);
    if (match) choose(Number(match[1]));
  }

  function axis(number, points, ink, rule) {
    const entry = data.axes[number];
    const values = points.map((point) => point.at[number]).filter((value) => value !== null);
    const low = Math.min(...values);
    const high = Math.max(...values);
    const logarithmic = low > 0 && high / low >= 20;
    const better = entry.greater ? "greater is better" : "less is better";
    return {
      title: { text: plain(entry.name + (entry.unit ? " (" + entry.unit + ")" : "") + ", " + better) },
      type: logarithmic ? "log" : "linear",
      dtick: logarithmic && high / low > 100 ? 1 : undefined,
      exponentformat: "SI",
      minexponent: 0,
      color: ink,
      gridcolor: rule,
      zeroline: false,
      automargin: true,
    };
  }

  function trace(target, points, x, y, isFront) {
    return {
      type: "scatter",
      mode: "markers",
      name: plain(data.targets[target]),
      legendgroup: String(target),
      x: points.map((point) => point.at[x]),
      y: points.map((point) => point.at[y]),
      customdata: points.map((point) => point.index),
      text: points.map((point) => {
        const lines = [point.chosen.slice(0, 2).join(", "), ...data.figures.map((name, place) => name + ": " + point.figures[place][0])];
        return lines.map(plain).join("<br>");
      }),
      hoverinfo: "text",
      marker: {
        color: colours[target % colours.length],
        symbol: symbols[Math.floor(target / colours.length) % symbols.length],
        size: isFront ? 12 : 6,
        opacity: isFront ? 1 : 0.4,
        line: { width: isFront ? 1 : 0, color: dark.matches ? "#14181d" : "#ffffff" },
      },
    };
  }

  function draw() {
    const styles = getComputedStyle(document.documentElement);
    const [ink, rule, ground] = ["--ink", "--rule", "--ground"].map((name) => styles.getPropertyValue(name).trim());
    const x = Number(selected("x", "0"));
    const y = Number(selected("y", "1"));
    const only = selected("target", "");
    const shown = data.points.filter((point) => only === "" || point.target === Number(only));
    const traces = [];
    const line = shown.filter((point) => point.front).sort((one, other) => one.at[x] - other.at[x]);
    if (data.line && only === "" && line.length > 1) {
      const [across, up] = [x, y].map((number) => line.map((point) => point.at[number]));
      const shape = data.axes[x].greater ? "vh" : "hv";
      const style = { color: ink, width: 1, dash: "dot", shape };
      traces.push({ type: "scatter", mode: "lines", x: across, y: up, line: style, hoverinfo: "skip", showlegend: false });
    }
    for (const isFront of [false, true]) {
      data.targets.forEach((name, target) => {
        const points = shown.filter((point) => point.target === target && point.front === isFront);
        if (!points.length) return;
        const made = trace(target, points, x, y, isFront);
        made.showlegend = isFront || !shown.some((point) => point.target === target && point.front);
        made.legendrank = isFront ? 1 : 2;
        traces.push(made);
      });
    }
    if (chosen !== null && shown.includes(chosen)) {
      const marker = { symbol: "circle-open", size: 20, color: ink, line: { width: 2 } };
      traces.push({ type: "scatter", mode: "markers", x: [chosen.at[x]], y: [chosen.at[y]], marker, hoverinfo: "skip", showlegend: false });
    }
    const layout = {
      paper_bgcolor: ground,
      plot_bgcolor: ground,
      font: { color: ink, family: "system-ui, sans-serif", size: 13 },
      margin: { l: 60, r: 10, t: 34, b: 50 },
      xaxis: axis(x, shown, ink, rule),
      yaxis: axis(y, shown, ink, rule),
      legend: { itemsizing: "constant" },
      hovermode: "closest",
      uirevision: [x, y, only].join(),
    };
    Plotly.react(plot, traces, layout, { responsive: true, displaylogo: false, modeBarButtons: buttons });
    for (const row of body.rows) row.hidden = only !== "" && byIndex.get(Number(row.dataset.index)).target !== Number(only);
  }

  function sort(column) {
    const head = front.tHead.rows[0].cells;
    const upward = head[column].getAttribute("aria-sort") !== "ascending";
    for (const cell of head) cell.removeAttribute("aria-sort");
    head[column].setAttribute("aria-sort", upward ? "ascending" : "descending");
    const key = (row) => {
      const { value } = row.cells[column].dataset;
      return value === undefined ? row.cells[column].textContent : value === "" ? Infinity : Number(value);
    };
    const order = (one, other) => (one < other ? -1 : one > other ? 1 : 0);
    const rows = [...body.rows].sort((one, other) => (upward ? 1 : -1) * order(key(one), key(other)));
    body.append(...rows);
  }

  [...front.tHead.rows[0].cells].forEach((cell, column) => {
    cell.querySelector("button").addEventListener("click", () => sort(column));
  });
  body.addEventListener("click", (event) => go(Number(event.target.closest("tr").dataset.index)));
  body.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    go(Number(event.target.closest("tr").dataset.index));
  });
  for (const name of ["target", "x", "y"]) {
    const select = document.getElementById("select-" + name);
    if (select !== null) select.addEventListener("change", draw);
  }
  dark.addEventListener("change", draw);
  window.addEventListener("hashchange", follow);
  draw();
  plot.on("plotly_click", (event) => {
    const index = event.points[0].customdata;
    if (index !== undefined) go(index);
  });
  follow();
})();
