// A member of the front: its operations, what it takes of the device, and its roofline.
(() => {
  if (!Report.data.details) return;
  const { data, plain, element, table } = Report;
  const { plans, devices, headings } = data.details;
  const select = document.getElementById("select-plan");
  const level = document.getElementById("select-level");
  const place = (name) => document.getElementById(name);
  const numeric = new Set([6, 7, 8, 9, 11, 12]);
  let shown = null;

  const written = (value) => value.toPrecision(3).replace(/\.?0+(?=$|e)/, "");
  function scaled(value, unit) {
    for (const [factor, prefix] of [[1e15, "P"], [1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
      if (value >= factor) return written(value / factor) + " " + prefix + unit;
    }
    return written(value) + " " + unit;
  }

  function operations(plan) {
    const parent = place("plan");
    parent.replaceChildren();
    const rows = plan.total === null ? plan.ops : [...plan.ops, plan.total];
    const cells = rows.map(([name, ...rest]) => [name, ...rest.map((cell) => (Array.isArray(cell) ? cell : [cell, ""]))]);
    const made = table(parent, "", headings[plan.kind], cells);
    for (const row of made.rows) {
      [...row.cells].forEach((cell, column) => cell.classList.toggle("number", numeric.has(column)));
    }
    if (plan.total !== null) made.rows[made.rows.length - 1].className = "total";
  }

  function device(plan) {
    const parent = place("use");
    parent.replaceChildren();
    if (!plan.use.length) {
      element("p", "Its cost is a bound that no design is faster than; how much of the device a design takes is not known.", parent);
      return;
    }
    const rows = plan.use.map(([name, used, available]) => [name, [used, ""], [available, ""], ["", ""]]);
    const made = table(parent, "", ["", "used", "available", "share"], rows);
    plan.use.forEach(([, , , share, note], number) => {
      const cell = made.rows[number + 1].cells[3];
      const bar = element("div", null, cell);
      bar.className = "bar";
      element("div", null, bar).style.width = Math.min(100, 100 * share) + "%";
      const part = 100 * share >= 0.05 ? (100 * share).toFixed(1) + "%" : "under 0.1%";
      element("small", note ? part + ", " + note : part, cell);
    });
  }

  function levels(plan) {
    const before = level.value;
    level.replaceChildren();
    devices[plan.device].levels.forEach(([name], number) => {
      element("option", name, level).value = String(number);
    });
    const kept = devices[plan.device].levels.findIndex(([name], number) => String(number) === before && shown !== null);
    level.value = String(kept >= 0 && sameLevels(plan) ? kept : devices[plan.device].levels.length - 1);
  }

  const names = (plan) => devices[plan.device].levels.map(([name]) => name).join("\n");
  const sameLevels = (plan) => shown !== null && names(plans[shown]) === names(plan);

  function points(list, number) {
    return list
      .filter(([, bytes]) => bytes[number] > 0)
      .map(([name, bytes, count, seconds]) => ({ name, x: count / bytes[number], y: count / seconds }));
  }

  function roofline() {
    const { device, format, after: own } = plans[shown];
    const roof = devices[device];
    const number = Number(level.value);
    const [levelName, bandwidth] = roof.levels[number];
    const [before, after] = [points(roof.before, number), points(own, number)];
    const { ink, dim, accent, ground } = Report.inks();
    const highest = Math.max(...roof.roofs.map(([, rate]) => rate));
    const every = [...before, ...after].map((point) => point.x);
    const low = Math.min(...every, highest / bandwidth) / 4;
    const high = Math.max(...every, highest / bandwidth) * 12;
    const lines = roof.levels.map(([name, rate], place) => ({
      type: "scatter",
      mode: "lines",
      name: plain(name + ", " + scaled(rate, "B/s")),
      x: [low, Math.max(low, highest / rate)],
      y: [low * rate, Math.max(low * rate, highest)],
      line: { color: place === number ? ink : dim, width: place === number ? 2 : 1, dash: place === number ? "solid" : ["dot", "dash", "dashdot", "longdash"][place % 4] },
      hoverinfo: "name",
      legendrank: 3,
    }));
    const rates = [...before, ...after].map((point) => point.y);
    const bottom = Math.log10(Math.min(...rates, highest)) - 0.5;
    const top = Math.log10(highest) + 0.5;
    // Roofs too close for two lines of text share one.
    const labels = [];
    for (const [name, rate] of roof.roofs) {
      const last = labels.at(-1);
      if (last && Math.log10(last.rate / rate) < 0.035 * (top - bottom)) last.names.push(name);
      else labels.push({ rate, names: [name] });
    }
    const label = (rate) => labels.filter((entry) => entry.rate === rate).map((entry) => entry.names.join(", ")).join("");
    const roofs = roof.roofs.map(([name, rate]) => ({
      type: "scatter",
      mode: "lines+text",
      x: [Math.min(rate / bandwidth, high), high],
      y: [rate, rate],
      text: ["", plain(label(rate))],
      textposition: "top left",
      textfont: { size: 11, color: ink },
      line: { color: ink, width: 1.5 },
      hoverinfo: "text",
      hovertext: plain(name + ": " + scaled(rate, "op/s")),
      showlegend: false,
    }));
    const moves = before.flatMap((start) => {
      const end = after.find((point) => point.name === start.name);
      return end ? [[start, end]] : [];
    });
    const links = {
      type: "scatter",
      mode: "lines",
      x: moves.flatMap(([start, end]) => [start.x, end.x, null]),
      y: moves.flatMap(([start, end]) => [start.y, end.y, null]),
      line: { color: dim, width: 1, dash: "dot" },
      hoverinfo: "skip",
      showlegend: false,
    };
    const dots = (list, name, marker) => ({
      type: "scatter",
      mode: "markers",
      name: plain(name),
      x: list.map((point) => point.x),
      y: list.map((point) => point.y),
      text: list.map((point) => plain(point.name) + "<br>" + plain(name) + "<br>" + written(point.x) + " op/B, " + scaled(point.y, "op/s")),
      hoverinfo: "text",
      marker,
      legendrank: 1,
    });
    const first = dots(before, "before: " + roof.widest + ", not compressed", { size: 9, color: ground, line: { width: 2, color: dim } });
    const last = dots(after, "after: " + format, { size: 10, color: accent, line: { width: 1, color: ground } });
    const ends = [Math.log10(low), Math.log10(high)];
    Report.picture(place("roofline"), [...lines, ...roofs, links, first, ...(own.length ? [last] : [])], {
      xaxis: Report.axis("operations for each byte of " + levelName + " (op/B)", { type: "log", range: ends }),
      yaxis: Report.axis("operations a second (op/s)", { type: "log", range: [bottom, top] }),
      legend: { orientation: "h", yref: "container", y: 0, yanchor: "bottom", traceorder: "normal" },
      margin: { l: 60, r: 14, t: 34, b: Report.wide() ? 90 : 70 + 20 * (roof.levels.length + 2) },
    });
    const unseen = own.length - after.length;
    const note = unseen ? " " + unseen + " of its operations move no bytes of " + levelName + " and are not drawn." : "";
    const drawn = own.length
      ? " After: this member, in " + format + ". A multiply-accumulate counts as two operations. A dotted line joins an operation before and after."
      : " Devices that share this member's operations are not drawn. A multiply-accumulate counts as two operations.";
    const bound = roof.bound ? " as far as a bound can say that no design is faster than" : "";
    place("roofline-note").textContent =
      "Before: the network as it was, in " + roof.widest + ", the widest format that the device computes in" + bound + "." + drawn + note;
  }

  function show(index) {
    const plan = plans[index];
    levels(plan);
    shown = index;
    select.value = String(index);
    place("plan-note").textContent = plan.note;
    place("plan-proof").textContent = plan.proof;
    operations(plan);
    device(plan);
    roofline();
  }

  Report.listeners.push((index, front) => {
    const known = Object.hasOwn(plans, index);
    place("plan-absent").hidden = known;
    if (known) show(index);
  });
  select.addEventListener("change", () => Report.go(Number(select.value), true));
  level.addEventListener("change", roofline);
  Report.dark.addEventListener("change", roofline);
  show(Number(select.value));
})();
