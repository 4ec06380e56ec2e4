// The list: rows are made while they are in view; sorting, filtering, extremes.
const CHUNK = 10; // rows that are made, and taken away, together
const MOST = 6; // images of a row; all of them are in its details
const ORDERS = {
  "": "Order given",
  "gain-": "Best gain first", "gain+": "Worst gain first",
  "returned-": "Best returned first", "returned+": "Worst returned first",
  "first-": "Best first image first", "first+": "Worst first image first",
  "rounds-": "Most rounds first", "rounds+": "Fewest rounds first",
  "status+": "By status",
};

function scoreOf(candidate) {
  const [value] = Object.values(candidate.scores || {});
  return value === undefined ? " " : value.toFixed(2);
}

function shots(row) {
  const all = row.candidates;
  let few = all.slice(0, MOST);
  if (row.chosen && !few.includes(row.chosen)) few = [...few.slice(0, -1), row.chosen];
  const strip = few.map((one) => make(
    "span",
    { class: `shot${one.chosen ? " chosen" : ""}${one.turn ? " turn" : ""}` },
    picture(one, 96), make("small", {}, scoreOf(one)),
  ));
  if (all.length > few.length) {
    strip.push(make("span", { class: "more" }, `+${all.length - few.length}`));
  }
  return strip;
}

function statusOf(row) {
  if (!row.status) return null;
  const kind = { satisfied: " satisfied", failed: " bad" }[row.status] || "";
  return make("span", { class: `tag${kind}` }, row.status);
}

function rowOf(row) {
  const scores = [row.first, row.returned].filter((value) => value !== undefined);
  return make("div", { class: "slot", role: "listitem" }, make(
    "a", { class: "row", href: `#row-${row.place + 1}` },
    make(
      "div", { class: "said" },
      make(
        "p", { class: "head" },
        make("span", { class: "number" }, `${row.index}.`),
        row.arm && make("span", { class: "tag" }, row.arm), statusOf(row),
        make("span", {}, plural(row.rounds.length, "round")),
      ),
      make("div", { class: "text" }, row.prompt),
      make("p", { class: "figures" }, scores.map(shown3).join(" → "), gainOf(row)),
    ),
    make("div", { class: "strip" }, shots(row)),
  ));
}

let listed = rows;

function fill(chunk) {
  if (chunk.firstChild) return;
  const start = Number(chunk.dataset.start);
  chunk.append(...listed.slice(start, start + CHUNK).map(rowOf));
}

const watcher = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (isIntersecting) fill(target);
    else if (!target.contains(document.activeElement)) target.replaceChildren();
  }
}, { rootMargin: "600px 0px" });

function draw() {
  watcher.disconnect();
  const chunks = [];
  for (let start = 0; start < listed.length; start += CHUNK) {
    const chunk = make("div", { class: "chunk", "data-start": start, role: "presentation" });
    chunk.style.setProperty("--rows", Math.min(CHUNK, listed.length - start));
    chunks.push(chunk);
  }
  $("list").replaceChildren(...chunks);
  chunks.slice(0, 1).forEach(fill);
  chunks.forEach((chunk) => watcher.observe(chunk));
  $("nothing").hidden = listed.length > 0;
  $("count").textContent = listed.length === rows.length ? plural(rows.length, "row")
    : `${listed.length.toLocaleString("en")} of ${plural(rows.length, "row")}`;
}

function focusRow(at) {
  const chunk = $("list").children[Math.floor(at / CHUNK)];
  if (!chunk) return;
  fill(chunk);
  const link = chunk.children[at % CHUNK].firstChild;
  link.focus({ preventScroll: true });
  link.scrollIntoView({ block: "nearest" });
}

let sign = "";

function valueOf(row, name) {
  return name === "rounds" ? row.rounds.length : row[name];
}

function compared(a, b, name, way) {
  const [x, y] = [valueOf(a, name), valueOf(b, name)];
  // What has no value stands last, whichever way one sorts.
  if (x === undefined || y === undefined) {
    return Number(x === undefined) - Number(y === undefined) || a.place - b.place;
  }
  return (x < y ? -1 : x > y ? 1 : 0) * way || a.place - b.place;
}

function choose() {
  const sought = $("words").value.toLowerCase().split(/\s+/).filter(Boolean);
  const [status, rounds, arm] = ["status", "rounds", "arm"].map((id) => $(id).value);
  const order = $("order").value;
  listed = rows.filter((row) => (!sign || signOf(row) === sign)
    && (!status || row.status === status) && (!arm || row.arm === arm)
    && (!rounds || row.rounds.length === Number(rounds))
    && sought.every((word) => row.sought.includes(word)));
  if (order) {
    const way = order.endsWith("+") ? 1 : -1;
    listed.sort((a, b) => compared(a, b, order.slice(0, -1), way));
  }
  for (const button of $("signs").children) {
    button.setAttribute("aria-pressed", String(button.dataset.sign === sign));
  }
  draw();
  // What is chosen begins where one looks.
  const top = $("list").getBoundingClientRect().top - $("tools").offsetHeight;
  if (top < 0) scrollBy(0, top - 10);
}

function options(id, all, values) {
  const found = [...new Set(values)].filter((value) => value !== undefined);
  $(id).append(make("option", { value: "" }, all), ...found.map(([value, text]) => (
    make("option", { value }, text))));
  $(id).hidden = found.length < 2;
  $(id).addEventListener("change", choose);
}

function counted(values) {
  const counts = new Map();
  for (const value of values) {
    if (value !== undefined) counts.set(value, (counts.get(value) || 0) + 1);
  }
  return [...counts].sort(([a], [b]) => (a < b ? -1 : 1));
}

const named = (values) => counted(values).map(([value, n]) => [value, `${value} (${n})`]);
options("status", "Any status", named(rows.map((row) => row.status)));
options("arm", "All arms", named(rows.map((row) => row.arm)));
options("rounds", "Any rounds", counted(rows.map((row) => row.rounds.length))
  .map(([value, n]) => [value, `${plural(value, "round")} (${n})`]));
for (const [value, text] of Object.entries(ORDERS)) {
  $("order").append(make("option", { value }, text));
}
$("order").addEventListener("change", choose);
$("words").addEventListener("input", choose);
const signs = new Map(counted(rows.map(signOf)));
for (const [name, label] of [
  ["", "All"], ["better", "Better"], ["same", "Same"], ["worse", "Worse"], ["unknown", "No score"],
]) {
  const count = name ? signs.get(name) || 0 : rows.length;
  if (name === "unknown" && !count) continue;
  const button = make(
    "button", { type: "button", "data-sign": name, "aria-pressed": String(!name) },
    `${label} `, make("small", {}, count.toLocaleString("en")),
  );
  button.addEventListener("click", () => { sign = name; choose(); });
  $("signs").append(button);
}
$("signs").hidden = signs.size < 2;
$("reset").addEventListener("click", () => {
  sign = "";
  for (const id of ["words", "status", "rounds", "arm"]) $(id).value = "";
  choose();
  $("words").focus();
});

function extremes() {
  const known = rows.filter((row) => row.gain !== undefined)
    .sort((a, b) => compared(a, b, "gain", -1));
  const small = (row) => make(
    "a", { class: "extreme", href: `#row-${row.place + 1}` },
    make(
      "div", { class: "two" },
      picture(row.candidates[0] || {}, 96), picture(row.chosen || {}, 96),
    ),
    make("div", {}, make("span", { class: "number" }, `${row.index}. `), gainOf(row)),
    make("div", { class: "text" }, row.arm && `${row.arm}: `, row.prompt),
  );
  const best = known.filter((row) => row.gain > 0).slice(0, 3);
  const worst = known.filter((row) => row.gain < 0).reverse().slice(0, 3);
  $("best").append(...(best.length ? best.map(small) : [make("p", {}, "No prompt gained.")]));
  $("worst").append(...(worst.length ? worst.map(small) : [make("p", {}, "No prompt lost.")]));
  $("extremes").hidden = $("told").hidden = known.length === 0;
}
