"use strict";
(() => {
  const survey = JSON.parse(document.getElementById("survey").textContent);
  const names = Object.keys(survey.questions);
  const place = `socratic-survey-${survey.study}`;
  const $ = (id) => document.getElementById(id);

  // SHA-256, because the browser's own is missing where a page is not served safely.
  function sha256(text) {
    const rotated = (x, n) => (x >>> n) | (x << (32 - n));
    const primes = [];
    for (let n = 2; primes.length < 64; n += 1) {
      if (primes.every((prime) => n % prime)) primes.push(n);
    }
    const part = (x) => ((x - Math.floor(x)) * 4294967296) | 0;
    const constants = primes.map((prime) => part(Math.cbrt(prime)));
    const hash = primes.slice(0, 8).map((prime) => part(Math.sqrt(prime)));
    const bytes = new TextEncoder().encode(text);
    const padded = new Uint8Array(((bytes.length + 72) >> 6) << 6);
    padded.set(bytes);
    padded[bytes.length] = 128;
    const view = new DataView(padded.buffer);
    view.setUint32(padded.length - 4, bytes.length * 8);
    for (let start = 0; start < padded.length; start += 64) {
      const w = [];
      for (let i = 0; i < 64; i += 1) {
        if (i < 16) {
          w.push(view.getInt32(start + i * 4));
        } else {
          const a = w[i - 15];
          const b = w[i - 2];
          const s0 = rotated(a, 7) ^ rotated(a, 18) ^ (a >>> 3);
          const s1 = rotated(b, 17) ^ rotated(b, 19) ^ (b >>> 10);
          w.push((w[i - 16] + s0 + w[i - 7] + s1) | 0);
        }
      }
      let [a, b, c, d, e, f, g, h] = hash;
      for (let i = 0; i < 64; i += 1) {
        const s1 = rotated(e, 6) ^ rotated(e, 11) ^ rotated(e, 25);
        const t1 = (h + s1 + ((e & f) ^ (~e & g)) + constants[i] + w[i]) | 0;
        const s0 = rotated(a, 2) ^ rotated(a, 13) ^ rotated(a, 22);
        const t2 = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
        [h, g, f, e, d, c, b, a] = [g, f, e, (d + t1) | 0, c, b, a, (t1 + t2) | 0];
      }
      [a, b, c, d, e, f, g, h].forEach((x, i) => { hash[i] = (hash[i] + x) | 0; });
    }
    return hash.map((x) => (x >>> 0).toString(16).padStart(8, "0")).join("");
  }

  // Chance that the same person meets again after a reload (mulberry32).
  function chanceOf(text) {
    let state = parseInt(sha256(text).slice(0, 8), 16);
    return (below) => {
      state = (state + 0x6d2b79f5) | 0;
      let t = Math.imul(state ^ (state >>> 15), 1 | state);
      t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
      return Math.floor((((t ^ (t >>> 14)) >>> 0) / 4294967296) * below);
    };
  }

  function shuffled(values, chance) {
    const mixed = [...values];
    for (let i = mixed.length - 1; i > 0; i -= 1) {
      const j = chance(i + 1);
      [mixed[i], mixed[j]] = [mixed[j], mixed[i]];
    }
    return mixed;
  }

  // Each person has an order and sides of their own. What is shown again comes from
  // the first half, returns in the last third, and has its sides exchanged.
  function orderOf(rater) {
    const chance = chanceOf(`${survey.study}:${rater}`);
    const order = shuffled(survey.items, chance).map((item) => ({
      item, left: chance(2) ? "a" : "b", repeat: false,
    }));
    const half = order.slice(0, Math.floor(order.length / 2));
    for (const one of shuffled(half, chance).slice(0, survey.repeats)) {
      const from = Math.ceil((order.length * 2) / 3);
      const at = from + chance(order.length - from + 1);
      const left = one.left === "a" ? "b" : "a";
      order.splice(at, 0, { item: one.item, left, repeat: true });
    }
    return order;
  }

  function newRater() {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  }

  let state;
  let order;
  let keeps = true;
  let current = 0; // the question that the arrows answer; 3: all are answered
  let since = null; // when the pair came into view

  function save() {
    try {
      localStorage.setItem(place, JSON.stringify(state));
    } catch {
      keeps = false;
    }
    for (const warning of document.querySelectorAll(".forgetful")) {
      warning.hidden = keeps;
    }
  }

  function load() {
    try {
      const kept = JSON.parse(localStorage.getItem(place));
      if (/^[0-9a-f]{32}$/.test(kept.rater) && Number.isInteger(kept.at)
          && kept.answers instanceof Object) return kept;
    } catch {
      // Nothing is kept, or it cannot be read: begin anew.
    }
    return { rater: newRater(), at: -1, answers: {} };
  }

  const answerOf = (at) => state.answers[at] || {};
  const whole = (at) => names.every((name) => answerOf(at)[name]);
  const answered = () => order.filter((_, at) => whole(at)).length;

  function exported() {
    const answers = order.flatMap((shown, at) => {
      if (!whole(at)) return [];
      const { preference, match, plausibility, ms } = answerOf(at);
      return [{
        item: shown.item[0], left: shown.left, repeat: shown.repeat,
        preference, match, plausibility, ms: Math.round(ms || 0),
      }];
    });
    const told = {
      schema: 1, study: survey.study, rater: state.rater, total: order.length, answers,
    };
    return `${JSON.stringify({ ...told, checksum: sha256(JSON.stringify(told)) })}\n`;
  }

  // Time counts while the pair is in view.
  function bank() {
    if (since === null) return;
    const answer = { ...answerOf(state.at) };
    answer.ms = (answer.ms || 0) + performance.now() - since;
    state.answers[state.at] = answer;
    since = null;
  }

  function show(section) {
    for (const id of ["intro", "pair", "end"]) $(id).hidden = id !== section;
    $("bar").hidden = section !== "pair";
    scrollTo(0, 0);
  }

  function drawChoices() {
    const answer = answerOf(state.at);
    names.forEach((name, row) => {
      const question = $(`question-${name}`);
      question.classList.toggle("current", row === current);
      for (const button of question.querySelectorAll("button")) {
        const pressed = answer[name] === button.dataset.choice;
        button.setAttribute("aria-pressed", String(pressed));
      }
    });
    $("next").setAttribute("aria-disabled", String(!whole(state.at)));
    $("back").setAttribute("aria-disabled", String(state.at === 0));
    $("progress").max = order.length;
    $("progress").value = answered();
  }

  function showPair() {
    const { item, left } = order[state.at];
    const [, prompt, a, b] = item;
    const images = left === "a" ? [a, b] : [b, a];
    show("pair");
    $("prompt").textContent = prompt;
    $("prompt").classList.toggle("long", prompt.length > 160);
    $("prompt").scrollTop = 0;
    document.querySelectorAll("#pair img").forEach((img, side) => {
      img.src = survey.images[images[side]];
    });
    current = names.findIndex((name) => !answerOf(state.at)[name]);
    if (current < 0) current = names.length;
    $("count").textContent = `${state.at + 1} of ${order.length}`;
    $("next").textContent = state.at + 1 < order.length ? "Next" : "Finish";
    $("said").textContent = `Pair ${state.at + 1} of ${order.length}`;
    since = document.hidden ? null : performance.now();
    drawChoices();
    $("prompt").focus({ preventScroll: true });
  }

  function showEnd() {
    const done = answered();
    const all = done === order.length;
    show("end");
    $("done").textContent = all ? "Thank you!" : "Stop here?";
    $("told").textContent = all
      ? `You answered all ${done} pairs. One thing is left: hand in your answers.`
      : `You answered ${done} of ${order.length} pairs. `
        + "You can hand in what you have, or go on, now or later.";
    $("more").textContent = all ? "Look at the answers again" : "Go on";
    for (const id of ["send", "download", "copy"]) {
      $(id).setAttribute("aria-disabled", String(done === 0));
    }
    $("outcome").textContent = "";
    $("text").value = exported();
    $("done").focus({ preventScroll: true });
  }

  function go(at) {
    bank();
    state.at = at;
    save();
    if (at < 0) show("intro");
    else if (at < order.length) showPair();
    else showEnd();
  }

  function choose(row, choice) {
    const answer = { ...answerOf(state.at), [names[row]]: choice };
    state.answers[state.at] = answer;
    const open = names.findIndex((name) => !answer[name]);
    current = row + 1 < names.length && !answer[names[row + 1]] ? row + 1 : open;
    if (current < 0) current = names.length;
    save();
    drawChoices();
    if (whole(state.at)) $("next").focus({ preventScroll: true });
  }

  function next() {
    if (whole(state.at)) {
      go(state.at + 1);
      return;
    }
    $("said").textContent = "Please answer all three questions first.";
    const open = $(`question-${names[current]}`);
    open.scrollIntoView({ block: "nearest" });
    open.querySelector("button").focus();
  }

  function begin() {
    order = orderOf(state.rater);
    $("total").textContent = `${order.length} pairs`;
    if (state.at > order.length) state.at = -1;
    save();
    go(state.at);
  }

  const ready = (id) => $(id).getAttribute("aria-disabled") !== "true";

  function download() {
    if (!ready("download")) return;
    const url = URL.createObjectURL(new Blob([exported()], { type: "application/json" }));
    const link = document.createElement("a");
    link.href = url;
    link.download = `answers-${survey.study.slice(0, 8)}-${state.rater.slice(0, 8)}.json`;
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
    $("outcome").textContent = `Saved as ${link.download}. Please send this file to the person who asked you.`;
  }

  async function send() {
    if (!ready("send")) return;
    $("outcome").textContent = "Sending…";
    try {
      const reply = await fetch("answers", {
        method: "POST", headers: { "Content-Type": "application/json" }, body: exported(),
      });
      if (!reply.ok) throw new Error(`${reply.status}`);
      $("outcome").textContent = "Your answers have arrived. You can close this page.";
    } catch {
      $("outcome").textContent = "The answers could not be sent. They are safe in this browser: try again, or download them.";
    }
  }

  async function copy() {
    if (!ready("copy")) return;
    $("text").focus();
    $("text").select();
    try {
      await navigator.clipboard.writeText($("text").value);
      $("outcome").textContent = "Copied.";
    } catch {
      $("outcome").textContent = "The text is selected: copy it with Ctrl+C, or ⌘C.";
    }
  }

  function another() {
    const sure = "Have the answers been handed in? They will be removed from this browser.";
    if (answered() && !confirm(sure)) return;
    state = { rater: newRater(), at: -1, answers: {} };
    begin();
  }

  function press(event) {
    if ($("pair").hidden || $("zoom").open) return;
    if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
    const choice = { ArrowLeft: "left", ArrowDown: "tie", ArrowRight: "right" }[event.key];
    if (choice) {
      if (current < names.length) choose(current, choice);
    } else if (event.key === "ArrowUp") {
      current = Math.max(0, current - 1);
      drawChoices();
    } else if (event.key === "Backspace") {
      if (state.at > 0) go(state.at - 1);
    } else if (event.key === "Enter" && event.target.tagName !== "BUTTON") {
      next();
    } else {
      return;
    }
    event.preventDefault();
  }

  names.forEach((name, row) => {
    const question = document.createElement("div");
    question.className = "question";
    question.id = `question-${name}`;
    question.setAttribute("role", "group");
    const words = document.createElement("p");
    words.id = `words-${name}`;
    words.textContent = survey.questions[name];
    question.setAttribute("aria-labelledby", words.id);
    const choices = document.createElement("div");
    choices.className = "choices";
    for (const [choice, label] of [["left", "Left"], ["tie", "Same"], ["right", "Right"]]) {
      const button = document.createElement("button");
      button.type = "button";
      button.dataset.choice = choice;
      button.textContent = label;
      button.addEventListener("click", () => choose(row, choice));
      choices.append(button);
    }
    question.append(words, choices);
    $("questions").append(question);
  });

  for (const picture of document.querySelectorAll(".picture")) {
    picture.addEventListener("click", () => {
      const img = $("zoom").querySelector("img");
      img.src = picture.querySelector("img").src;
      img.alt = picture.querySelector("img").alt;
      $("zoom").showModal();
    });
  }
  const close = () => $("zoom").close();
  const clicks = {
    start: () => go(0), stop: () => go(order.length), next, download, send, copy, another, close,
    back: () => { if (state.at > 0) go(state.at - 1); },
    more: () => {
      const open = order.findIndex((_, at) => !whole(at));
      go(Math.max(0, open));
    },
  };
  for (const [id, click] of Object.entries(clicks)) $(id).addEventListener("click", click);
  document.addEventListener("keydown", press);
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      bank();
      save();
    } else if (!$("pair").hidden) {
      since = performance.now();
    }
  });
  addEventListener("pagehide", () => { bank(); save(); });
  $("send").hidden = !location.protocol.startsWith("http");
  if (!$("send").hidden) $("download").classList.remove("primary");

  state = load();
  begin();
})();
