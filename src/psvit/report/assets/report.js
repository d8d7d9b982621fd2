"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const one = (selector, root = document) => root.querySelector(selector);
  const SVG = "http://www.w3.org/2000/svg";

  /* Theme: the system's until the button is pressed. Storage may be closed to local files. */
  const theme = one("#theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (document.documentElement.dataset.theme || (system.matches ? "dark" : "light")) === "dark";
  const stored = (write) => {
    try {
      if (write) localStorage.setItem("psvit-theme", write);
      return localStorage.getItem("psvit-theme");
    } catch {
      return null;
    }
  };
  const nameTheme = () => { theme.textContent = isDark() ? "Light" : "Dark"; theme.setAttribute("aria-label", `Switch to the ${isDark() ? "light" : "dark"} theme`); };
  const before = stored();
  if (before === "dark" || before === "light") document.documentElement.dataset.theme = before;
  theme.hidden = false;
  theme.addEventListener("click", () => {
    const next = isDark() ? "light" : "dark";
    document.documentElement.dataset.theme = next;
    stored(next);
    nameTheme();
  });
  system.addEventListener("change", nameTheme);
  nameTheme();

  /* One tip for whatever has something to tell, by mouse, touch or keyboard. */
  const tip = one("#tip");
  const showTip = (target, text) => {
    tip.textContent = text;
    tip.hidden = false;
    const box = target.getBoundingClientRect();
    const size = tip.getBoundingClientRect();
    const left = Math.min(Math.max(box.left + box.width / 2 - size.width / 2, 8), innerWidth - size.width - 8);
    const above = box.top - size.height - 8;
    tip.style.left = `${Math.max(left, 8)}px`;
    tip.style.top = `${above > 8 ? above : box.bottom + 8}px`;
  };
  const hideTip = () => { tip.hidden = true; };
  const told = (event) => (event.target.closest ? event.target.closest("[data-tip]") : null);
  for (const kind of ["pointerover", "focusin"]) {
    document.addEventListener(kind, (event) => {
      const target = told(event);
      if (target) showTip(target, target.dataset.tip); else hideTip();
    });
  }
  document.addEventListener("focusout", hideTip);
  document.addEventListener("scroll", hideTip, { passive: true });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hideTip(); });

  /* Bars: a stroke a run of kept channels. This model's are as the markup has them. */
  const rows = all(".group");
  const own = rows.map((row) => one(".kept", row).getAttribute("d"));
  const runs = (group, isKept) => {
    let path = "M0 .5";
    for (let start = 0, end = 0, c = 0; c <= group.size; c++) {
      const goes = c < group.size && isKept(c);
      if (goes && (c === start || c % group.each)) continue;
      const from = start + group.gap * Math.floor(start / group.each);
      if (c > start) {
        path += `${from > end ? `m${from - end} 0` : ""}h${c - start}`;
        end = from + c - start;
      }
      start = goes ? c : c + 1;
    }
    return path;
  };
  const drawGroup = (row, group, width, own) => {
    const level = (group.size - width) / group.cells;
    let isKept = (c) => c < width;
    if (group.order.length === group.size && Number.isInteger(level)) {
      isKept = (c) => group.order[c] >= level;
    }
    one(".kept", row).setAttribute("d", own ?? runs(group, isKept));
    one(".count b", row).textContent = width.toLocaleString("en");
    const bar = one(".bar", row);
    const heads = group.heads ? `, ${group.heads} head${group.heads > 1 ? "s" : ""}` : "";
    const share = ((100 * width) / Math.max(group.size, 1)).toFixed(1);
    bar.dataset.tip = `${group.name} (${group.role}${heads}): ${group.size.toLocaleString("en")} → ` +
      `${width.toLocaleString("en")} channels, ${share} % kept${group.locked ? `; locked: ${group.locked}` : ""}`;
    bar.setAttribute("aria-label", bar.dataset.tip);
  };

  /* Charts are drawn to the width they have, so that their text keeps its size. */
  const HEIGHT = 264, LEFT = 36, RIGHT = 12, TOP = 26, BOTTOM = 40;
  const ticks = (low, high, count) => {
    const rough = (high - low) / count || 1;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough);
    const found = [];
    for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) found.push(+(i * step).toPrecision(12));
    return found;
  };
  const draw = (figure, chart) => {
    const make = (name, attributes, parent, text) => {
      const element = document.createElementNS(SVG, name);
      for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
      if (text !== undefined) element.textContent = text;
      parent.append(element);
      return element;
    };
    const width = Math.max(figure.clientWidth, 240);
    for (const old of all("svg, .keys", figure)) old.remove();
    const points = chart.series.flatMap((s) => s.points);
    if (chart.own) points.push(chart.own);
    const ys = points.flatMap((p) => [p.y, p.low ?? p.y, p.high ?? p.y]);
    if (chart.reference !== null) ys.push(chart.reference);
    const xs = points.map((p) => p.x);
    const yTicks = ticks(Math.min(...ys, chart.reference === null ? 0 : Infinity), Math.max(...ys), 5);
    const gap = yTicks.length > 1 ? yTicks[1] - yTicks[0] : 1;
    const low = Math.min(Math.floor(Math.min(...ys) / gap) * gap, yTicks[0] ?? 0);
    const high = Math.ceil(Math.max(...ys) / gap) * gap || 1;
    const right = Math.max(...xs, 1);
    const x = (value) => LEFT + ((width - LEFT - RIGHT) * value) / right;
    const y = (value) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - (value - low) / (high - low));
    const svg = make("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, role: "group", "aria-label": `${chart.y} by ${chart.x}` }, figure);
    for (const value of ticks(low, high, 5)) {
      make("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(value), y2: y(value) }, svg);
      make("text", { x: LEFT - 8, y: y(value) + 4, "text-anchor": "end" }, svg, value);
    }
    for (const value of ticks(0, right, width < 420 ? 4 : 8)) make("text", { x: x(value), y: HEIGHT - BOTTOM + 18, "text-anchor": "middle" }, svg, value);
    make("text", { x: width - RIGHT, y: HEIGHT - 4, "text-anchor": "end" }, svg, chart.x);
    make("text", { x: 0, y: 12 }, svg, chart.y);
    if (chart.reference !== null) {
      make("line", { class: "reference", x1: LEFT, x2: width - RIGHT, y1: y(chart.reference), y2: y(chart.reference) }, svg);
    }
    if (data.steps.length) figure.cursor = make("line", { class: "cursor", y1: TOP, y2: HEIGHT - BOTTOM }, svg);
    figure.x = x;
    const colour = (series, i) => `color: var(--series-${((series.colour ?? i) % 8) + 1})`;
    const across = x;
    chart.series.forEach((series, i) => {
      const group = make("g", { style: colour(series, i) }, svg);
      /* Points at the same place step aside, so that their intervals can be told apart. */
      const x = (value) => across(value) + (chart.dodge ?? 0) * (i - (chart.series.length - 1) / 2);
      make("path", { class: "line", d: series.points.map((p, k) => `${k ? "L" : "M"}${x(p.x)} ${y(p.y)}`).join("") }, group);
      for (const p of series.points) {
        if (p.low !== undefined) make("line", { class: "whiskers", x1: x(p.x), x2: x(p.x), y1: y(p.low), y2: y(p.high) }, group);
      }
      const dense = series.points.length > 20;
      for (const p of series.points) make("circle", { cx: x(p.x), cy: y(p.y), r: dense ? 8 : 4.5, class: dense ? "hit" : "", "data-tip": p.tip }, group);
    });
    if (chart.own) {
      const group = make("g", { style: "color: var(--ink)" }, svg);
      if (chart.own.low !== undefined) make("line", { class: "whiskers", x1: x(chart.own.x), x2: x(chart.own.x), y1: y(chart.own.low), y2: y(chart.own.high) }, group);
      make("circle", { class: "own", cx: x(chart.own.x), cy: y(chart.own.y), r: 5.5, "data-tip": chart.own.tip }, group);
    }
    if (figure.dataset.chart === "predicted") {
      figure.dot = make("circle", { r: 5, style: "color: var(--series-1)" }, svg);
      figure.y = (loss) => y(chart.y.endsWith("points") ? 100 * loss : loss);
    }
    if (chart.series.length > 1 || chart.reference !== null || chart.own) {
      const keys = document.createElement("ul");
      keys.className = "keys";
      const key = (name, style) => {
        const item = document.createElement("li");
        const mark = document.createElement("i");
        mark.style.cssText = style;
        const label = document.createElement("span");
        label.textContent = name;
        item.append(mark, label);
        keys.append(item);
      };
      chart.series.forEach((series, i) => key(series.name, colour(series, i)));
      if (chart.reference !== null) key("unpruned", "color: var(--soft); border-top-style: dashed");
      if (chart.own) key("this model", "color: var(--ink); width: 11px; height: 11px; border: 2px solid; border-radius: 50%");
      figure.append(keys);
    }
  };
  const charts = all(".chart");
  const slider = one("#slider");
  const drawCharts = () => {
    for (const figure of charts) draw(figure, data.charts[figure.dataset.chart]);
    if (slider) follow();
  };

  /* The slider: figures, bars and charts follow it. */
  let shown = -1;
  const follow = () => {
    const step = data.steps[Number(slider.value)];
    for (const figure of charts) {
      const x = figure.x(100 * step.saved);
      figure.cursor.style.visibility = x <= figure.clientWidth ? "visible" : "hidden";
      for (const end of ["x1", "x2"]) figure.cursor.setAttribute(end, x);
      if (!figure.dot) continue;
      figure.dot.style.visibility = step.loss === null ? "hidden" : "visible";
      figure.dot.setAttribute("cx", x);
      if (step.loss !== null) figure.dot.setAttribute("cy", figure.y(step.loss));
    }
  };
  const move = () => {
    const at = Number(slider.value);
    const step = data.steps[at];
    slider.style.setProperty("--fill", `${(100 * at) / Math.max(data.steps.length - 1, 1)}%`);
    slider.setAttribute("aria-valuetext", `${step.texts.saved} of the memory saved${step.this ? ", this model" : ""}`);
    for (const place of all("[data-figure]")) place.textContent = step.texts[place.dataset.figure];
    one("#reset").disabled = step.this;
    follow();
    if (at === shown) return;
    shown = at;
    rows.forEach((row, k) => {
      const i = Number(row.dataset.group);
      drawGroup(row, data.groups[i], step.widths[i], step.this ? own[k] : null);
    });
  };
  if (charts.length) {
    let last = charts[0].clientWidth;
    drawCharts();
    new ResizeObserver(() => {
      if (charts[0].clientWidth === last) return;
      last = charts[0].clientWidth;
      drawCharts();
    }).observe(charts[0]);
  }

  if (slider) {
    one(".control").hidden = false;
    slider.value = slider.dataset.this;
    slider.addEventListener("input", move);
    one("#reset").addEventListener("click", () => { slider.value = slider.dataset.this; move(); slider.focus(); });
    move();
  }
  /* Sensitivity: hover and arrow keys read cells out. */
  const heat = one(".heat");
  if (heat) {
    const readout = one(".readout");
    const cells = all("tbody tr", heat).map((row) => all("td", row));
    const tell = (cell) => {
      const name = one("th", cell.parentElement).textContent;
      readout.textContent = cell.textContent ? `${name}: ${cell.textContent}` : `${name}: not measured`;
    };
    cells.flat().forEach((cell, i) => {
      cell.tabIndex = i ? -1 : 0;
      cell.addEventListener("pointerenter", () => tell(cell));
      cell.addEventListener("focus", () => tell(cell));
    });
    heat.addEventListener("keydown", (event) => {
      const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
      const by = moves[event.key];
      const row = cells.findIndex((line) => line.includes(event.target));
      if (!by || row < 0) return;
      event.preventDefault();
      const next = cells[row + by[0]]?.[cells[row].indexOf(event.target) + by[1]];
      if (!next) return;
      event.target.tabIndex = -1;
      next.tabIndex = 0;
      next.focus();
    });
    const toggle = one(".toggle");
    if (toggle) {
      toggle.hidden = false;
      toggle.addEventListener("change", (event) => {
        const kind = event.target.value;
        for (const cell of cells.flat()) if (cell.dataset[kind]) cell.style.setProperty("--v", cell.dataset[kind]);
        for (const scale of all("[data-scale]")) scale.hidden = scale.dataset.scale !== kind;
      });
    }
  }

  /* Copying: selects the text where the clipboard is closed to local files. */
  for (const button of all(".copy")) {
    const code = one("code", button.parentElement);
    button.hidden = false;
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(code.textContent);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(code);
        button.textContent = "Selected";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 1600);
    });
  }

  /* The contents say where one is. */
  const links = new Map(all("nav a").map((link) => [link.hash.slice(1), link]));
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      for (const link of links.values()) link.removeAttribute("aria-current");
      links.get(entry.target.id)?.setAttribute("aria-current", "true");
    }
  }, { rootMargin: "-10% 0px -80% 0px" });
  for (const part of all("main section")) seen.observe(part);
})();
