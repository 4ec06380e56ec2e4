// What the other scripts of the page are made of: its data, and how it is shown.
"use strict";
const { metric, rows, settings } = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);

// Everything that is shown is set as text or as an attribute, never as markup.
function make(name, facts, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(facts || {})) {
    if (value !== undefined && value !== null && value !== false) {
      element.setAttribute(key, value);
    }
  }
  element.append(...children.flat(Infinity).filter((child) => child || child === 0));
  return element;
}

const shown3 = (value) => value.toFixed(3);
const plural = (count, word) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;
const words = (text) => text.replaceAll("_", " ");

function signed(value) {
  const small = value && Math.abs(value) < 0.0005;
  const text = small ? value.toExponential(0) : shown3(value);
  return value === 0 ? "0.000" : `${value > 0 ? "+" : ""}${text}`;
}

const signOf = (row) => (row.gain === undefined ? "unknown"
  : row.gain > 0 ? "better" : row.gain < 0 ? "worse" : "same");
const gainOf = (row) => (row.gain === undefined ? null
  : make("span", { class: `gain ${signOf(row)}` }, signed(row.gain)));

function empty(text) {
  return make("div", { class: "empty", role: "img", "aria-label": text }, text);
}

// Width and height are the box that the style gives it: nothing jumps.
function picture(candidate, side, alt = "") {
  if (!candidate.image) return empty(words(candidate.status || "image not found"));
  const img = make("img", {
    alt, width: side, height: side, loading: "lazy", decoding: "async",
  });
  img.src = candidate.image;
  return img;
}

document.addEventListener("error", (event) => {
  if (event.target instanceof HTMLImageElement) {
    event.target.replaceWith(empty("image not found"));
  }
}, true);

rows.forEach((row, place) => {
  row.place = place;
  row.rounds ||= [];
  row.candidates = row.rounds.flatMap((round, number) => (
    (round.candidates || []).map((one, nth) => ({ ...one, turn: number > 0 && nth === 0 }))
  ));
  row.chosen = row.candidates.find((one) => one.chosen);
  row.sought = row.prompt ? row.prompt.toLowerCase() : "";
  row.prompt ||= "";
});
