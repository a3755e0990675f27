"use strict";
// What the page's parts share: the data, elements made of text alone, and pictures in the reader's colours.
const Report = (() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const words = (places) => places.map((place) => data.texts[place]);
  const parts = (texts, size) => Array.from({ length: texts.length / size }, (_, place) => texts.slice(size * place, size * (place + 1)));
  data.points = data.points.map((values) => {
    const point = Object.fromEntries(data.fields.map((name, place) => [name, values[place]]));
    point.front = point.front === 1;
    point.chosen = words(point.chosen);
    point.figures = parts(words(point.figures), 3);
    point.bounds = parts(words(point.bounds), 2).map((told, place) => [point.figures[data.bounds[place][1]][0], ...told]);
    return point;
  });
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const colours = ["#2f7fd0", "#d9641e", "#2e9d4f", "#a05bc4", "#b08d00", "#12968a", "#d6457a", "#7a8794"];
  const buttons = [["zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d", "toImage"]];

  // Names are shown as they are: Plotly takes some of HTML for markup.
  const plain = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

  function element(name, text, parent) {
    const made = document.createElement(name);
    if (text !== null) made.textContent = text;
    parent.append(made);
    return made;
  }

  // Rows of [heading, ...cells], a cell being [text, small text].
  function table(parent, caption, headings, rows) {
    const made = element("table", null, parent);
    if (caption) element("caption", caption, made);
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
    return made;
  }

  function inks() {
    const styles = getComputedStyle(document.documentElement);
    return Object.fromEntries(["ink", "dim", "rule", "ground", "accent"].map((name) => [name, styles.getPropertyValue("--" + name).trim()]));
  }

  function axis(text, more) {
    const { ink, rule } = inks();
    return { title: { text: plain(text) }, exponentformat: "SI", minexponent: 0, color: ink, gridcolor: rule, zeroline: false, automargin: true, ...more };
  }

  function picture(place, traces, layout) {
    const { ink, ground } = inks();
    const common = {
      paper_bgcolor: ground,
      plot_bgcolor: ground,
      font: { color: ink, family: "system-ui, sans-serif", size: 13 },
      margin: { l: 60, r: 10, t: 34, b: 50 },
      hovermode: "closest",
    };
    const options = { responsive: true, displaylogo: false, modeBarButtons: buttons };
    options.toImageButtonOptions = { format: "svg", filename: "lepton-" + place.id };
    Plotly.react(place, traces, { ...common, ...layout }, options);
  }

  const wide = () => document.documentElement.clientWidth > 700;
  return { data, dark, colours, plain, element, table, inks, axis, picture, wide, listeners: [] };
})();
