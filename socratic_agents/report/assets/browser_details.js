// Details of one prompt, made when one asks for them.
const SAID = {
  passed: ["✓", "passed"], failed: ["✗", "failed"], unknown: ["?", "unknown"],
  void: ["–", "counts as failed"], unasked: [" ", "not asked"],
};

function mark([state, sure], question, number) {
  const [glyph, said] = SAID[state];
  const [text, , needs] = question || [""];
  let told = `${text} ${said}`;
  if (state === "void") told += `: it needs ${needs.join(", ")}`;
  if (typeof sure === "number") told += `, P(yes) ${sure.toFixed(2)}`;
  return make(
    "span",
    { class: `mark ${state}`, role: "img", title: `${number}. ${told}`, "aria-label": told },
    glyph,
  );
}

function marks(row, candidate) {
  if (!candidate.checks) return null;
  return make("p", { class: "marks" }, candidate.checks.map((check, nth) => (
    mark(check, (row.questions || [])[nth], nth + 1))));
}

const sureness = (sure) => (typeof sure === "number"
  ? [" ", make("span", { class: "sure", title: "P(yes)" }, sure.toFixed(2))] : null);

function lacking(row, candidate) {
  const tags = (candidate.checks || []).map(([state, sure], nth) => {
    if (state !== "failed" && state !== "unknown") return null;
    const [, requirement] = (row.questions || [])[nth];
    const label = state === "failed" ? "lacks" : "unknown";
    return make("span", { class: `tag ${state === "failed" ? "bad" : "quiet"}` }, `${label}: ${requirement}`, sureness(sure));
  }).filter(Boolean);
  return tags.length > 0 && make("p", { class: "tags" }, tags);
}

const NAMES = { ins: "ins", del: "del" };
const changes = (candidate) => (candidate.changes || []).flatMap(([kind, text]) => (
  [NAMES[kind] ? make(NAMES[kind], {}, text) : text, " "]));

function framed(candidate, ...children) {
  const image = picture(candidate, 256, candidate.caption || "image without a caption");
  const link = candidate.image
    ? make("a", { href: candidate.image, target: "_blank", rel: "noopener" }, image) : image;
  return make("figure", {}, link, make("figcaption", {}, ...children));
}

function card(row, candidate) {
  const tags = [
    candidate.chosen && make("span", { class: "tag best" }, "chosen"),
    candidate.status && make("span", { class: "tag bad" }, words(candidate.status)),
    Object.entries(candidate.scores || {}).map(([name, value]) => (
      make("span", { class: "tag" }, `${name} ${shown3(value)}`))),
    make("span", { class: "tag quiet" }, `seed ${candidate.seed}`),
    candidate.final && make("span", { class: "tag" }, "final generator"),
    candidate.truncated
      && make("span", { class: "tag bad" }, `${plural(candidate.truncated, "token")} cut off`),
  ];
  const figure = framed(
    candidate,
    make("p", { class: "tags" }, tags),
    make("p", { class: "prompt" }, changes(candidate)),
    candidate.caption && make("p", { class: "caption" }, candidate.caption),
    marks(row, candidate),
    lacking(row, candidate),
    candidate.error && make("p", { class: "error" }, candidate.error),
  );
  figure.className = `card${candidate.chosen ? " chosen" : ""}`;
  return figure;
}

function verdict(said) {
  if (!said) return null;
  const judged = typeof said.satisfied === "boolean";
  const [kind, text] = said.satisfied ? ["yes", "Satisfied"]
    : judged ? ["no", "Not yet"] : ["none", "Not judged"];
  return make(
    "div", { class: `verdict ${kind}` }, make("strong", {}, text),
    (said.missing || []).map((thing) => make("span", { class: "tag" }, `missing: ${thing}`)),
    said.reason && make("span", { class: "reason" }, said.reason),
  );
}

function receipt(row) {
  const facts = row.receipt;
  if (!facts) return null;
  const { gain = 0, compared: alone = 0, returned = 0 } = facts;
  const [kind, text] = gain > 0 ? ["better", `gain ${signed(gain)}`]
    : gain < 0 ? ["worse", `loss ${signed(gain)}`] : ["even", "no gain"];
  return make(
    "p", { class: `receipt ${kind}` },
    `${plural(facts.images, "image")} of your prompt alone would have brought ${shown3(alone)}, `
    + `this brought ${shown3(returned)} (${facts.metric}); `,
    make("strong", {}, text), ".",
    !facts.independent && make("span", { class: "soft" }, " This score took part in choosing, so it flatters both sides."),
  );
}

function pair(row) {
  const [first] = row.candidates;
  if (!row.chosen || (row.chosen === first && !row.receipt)) return null;
  const returned = framed(row.chosen, "returned image", marks(row, row.chosen));
  returned.className = "chosen";
  return make(
    "div", { class: "pair" },
    row.chosen !== first && framed(first, "first image", marks(row, first)),
    returned,
    row.receipt && framed(
      row.receipt.best,
      row.receipt.images > 1 ? `best of ${row.receipt.images} of your prompt alone` : "your prompt alone",
      marks(row, row.receipt.best),
    ),
  );
}

function checklist(row) {
  const mute = row.mute && make("p", { class: "error" }, `No checklist: ${row.mute}`);
  if (!row.questions) return mute;
  const checks = row.questions.map((_, nth) => (
    ((row.chosen && row.chosen.checks) || [])[nth] || ["unasked"]));
  const passed = checks.filter(([state]) => state === "passed").length;
  const asked = checks.some(([state]) => state !== "unasked");
  const body = row.questions.map((question, nth) => make(
    "tr", { class: checks[nth][0] },
    make("td", {}, `${nth + 1}. ${question[0]}`),
    make("td", {}, question[2].join(", ")),
    make("td", {}, mark(checks[nth], question, nth + 1), ` ${SAID[checks[nth][0]][1]}`, sureness(checks[nth][1])),
  ));
  const heads = ["question", "needs", "returned image"];
  return make(
    "details", { class: "checklist", open: asked && passed < checks.length ? "" : null },
    make("summary", {}, asked
      ? `Checklist: the returned image passes ${passed} of ${checks.length}`
      : `Checklist: ${plural(checks.length, "question")}`),
    make(
      "table", {},
      make("thead", {}, make("tr", {}, heads.map((head) => make("th", { scope: "col" }, head)))),
      make("tbody", {}, body),
    ),
  );
}

function settingsOf(row) {
  const table = settings[row.settings];
  if (!table.length) return null;
  return make(
    "details", {}, make("summary", {}, "Settings and templates"),
    make("table", {}, table.map(([name, value]) => make(
      "tr", {}, make("th", { scope: "row" }, name), make("td", {}, value)))),
  );
}

function roundOf(row, round, nth, at) {
  const count = (round.candidates || []).length;
  return make(
    "section", { class: "round" }, make("h3", {}, `Round ${nth + 1}`),
    round.error && make("p", { class: "error" }, `No new prompt: ${round.error}`),
    make("div", { class: "cards" }, row.candidates.slice(at, at + count).map((one) => card(row, one))),
    verdict(round.verdict),
  );
}

function detailsOf(row) {
  let at = 0;
  const rounds = row.rounds.map((round, nth) => {
    const section = roundOf(row, round, nth, at);
    at += (round.candidates || []).length;
    return section;
  });
  const scores = [row.first, row.returned].filter((value) => value !== undefined);
  return [
    make("h2", { id: "heading" }, make("span", { class: "index" }, `${row.index}. `), row.prompt),
    make(
      "p", { class: "tags" }, row.arm && make("span", { class: "tag" }, row.arm), statusOf(row),
      scores.length > 0 && make("span", { class: "tag" }, `${metric} ${scores.map(shown3).join(" → ")}`.trim()),
      gainOf(row),
    ),
    make("p", { class: "facts" }, [plural(row.rounds.length, "round"), ...(row.facts || [])]
      .map((fact) => make("span", {}, fact))),
    row.link && make("p", {}, make("a", { href: row.link }, "More about this result")),
    row.error && make("p", { class: "error" }, make("strong", {}, row.status === "failed" ? "Failed. " : "Note: "), row.error),
    receipt(row), pair(row), ...rounds, checklist(row), settingsOf(row),
  ].filter(Boolean);
}
