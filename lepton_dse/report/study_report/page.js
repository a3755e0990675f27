// All feasible candidates as a picture, the one that is chosen, and the table of the front.
(() => {
  const { data, dark, colours, plain, element } = Report;
  const plot = document.getElementById("plot");
  const panel = document.getElementById("candidate");
  const heading = document.getElementById("candidate-name");
  const told = document.getElementById("candidate-figures");
  const front = document.getElementById("front");
  const body = front.tBodies[0];
  const byIndex = new Map(data.points.map((point) => [point.index, point]));
  const symbols = ["circle", "square", "diamond", "triangle-up", "cross", "star"];
  const table = (caption, headings, rows) => Report.table(told, caption, headings, rows);
  let chosen = null;
  let still = false;

  const selected = (name, otherwise) => {
    const select = document.getElementById("select-" + name);
    return select === null ? otherwise : select.value;
  };

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
    const unknown = (place) => point.figures[place][2] === "not known";
    const figures = data.figures.flatMap((name, place) => {
      const [text, interval, known] = point.figures[place];
      return unknown(place) ? [] : [[name, [text, interval], known.split(": ")]];
    });
    table("Its figures", ["figure", "value", "evidence"], figures);
    const absent = data.figures.filter((name, place) => unknown(place));
    if (absent.length) element("p", "Not known here: " + absent.join(", ") + ".", told).className = "note";
    if (data.bounds.length) {
      const bounds = data.bounds.map(([name], place) => [name, ...point.bounds[place].map((text) => [text, ""])]);
      table("Constraints", ["constraint", "value", "to spare", "binds"], bounds);
    } else {
      element("p", "The study has no constraints.", told);
    }
    for (const row of body.rows) {
      if (Number(row.dataset.index) === index) row.setAttribute("aria-current", "true");
      else row.removeAttribute("aria-current");
    }
    draw();
    if (!still) panel.scrollIntoView({ block: "nearest" });
    still = false;
    for (const listener of Report.listeners) listener(index, point.front);
  }

  // With `quiet` the page stays where it is: what was asked for is shown elsewhere.
  function go(index, quiet = false) {
    still = quiet;
    const wanted = "#candidate=" + index;
    if (location.hash === wanted) choose(index);
    else location.hash = wanted;
  }

  function follow() {
    const match = /^#candidate=(\d+)$/.exec(location.hash);
    if (match) choose(Number(match[1]));
  }

  // Of candidates that are drawn at one place a click means the member of the front.
  function uppermost(index) {
    const point = byIndex.get(index);
    const axes = [Number(selected("x", "0")), Number(selected("y", "1"))];
    const near = (other) => axes.every((number) => Math.abs(other.at[number] - point.at[number]) <= 1e-4 * Math.abs(point.at[number]));
    const member = point.front ? undefined : data.points.find((other) => other.front && near(other));
    return member === undefined ? index : member.index;
  }

  function axis(number, points) {
    const entry = data.axes[number];
    const values = points.map((point) => point.at[number]).filter((value) => value !== null);
    const low = Math.min(...values);
    const high = Math.max(...values);
    const logarithmic = low > 0 && high / low >= 20;
    const better = entry.greater ? "greater is better" : "less is better";
    const ticks = { type: logarithmic ? "log" : "linear", dtick: logarithmic && high / low > 100 ? 1 : undefined };
    return Report.axis(entry.name + (entry.unit ? " (" + entry.unit + ")" : "") + ", " + better, ticks);
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
    const { ink } = Report.inks();
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
    const rows = Math.ceil(new Set(shown.map((point) => point.target)).size / 2);
    const below = { itemsizing: "constant", orientation: "h", yref: "container", y: 0, yanchor: "bottom" };
    const layout = { xaxis: axis(x, shown), yaxis: axis(y, shown), legend: { itemsizing: "constant" }, uirevision: [x, y, only].join() };
    Report.picture(plot, traces, Report.wide() ? layout : { ...layout, legend: below, margin: { l: 60, r: 10, t: 34, b: 70 + 21 * rows } });
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
  Report.go = go;
  Report.follow = follow;
  draw();
  plot.on("plotly_click", (event) => {
    const index = event.points[0].customdata;
    if (index !== undefined) go(uppermost(index));
  });
})();
