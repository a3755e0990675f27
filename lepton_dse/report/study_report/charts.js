// What was observed beside what was predicted, accuracy on few and on all samples, and how the front grew.
(() => {
  const { data, plain, element, colours } = Report;
  if (data.details) {
    const { suites, screened, growth } = data.details;

    const line = (low, high, ink) => ({
      type: "scatter", mode: "lines", x: [low, high], y: [low, high], line: { color: ink, width: 1, dash: "dot" }, hoverinfo: "skip", showlegend: false,
    });

    function observed() {
      const parent = document.getElementById("observed");
      if (parent === null) return;
      const { ink, ground, accent } = Report.inks();
      const drawn = suites.filter((suite) => suite.rows.length);
      drawn.forEach((suite, number) => {
        const place = parent.children[number] ?? element("div", null, parent);
        place.id = "observed-" + number;
        place.className = "part";
        const values = suite.rows.flatMap(([, predicted, reference]) => [predicted, reference]);
        const [low, high] = [Math.min(...values) / 2, Math.max(...values) * 2];
        const trace = {
          type: "scatter",
          mode: "markers",
          x: suite.rows.map((row) => row[2]),
          y: suite.rows.map((row) => row[1]),
          text: suite.rows.map(([name, predicted, reference, error, scored]) =>
            plain(name) + "<br>predicted " + predicted.toPrecision(3) + ", observed " + reference.toPrecision(3) + "<br>error " +
            error.toFixed(1) + "%" + (scored ? "" : ", outside the mean")),
          hoverinfo: "text",
          showlegend: false,
          marker: { size: 10, color: suite.rows.map((row) => (row[4] ? accent : ground)), line: { width: 2, color: accent } },
        };
        const range = [Math.log10(low), Math.log10(high)];
        Report.picture(place, [line(low, high, ink), trace], {
          title: { text: plain(suite.name), font: { size: 14 } },
          xaxis: Report.axis("observed: " + suite.metric, { type: "log", range, title: { text: wrapped("observed: " + suite.metric), font: { size: 12 } } }),
          yaxis: Report.axis("predicted", { type: "log", range }),
        });
      });
    }

    // A long title in two lines, at the space nearest to its middle.
    function wrapped(text) {
      const spaces = [...text.matchAll(/ /g)].map((match) => match.index);
      if (text.length < 40 || !spaces.length) return plain(text);
      const middle = spaces.reduce((one, other) => (Math.abs(other - text.length / 2) < Math.abs(one - text.length / 2) ? other : one));
      return plain(text.slice(0, middle)) + "<br>" + plain(text.slice(middle + 1));
    }

    function accuracies() {
      const place = document.getElementById("screened");
      if (place === null) return;
      const { ink, accent, dim } = Report.inks();
      const ends = screened.flatMap(([, few, every]) => [few[1], few[2], every[1], every[2]]);
      const bars = (side) => ({
        type: "data",
        symmetric: false,
        array: screened.map((entry) => entry[side][2] - entry[side][0]),
        arrayminus: screened.map((entry) => entry[side][0] - entry[side][1]),
        color: dim,
        thickness: 1,
        width: 3,
      });
      const trace = {
        type: "scatter",
        mode: "markers",
        x: screened.map((entry) => entry[1][0]),
        y: screened.map((entry) => entry[2][0]),
        error_x: bars(1),
        error_y: bars(2),
        text: screened.map(([name, few, every]) => plain(name) + "<br>" + few[0].toFixed(4) + " on few, " + every[0].toFixed(4) + " on all"),
        hoverinfo: "text",
        showlegend: false,
        marker: { size: 9, color: accent },
      };
      Report.picture(place, [line(Math.min(...ends), Math.max(...ends), ink), trace], {
        xaxis: Report.axis("accuracy on few samples", { exponentformat: "none" }),
        yaxis: Report.axis("accuracy on all samples", { exponentformat: "none" }),
      });
    }

    function grown() {
      const place = document.getElementById("growth");
      const most = Math.max(1, ...growth.map((moment) => moment[1]));
      const members = { overlaying: "y", side: "right", range: [0, 1.1 * most], dtick: Math.ceil(most / 6), showgrid: false };
      const trace = (name, column, colour, yaxis, dash) => ({
        type: "scatter",
        mode: "lines+markers",
        name,
        x: growth.map((moment) => moment[0]),
        y: growth.map((moment) => moment[column]),
        yaxis,
        line: { shape: "hv", color: colour, width: 2, dash },
        marker: { size: 4 },
      });
      const traces = [trace("hypervolume", 2, colours[0], "y", "solid"), trace("members of the front", 1, colours[1], "y2", "dot")];
      Report.picture(place, traces, {
        xaxis: Report.axis("candidates evaluated", { rangemode: "tozero", exponentformat: "none", separatethousands: true }),
        yaxis: Report.axis("hypervolume", { range: [0, 1.1], dtick: 0.2 }),
        yaxis2: Report.axis("members of the front", { ...members, tickformat: ",d" }),
        legend: { orientation: "h", y: 1.14 },
        hovermode: "x unified",
        hoverlabel: { bgcolor: Report.inks().ground },
        margin: { l: 60, r: 60, t: 40, b: 50 },
      });
    }

    const draw = () => {
      observed();
      accuracies();
      grown();
    };
    draw();
    Report.dark.addEventListener("change", draw);
  }
  Report.follow();
})();
