"use strict";
// The page as a person uses it: colors, pictures, whether there is a font for N'Ko, and rows that can be searched.
(() => {
  const one = (selector, root = document) => root.querySelector(selector);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  // ---- colors ------------------------------------------------------------------------------------------------------
  function color(name) {
    const probe = document.createElement("i");
    probe.style.color = `var(--${name})`;
    document.body.append(probe);
    const found = getComputedStyle(probe).color;
    probe.remove();
    return found;
  }

  const systemIsDark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (document.documentElement.dataset.theme || (systemIsDark.matches ? "dark" : "light")) === "dark";

  // ---- pictures -----------------------------------------------------------------------------------------------------
  function chartConfig() {
    const [ink, soft, line, before, ...more] = ["ink", "soft", "line", "before", "after", "third", "fourth"].map(color);
    const font = getComputedStyle(document.body).fontFamily;
    return {
      background: "transparent",
      font,
      view: { stroke: null },
      axis: { labelColor: ink, titleColor: soft, gridColor: line, domainColor: line, tickColor: line, labelFontSize: 13, titleFontSize: 13, titleFontWeight: "normal" },
      axisY: { labelLimit: innerWidth < 600 ? 165 : 260 },
      legend: { labelColor: ink, titleColor: soft, labelFontSize: 13 },
      text: { color: ink },
      bar: { color: before },
      rule: { color: soft },
      range: { category: [before, ...more] },
      style: {
        restart: { color: color("restart") },
        best: { color: color("best") },
        gate: { color: ink },
        range: { color: soft },
        "guide-label": { fontSize: 13 },
      },
    };
  }

  // no picture before the earlier one is there: the last colors win
  let drawing = Promise.resolve();
  function draw() {
    const places = all(".chart");
    if (!places.length) return;
    const options = { actions: false, renderer: "svg", ast: true, tooltip: { theme: isDark() ? "dark" : "light" }, config: chartConfig() };
    drawing = drawing.then(() => Promise.all(places.map((place) =>
      vegaEmbed(place, JSON.parse(document.getElementById(place.dataset.spec).textContent), options))));
    drawing.then(() => { document.documentElement.dataset.drawn = isDark() ? "dark" : "light"; });
  }

  one("#theme").addEventListener("change", (event) => {
    document.documentElement.dataset.theme = event.target.value;
    draw();
  });
  systemIsDark.addEventListener("change", draw);
  draw();

  // ---- a font for N'Ko ----------------------------------------------------------------------------------------------
  // document.fonts.check() says yes to fonts that nobody has; a missing glyph is the same box for every letter, though
  function widths(family) {
    const context = document.createElement("canvas").getContext("2d");
    context.font = `64px ${family}`;
    return ["\u07ca", "\u07d2", "\u07d5", "\u07db", "\u07de", "\u07e1"].map((letter) => Math.round(context.measureText(letter).width));
  }
  const isDrawn = new Set(widths(getComputedStyle(document.body).fontFamily)).size > 1;
  one("#no-font").hidden = isDrawn;
  document.documentElement.dataset.nko = isDrawn ? "drawn" : "absent";
  async function nameFont() {
    for (const name of FONT_NAMES) {
      try {
        await new FontFace("probe", `local("${name}"), local("${name} Regular")`).load();
        return name;
      } catch {
        // not here: the next
      }
    }
    return "a font of this system";
  }
  const told = one("#font");
  if (told && !isDrawn) told.textContent = "none";
  else if (told) nameFont().then((name) => { told.textContent = name; });

  // ---- rows ---------------------------------------------------------------------------------------------------------
  const data = one("#data-rows");
  if (!data) return;
  const rows = JSON.parse(data.textContent);
  data.remove();
  const [ID, PLACE, OUTCOME, PARTITION, SCRIPT, BEFORE, AFTER, UNITS, DECISION, REASONS, DIRECTION, LINES, DETAILS] = Array(13).keys();
  const gain = (row) => (row[AFTER] ?? row[BEFORE]) - row[BEFORE];
  const rate = (row, edits) => (row[UNITS] ? row[edits] / row[UNITS] : -1);
  const has = (column) => rows.some((row) => row[column] !== null);
  const ORDERS = [
    ["their place", () => 0, true],
    ["most improved", (a, b) => gain(a) - gain(b), has(AFTER)],
    ["made worse most", (a, b) => gain(b) - gain(a), has(AFTER)],
    ["highest CER before", (a, b) => rate(b, BEFORE) - rate(a, BEFORE), has(BEFORE) && has(AFTER)],
    ["highest CER after", (a, b) => rate(b, AFTER) - rate(a, AFTER), has(AFTER)],
    ["highest CER", (a, b) => rate(b, BEFORE) - rate(a, BEFORE), has(BEFORE) && !has(AFTER)],
    ["longest", (a, b) => b[UNITS] - a[UNITS], has(UNITS)],
    ["id", (a, b) => (a[ID] < b[ID] ? -1 : 1), true],
  ].filter(([, , fits]) => fits);
  const [list, find, sort, size, status] = ["#list", "#find", "#sort", "#size", "#shown"].map((name) => one(name));
  const filters = all("[data-filter]");
  const words = new Map(); // of a row, as the search sees it; made when first searched
  let found = rows;
  let first = 0;

  const valuesOf = (row, column) => (Array.isArray(row[column]) ? row[column] : [row[column]]).filter(Boolean);
  const option = (value, text) => Object.assign(document.createElement("option"), { value, textContent: text });

  for (const filter of filters) {
    const counts = new Map();
    for (const row of rows) for (const value of valuesOf(row, filter.dataset.filter)) counts.set(value, (counts.get(value) ?? 0) + 1);
    filter.append(option("", "all"));
    for (const [value, count] of [...counts].sort((a, b) => b[1] - a[1])) filter.append(option(value, `${value} (${count})`));
    filter.closest("label").hidden = counts.size < 2 && !(counts.size && Number(filter.dataset.filter) === REASONS);
  }
  ORDERS.forEach(([name], number) => sort.append(option(number, name)));

  const plain = (text) => text.normalize("NFC").toLowerCase();
  function wordsOf(row) {
    if (!words.has(row)) {
      // what was heard; of what is missing nothing stands in that text
      const texts = row[LINES].map(([, parts]) => parts.map((part) => (typeof part === "string" ? part : part[0] === "-" ? "" : part[1])).join(""));
      words.set(row, plain([row[ID], ...texts].join("\n")));
    }
    return words.get(row);
  }

  function choose() {
    const wanted = plain(find.value.trim());
    const chosen = filters.filter((filter) => filter.value).map((filter) => [filter.dataset.filter, filter.value]);
    found = rows.filter((row) => chosen.every(([column, value]) => valuesOf(row, column).includes(value)) && (!wanted || wordsOf(row).includes(wanted)));
    const order = ORDERS[sort.value][1];
    found.sort((a, b) => order(a, b) || a[PLACE] - b[PLACE]);
    first = 0;
    show();
  }

  function element(name, text = "", className = "") {
    const made = document.createElement(name);
    if (className) made.className = className;
    if (text) made.append(...text.split(/(\u27e6U\+[0-9A-F]+\u27e7)/).filter(Boolean).map(shownCode));
    return made;
  }
  function shownCode(text) {
    if (!text.startsWith("\u27e6U+")) return text;
    const code = document.createElement("bdi");
    code.className = "code";
    code.textContent = text.slice(1, -1);
    return code;
  }
  const seen = (text) => text.replaceAll(" ", "␣");

  function piece(part) {
    if (typeof part === "string") return element("span", part);
    const [kind, text, wanted] = part;
    if (kind === "~") {
      const made = element("span", seen(text), "sub");
      made.dataset.wanted = seen(wanted);
      made.title = `wanted: ${seen(wanted)}`;
      return made;
    }
    const made = element(kind === "+" ? "del" : "ins", seen(text));
    made.title = kind === "+" ? "should not be there" : "is missing";
    return made;
  }

  function card(row) {
    const article = element("article", "", "row");
    const title = element("h3");
    title.append(element("bdi", row[ID]));
    const about = element("div", "", "about");
    const edits = row[BEFORE] === null ? "" : row[AFTER] === null ? `${row[BEFORE]} edits` : `${row[BEFORE]} → ${row[AFTER]} edits`;
    const of = row[UNITS] ? `of ${row[UNITS]}` : "";
    const said = [row[OUTCOME], `${edits} ${of}`.trim(), row[PARTITION] === "unknown" ? "" : row[PARTITION], row[DECISION] && `decision: ${row[DECISION]}`, row[DETAILS].length ? `reasons: ${row[DETAILS].join("; ")}` : ""];
    for (const text of said.filter(Boolean)) about.append(element("span", text, { improved: "good", worse: "bad" }[text] ?? ""));
    const texts = element("dl");
    for (const [name, parts] of row[LINES]) {
      const place = element("dd");
      const text = element("bdi");
      text.dir = row[DIRECTION];
      if (parts.length) text.append(...parts.map(piece));
      else text.append(element("span", "nothing", "empty"));
      place.append(text);
      texts.append(element("dt", name), place);
    }
    article.append(title, about, texts);
    return article;
  }

  function show() {
    const count = Number(size.value);
    const here = found.slice(first, first + count);
    list.replaceChildren(...here.map(card));
    const of = found.length === rows.length ? `${rows.length}` : `${found.length} found, of ${rows.length}`;
    status.textContent = here.length ? `${first + 1} to ${first + here.length} of ${of}` : `none of ${rows.length} rows is like that`;
    for (const button of all("[data-turn]")) button.disabled = button.dataset.turn < 0 ? first === 0 : first + count >= found.length;
  }

  for (const button of all("[data-turn]")) {
    button.addEventListener("click", () => {
      first = Math.max(0, first + Number(size.value) * Number(button.dataset.turn));
      show();
      if (button.closest("nav") !== one("nav.pages")) one("nav.pages").scrollIntoView();
    });
  }
  const tools = one("#tools");
  tools.addEventListener("submit", (event) => event.preventDefault());
  tools.addEventListener("change", choose);
  find.addEventListener("input", choose);
  tools.addEventListener("reset", () => setTimeout(choose));
  choose();
})();
