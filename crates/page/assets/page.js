"use strict";
(() => {
  // What the reader chose, by name, so that it stays when a live page is loaded again.
  const hidden = new Set();
  const sorted = new Map();
  const folds = new Map();
  const REFRESH_MS = 3000;

  const root = document.documentElement;
  const probe = document.body.appendChild(document.createElement("span"));
  probe.hidden = true;
  let figures = [];
  let charts = [];
  let observer = null;
  Chart.defaults.font.family = "system-ui, sans-serif";

  /** The color of a CSS variable in the present theme. */
  function color(name, opacity = 1) {
    probe.style.color = `var(--${name})`;
    return Chart.helpers.color(getComputedStyle(probe).color).alpha(opacity).rgbString();
  }

  /** A number as short as it can be told from its neighbors. */
  function short(value, digits = 5) {
    if (value === 0) return "0";
    const size = Math.abs(value);
    if (size >= 1e6 || size < 1e-3) {
      return Number(value.toPrecision(digits)).toExponential().replace("e+", "e");
    }
    return String(Number(value.toPrecision(digits)));
  }

  /** Both ends of the horizontal positions, or null if they are the same. */
  function extent(panel) {
    const ends = panel.items.flatMap((item) => (item.kind === "cells" ? item.x : panel.xs[item.x]));
    const known = ends.filter((x) => x !== null);
    const low = known.reduce((a, b) => Math.min(a, b), Infinity);
    const high = known.reduce((a, b) => Math.max(a, b), -Infinity);
    if (low >= high) return null;
    // Markers need some room, lines do not.
    if (panel.items.some(({ kind }) => kind === "line" || kind === "marked")) return [low, high];
    if (panel.x.log) return [low * (low / high) ** 0.03, high * (high / low) ** 0.03];
    return [low - 0.03 * (high - low), high + 0.03 * (high - low)];
  }

  function axis(of, panel) {
    const names = of.rows.length > 0;
    const narrow = innerWidth < 600;
    const rule = color("rule");
    const range = of.range ?? (of === panel.x ? extent(panel) : null);
    return {
      type: of.log ? "logarithmic" : "linear",
      min: range?.[0],
      max: range?.[1],
      grace: range || of.log ? 0 : "4%",
      title: { display: of.label !== "", text: of.label, color: color("ink") },
      grid: { color: ({ tick }) => (tick?.label === "" ? "transparent" : rule) },
      border: { color: color("faint") },
      ticks: {
        color: color("faint"),
        maxRotation: 0,
        includeBounds: false,
        autoSkip: !names,
        stepSize: names ? 1 : undefined,
        callback(value) {
          if (names) {
            const name = of.rows[of.rows.length - value] ?? "";
            return narrow && name.length > 18 ? name.slice(0, 17) + "…" : name;
          }
          if (of.log) {
            const digit = value / 10 ** Math.floor(Math.log10(value) + 1e-9);
            const decades = Math.log10(this.max / this.min);
            const digits = decades > 3 ? [1] : decades > 1 ? [1, 2, 5] : [1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9];
            if (!digits.some((d) => Math.abs(d - digit) < 1e-6)) return "";
          }
          return short(value);
        },
      },
      afterBuildTicks: names
        ? (scale) => { scale.ticks = of.rows.map((_, index) => ({ value: index + 1 })); }
        : undefined,
    };
  }

  /** Chart.js's data sets of an item: one, or for a band its two ends. */
  function datasets(item, index, panel, label) {
    const line = color(item.color);
    const base = {
      group: item.group, label, kind: item.kind,
      borderColor: line, backgroundColor: line,
      pointRadius: 0, pointHoverRadius: 0, pointHitRadius: 0,
      // Markers at the ends of the axes are whole.
      borderWidth: 2, showLine: true, clip: 6,
    };
    if (item.kind === "cells") {
      const corners = [0, 1].map((end) => ({ x: item.x[end], y: item.y[end] }));
      return [{ ...base, cells: item, showLine: false, data: corners }];
    }
    const points = (ys) => panel.xs[item.x].map((x, i) => ({ x, y: ys[i] }));
    const data = points(item.y);
    if (item.kind === "band") {
      const ends = { ...base, borderWidth: 0, backgroundColor: color(item.color, 0.18) };
      return [
        { ...ends, end: "low", data: points(item.low), fill: false },
        { ...ends, end: "high", data, fill: "-1", low: item.low },
      ];
    }
    const own = { ...base, data, pointStyle: item.marker, pointHoverRadius: 5, pointHitRadius: 6 };
    if (item.kind === "points") return [{ ...own, showLine: false, pointRadius: 4.5 }];
    if (item.kind === "dashed") return [{ ...own, borderDash: [6, 4] }];
    if (item.kind === "line") return [{ ...own, borderWidth: 1.5 }];
    // Dense lines have a marker here and there.
    const apart = Math.ceil(data.length / 12);
    const few = data.length <= 40;
    const radius = ({ dataIndex }) => (few || (dataIndex + index) % apart === 0 ? 3.5 : 0);
    return [{ ...own, pointRadius: radius }];
  }

  /** Fills the cells of a grid, below the lines. */
  const cells = {
    id: "cells",
    beforeDatasetsDraw(chart) {
      const { ctx, chartArea, scales: { x, y } } = chart;
      chart.data.datasets.forEach((dataset, index) => {
        const { cells, backgroundColor } = dataset;
        if (!cells || !chart.isDatasetVisible(index)) return;
        const [columns, rows] = cells.grid;
        const at = (scale, [low, high], part) => scale.getPixelForValue(low + (high - low) * part);
        ctx.save();
        ctx.beginPath();
        ctx.rect(chartArea.left, chartArea.top, chartArea.width, chartArea.height);
        ctx.clip();
        ctx.fillStyle = Chart.helpers.color(backgroundColor).alpha(0.35).rgbString();
        ctx.beginPath();
        for (const [row, from, to] of cells.runs) {
          const left = at(x, cells.x, from / columns), right = at(x, cells.x, to / columns);
          const top = at(y, cells.y, (row + 1) / rows), bottom = at(y, cells.y, row / rows);
          ctx.rect(left, top, right - left, bottom - top);
        }
        ctx.fill();
        ctx.restore();
      });
    },
  };

  function tooltip(panel) {
    const horizontal = panel.y.rows.length > 0;
    const lines = panel.items.filter(({ kind }) => kind !== "band");
    const grouped = new Set(lines.map(({ group }) => group));
    /** The text of a band at a point, or that of the band around a point of a line. */
    const ends = (chart, { group }, index, x) => {
      const sets = chart.data.datasets;
      const around = (set) => set.end === "high" && set.group === group && set.data[index]?.x === x;
      const band = sets.find(around);
      return band ? `[${short(band.low[index])}, ${short(band.data[index].y)}]` : "";
    };
    return {
      // The text of a line has the ends of its band.
      filter: ({ dataset: { cells, end, group } }) =>
        !cells && (!end || (end === "high" && !grouped.has(group))),
      itemSort: (a, b) => (horizontal ? a.raw.x - b.raw.x : b.raw.y - a.raw.y),
      callbacks: {
        title(items) {
          if (items.length === 0) return "";
          const { x, y } = items[0].raw;
          const row = panel.y.rows[panel.y.rows.length - Math.round(y)];
          return row ?? `${panel.x.label}: ${short(x, 7)}`;
        },
        label({ chart, dataset, raw, dataIndex }) {
          const value = dataset.end ? "" : short(horizontal ? raw.x : raw.y);
          const name = dataset.label ? `${dataset.label}:` : "";
          return `${name} ${value} ${ends(chart, dataset, dataIndex, raw.x)}`.trim();
        },
      },
    };
  }

  function isSorted(panel) {
    const ascend = (xs) => xs.filter((x) => x !== null).every((x, i, all) => i === 0 || x >= all[i - 1]);
    return panel.y.rows.length === 0 && panel.xs.every(ascend);
  }

  function draw(canvas, panel, figure) {
    const sets = panel.items.flatMap((item, index) =>
      datasets(item, index, panel, figure.keys[item.group]?.label ?? ""));
    for (const set of sets) set.hidden = hidden.has(name(figure, set.group));
    // Chart.js draws the data set with the greatest order first.
    sets.forEach((set, index) => { set.order = -index; });
    const axes = isSorted(panel) ? "x" : "xy";
    const chart = new Chart(canvas, {
      type: "scatter",
      data: { datasets: sets },
      plugins: [cells],
      options: {
        animation: false,
        maintainAspectRatio: false,
        interaction: { mode: "nearest", axis: axes, intersect: false },
        scales: { x: axis(panel.x, panel), y: axis(panel.y, panel) },
        plugins: {
          legend: { display: false },
          title: { display: panel.title !== "", text: panel.title, color: color("ink") },
          tooltip: tooltip(panel),
        },
      },
    });
    charts.push(chart);
  }

  function name(figure, group) {
    return `${figure.title}\n${figure.keys[group]?.label ?? group}`;
  }

  function key(of) {
    const canvas = document.createElement("canvas");
    canvas.className = "key";
    canvas.setAttribute("aria-hidden", "true");
    const scale = 2, width = 26, height = 13;
    canvas.width = width * scale;
    canvas.height = height * scale;
    const ctx = canvas.getContext("2d");
    ctx.scale(scale, scale);
    ctx.strokeStyle = ctx.fillStyle = color(of.color);
    ctx.lineWidth = 2;
    if (of.kind === "band" || of.kind === "cells") {
      ctx.globalAlpha = 0.35;
      ctx.fillRect(0, 1, width, height - 2);
      return canvas;
    }
    if (of.kind !== "points") {
      ctx.setLineDash(of.kind === "dashed" ? [6, 4] : []);
      ctx.beginPath();
      ctx.moveTo(0, height / 2);
      ctx.lineTo(width, height / 2);
      ctx.stroke();
      ctx.setLineDash([]);
    }
    if (of.kind === "points" || of.kind === "marked") {
      const options = { pointStyle: of.marker, radius: 4, borderWidth: 2 };
      Chart.helpers.drawPoint(ctx, options, width / 2, height / 2);
    }
    return canvas;
  }

  /** The legend, whose entries show and hide what they name. */
  function legend(element, figure) {
    element.replaceChildren(...figure.keys.map((of, group) => {
      const button = document.createElement("button");
      button.append(key(of), of.label);
      const show = () => button.setAttribute("aria-pressed", !hidden.has(name(figure, group)));
      show();
      button.addEventListener("click", () => {
        const id = name(figure, group);
        if (!hidden.delete(id)) hidden.add(id);
        show();
        for (const chart of charts.filter(({ canvas }) => element.parentNode.contains(canvas))) {
          chart.data.datasets.forEach((set, index) => {
            if (set.group === group) chart.setDatasetVisibility(index, !hidden.has(id));
          });
          chart.update();
        }
      });
      return button;
    }));
  }

  function drawFigure(element) {
    if (element.dataset.drawn) return;
    element.dataset.drawn = "true";
    const figure = figures[element.dataset.figure];
    const caption = element.querySelector("figcaption").textContent;
    element.querySelectorAll(".panel canvas").forEach((canvas, index) => {
      const panel = figure.panels[index];
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `${figure.title}. ${panel.title} ${caption}`);
      draw(canvas, panel, figure);
    });
    legend(element.querySelector(".legend"), figure);
  }

  /** Makes room for the panels of a figure. */
  function layOut(element) {
    const { columns, panels } = figures[element.dataset.figure];
    const boxes = panels.map(({ x, y }) => {
      const box = document.createElement("div");
      const square = x.range && y.range && x.range.join() === y.range.join();
      box.className = square ? "panel square" : "panel";
      if (y.rows.length > 0) box.style.height = `${Math.max(16, 1.5 * y.rows.length + 6)}rem`;
      box.append(document.createElement("canvas"));
      return box;
    });
    const place = element.querySelector(".panels");
    place.style.setProperty("--columns", Math.max(1, Math.min(columns, panels.length)));
    place.replaceChildren(...boxes);
  }

  const allFigures = () => [...document.querySelectorAll("figure")];
  /** The numbers of the figures that are drawn. */
  const drawn = () => allFigures().filter((e) => e.dataset.drawn).map((e) => e.dataset.figure);

  /** Draws these figures now, and the others when they come near the window. */
  function redraw(now = drawn()) {
    charts.forEach((chart) => chart.destroy());
    charts = [];
    observer?.disconnect();
    observer = new IntersectionObserver((entries) => {
      for (const { isIntersecting, target } of entries) if (isIntersecting) drawFigure(target);
    }, { rootMargin: "600px" });
    figures = JSON.parse(document.getElementById("figures").textContent);
    for (const element of allFigures()) {
      delete element.dataset.drawn;
      layOut(element);
      if (now.includes(element.dataset.figure)) drawFigure(element);
      else observer.observe(element);
    }
  }

  /** The first number of a cell, or NaN. */
  function number(text) {
    const found = text.match(/[-−]?\d+(\.\d+)?(e[-+]?\d+)?/i);
    return found ? Number(found[0].replace("−", "-")) : NaN;
  }

  function sort(table, column, direction) {
    const head = table.tHead.rows[0].cells;
    const body = table.tBodies[0];
    const numeric = head[column].classList.contains("number");
    const sign = direction === "descending" ? -1 : 1;
    const text = (row) => row.cells[column]?.textContent ?? "";
    const compare = (a, b) => {
      if (!numeric) return sign * text(a).localeCompare(text(b), undefined, { numeric: true });
      const [x, y] = [number(text(a)), number(text(b))];
      // Cells without a number are last in both directions.
      if (isNaN(x) || isNaN(y)) return isNaN(x) - isNaN(y);
      return sign * (x - y);
    };
    body.append(...[...body.rows].sort(compare));
    for (const cell of head) cell.removeAttribute("aria-sort");
    head[column].setAttribute("aria-sort", direction);
  }

  function tables() {
    document.querySelectorAll("main table").forEach((table, index) => {
      const id = `${index} ${table.tHead.textContent}`;
      [...table.tHead.rows[0].cells].forEach((cell, column) => {
        cell.querySelector("button").addEventListener("click", () => {
          const up = cell.getAttribute("aria-sort") === "ascending";
          const order = [column, up ? "descending" : "ascending"];
          sorted.set(id, order);
          sort(table, ...order);
        });
      });
      if (sorted.has(id)) sort(table, ...sorted.get(id));
    });
  }

  function details() {
    for (const element of document.querySelectorAll("main details")) {
      const id = element.querySelector("summary").textContent;
      if (folds.has(id)) element.open = folds.get(id);
      element.addEventListener("toggle", () => folds.set(id, element.open));
    }
  }

  /** The theme of the system, or the one that the reader chose. */
  function theme() {
    const button = document.getElementById("theme");
    const names = ["auto", "light", "dark"];
    let chosen = "auto";
    try { chosen = localStorage.getItem("lopt-theme") ?? "auto"; } catch { /* not for files */ }
    const apply = () => {
      if (chosen === "auto") delete root.dataset.theme;
      else root.dataset.theme = chosen;
      button.textContent = `theme: ${chosen}`;
    };
    apply();
    button.addEventListener("click", () => {
      chosen = names[(names.indexOf(chosen) + 1) % names.length];
      try { localStorage.setItem("lopt-theme", chosen); } catch { /* not for files */ }
      apply();
      redraw();
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => redraw());
    // On paper: light, unfolded, and drawn for its width.
    let unfolded = [];
    addEventListener("beforeprint", () => {
      root.dataset.theme = "light";
      document.body.classList.add("paper");
      unfolded = [...document.querySelectorAll("main details:not([open])")];
      for (const element of unfolded) element.open = true;
      redraw(allFigures().map((element) => element.dataset.figure));
    });
    addEventListener("afterprint", () => {
      document.body.classList.remove("paper");
      for (const element of unfolded) element.open = false;
      apply();
      redraw();
    });
  }

  /** Loads a live page again; what did not change stays as it is. */
  async function refresh() {
    try {
      const text = await (await fetch(location.href, { cache: "no-store" })).text();
      const page = new DOMParser().parseFromString(text, "text/html");
      const parts = ["main", "#figures"];
      const of = (where) => parts.map((part) => where.querySelector(part));
      const news = of(page);
      if (news.some((part) => part === null)) throw new Error("not a page of lopt");
      const fresh = news.map((part) => part.innerHTML);
      if (fresh.some((html, i) => html !== last[i])) {
        last = fresh;
        const now = drawn();
        of(document).forEach((old, i) => old.replaceWith(document.adoptNode(news[i])));
        redraw(now);
        tables();
        details();
      }
      status("");
    } catch {
      status("The server does not answer; the page is as it was.");
    }
    setTimeout(refresh, REFRESH_MS);
  }
  let last = ["main", "#figures"].map((part) => document.querySelector(part).innerHTML);

  function status(text) {
    let element = document.getElementById("status");
    if (!element) {
      element = document.createElement("p");
      element.id = "status";
      element.setAttribute("role", "status");
      document.querySelector("header").after(element);
    }
    element.textContent = text;
  }

  theme();
  redraw();
  tables();
  details();
  if ("live" in document.body.dataset && location.protocol.startsWith("http")) {
    setTimeout(refresh, REFRESH_MS);
  }
})();
