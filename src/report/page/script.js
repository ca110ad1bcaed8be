"use strict";
(() => {
  const root = document.documentElement;
  const stored = key => { try { return localStorage.getItem(key); } catch { return null; } };
  const keep = (key, value) => { try { localStorage.setItem(key, value); } catch { /* a file: page may have no storage */ } };
  const dark = () => root.dataset.theme ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  if (stored("anomalist-theme")) root.dataset.theme = stored("anomalist-theme");
  document.getElementById("theme").addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    keep("anomalist-theme", root.dataset.theme);
  });

  const block = document.getElementById("rows");
  if (!block) return;
  const data = JSON.parse(block.textContent);
  const PAGE = 50;
  const plain = new Intl.NumberFormat("en", { maximumSignificantDigits: 4 });
  const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
  const compact = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 4 });
  const number = v => {
    if (v === null) return "–";
    const size = Math.abs(v);
    if (size >= 1e15 || (size > 0 && size < 1e-3))
      return v.toExponential(1).replace(".0e", "e").replaceAll("-", "−");
    return (size >= 1e6 ? compact : size >= 1000 ? whole : plain).format(v).replace("-", "−");
  };
  const percent = v => v === null ? "–" : (v > 0 ? "+" : "") + number(Math.round(v)) + " %";
  const words = name => name.replaceAll("_", " ");
  const t = place => place === null ? "" : data.texts[place];

  const rows = data.rows.map((r, place) => ({
    place, severity: r[0], kind: data.kinds[r[1]], time: t(r[2]), level: t(r[3]), series: t(r[4]),
    metric: t(r[5]), observed: r[6], expected: r[7], lower: r[8], upper: r[9], deviation: r[10],
    score: r[11], p: r[12], confidence: r[13], direction: r[14], models: r[15],
    detectors: r[16].map(t), event: r[17] === null ? null : t(r[17]), chart: r[18],
  }));
  for (const r of rows) {
    r.text = [r.time, r.level, r.series, r.metric, words(r.kind), data.severities[r.severity],
      ...r.detectors, r.event ?? ""].join("\n").toLowerCase();
  }

  const form = document.getElementById("filters");
  const body = document.querySelector("#table tbody");
  const shown = document.getElementById("shown");
  const previous = document.getElementById("previous");
  const next = document.getElementById("next");
  let found = rows, first = 0, sortKey = null, sortDown = true;

  const element = (tag, className, ...children) => {
    const made = document.createElement(tag);
    if (className) made.className = className;
    made.append(...children);
    return made;
  };
  // Text of the data goes in as text nodes, each in its own direction.
  const isolated = text => element("bdi", "", text);
  const SVG = document.querySelector("svg").namespaceURI;
  const mark = (kind, severity) => {
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("class", "mark " + data.severities[severity]);
    svg.setAttribute("aria-hidden", "true");
    const use = document.createElementNS(SVG, "use");
    use.setAttribute("href", "#k-" + kind);
    svg.append(use);
    return svg;
  };
  const line = r => {
    const name = isolated(r.series);
    name.className = "name";
    name.title = r.series;
    const series = element("td", "series");
    if (r.chart === null) series.append(name);
    else {
      const link = element("a", "", name);
      link.href = "#chart-" + r.chart;
      series.append(link);
    }
    series.append(element("span", "sub", isolated(r.level), " · ", isolated(r.metric)));
    if (r.event !== null) series.append(element("span", "tag", isolated(r.event)));
    const expected = element("td", "n", number(r.expected));
    if (r.lower !== null || r.upper !== null)
      expected.append(element("span", "sub", number(r.lower) + " to " + number(r.upper)));
    const detectors = element("td", "by", String(r.models));
    if (r.detectors.length) detectors.append(element("span", "sub", isolated(r.detectors.join(", "))));
    return element("tr", "",
      element("td", "", element("i", "dot " + data.severities[r.severity]), data.severities[r.severity]),
      element("td", "", mark(r.kind, r.severity), words(r.kind)),
      element("td", "", isolated(r.time)), series, element("td", "n", number(r.observed)), expected,
      element("td", "n", percent(r.deviation)),
      element("td", "n", r.score === null ? "–" : r.score.toFixed(3)),
      element("td", "n", number(r.p)),
      element("td", "n", r.confidence === null ? "–" : r.confidence.toFixed(2)), detectors);
  };
  const draw = () => {
    body.replaceChildren(...found.slice(first, first + PAGE).map(line));
    const last = Math.min(first + PAGE, found.length);
    const all = found.length === rows.length ? "" : ` (of ${whole.format(rows.length)})`;
    shown.textContent = found.length === 0 ? "No anomaly matches" + all
      : `${whole.format(first + 1)}–${whole.format(last)} of ${whole.format(found.length)} anomalies` + all;
    previous.disabled = first === 0;
    next.disabled = last >= found.length;
  };
  const order = (a, b) => {
    const [x, y] = [a[sortKey], b[sortKey]];
    // What is missing comes last either way.
    if (x === null || y === null) return (x === null) - (y === null) || a.place - b.place;
    const less = typeof x === "number" ? x - y : x < y ? -1 : x > y ? 1 : 0;
    return (sortDown ? -less : less) || a.place - b.place;
  };
  const update = () => {
    const want = new FormData(form);
    const text = (want.get("text") ?? "").trim().toLowerCase();
    const level = want.get("level") ?? "";
    found = rows.filter(r =>
      (!text || r.text.includes(text)) && r.severity >= Number(want.get("severity") ?? 0)
      && (!want.get("kind") || r.kind === want.get("kind")) && (!level || r.level === level)
      && !(want.get("unknown") && r.event !== null));
    if (sortKey) found.sort(order);
    first = 0;
    draw();
  };
  for (const button of document.querySelectorAll("#table th button")) {
    button.addEventListener("click", () => {
      const key = button.dataset.key;
      // Numbers are asked for from the top, words from A.
      sortDown = sortKey === key ? !sortDown : !["kind", "time", "series"].includes(key) && key !== "p";
      sortKey = key;
      for (const head of document.querySelectorAll("#table th")) head.removeAttribute("aria-sort");
      button.closest("th").setAttribute("aria-sort", sortDown ? "descending" : "ascending");
      update();
    });
  }
  form.addEventListener("input", update);
  form.addEventListener("submit", event => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(update));
  const turn = by => {
    first += by;
    draw();
    document.getElementById("table").scrollIntoView({ block: "start" });
  };
  previous.addEventListener("click", () => turn(-PAGE));
  next.addEventListener("click", () => turn(PAGE));
  draw();
})();
