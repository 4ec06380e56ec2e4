// Moving about: into details and out of them, by mouse, keys and address.
let current = null;

function show(row) {
  current = row;
  $("shown").replaceChildren(...detailsOf(row));
  const at = listed.indexOf(row);
  $("place").textContent = at < 0 ? "" : `${(at + 1).toLocaleString("en")} of ${listed.length.toLocaleString("en")}`;
  $("before").disabled = at <= 0;
  $("after").disabled = at < 0 || at + 1 === listed.length;
  if (!$("details").open) $("details").showModal();
  $("shown").scrollTop = 0;
  $("shown").focus({ preventScroll: true });
}

function heed() {
  const [, number] = /^#row-(\d+)$/.exec(location.hash) || [];
  const row = rows[Number(number) - 1];
  if (row) show(row);
  else if ($("details").open) $("details").close();
}

function go(step) {
  const row = listed[listed.indexOf(current) + step];
  if (!row || listed.indexOf(current) < 0) return;
  history.replaceState(null, "", `#row-${row.place + 1}`);
  show(row);
}

$("before").addEventListener("click", () => go(-1));
$("after").addEventListener("click", () => go(1));
$("close").addEventListener("click", () => $("details").close());
$("details").addEventListener("click", (event) => {
  if (event.target === $("details")) $("details").close();
});
$("details").addEventListener("close", () => {
  $("shown").replaceChildren();
  if (location.hash) history.replaceState(null, "", "#");
  const at = listed.indexOf(current);
  if (at >= 0) focusRow(at);
});
addEventListener("hashchange", heed);

function press(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
  const { key, target } = event;
  if ($("details").open) {
    if (key === "ArrowLeft") go(-1);
    else if (key === "ArrowRight") go(1);
    else return;
  } else if (target.tagName === "SELECT" || (target.tagName === "INPUT" && key !== "ArrowDown")) {
    return;
  } else if (key === "/") {
    $("words").focus();
  } else {
    const slot = target.closest(".slot");
    const at = slot ? Number(slot.parentNode.dataset.start)
      + [...slot.parentNode.children].indexOf(slot) : -1;
    const last = listed.length - 1;
    if (key === "ArrowDown") focusRow(Math.min(at + 1, last));
    else if (key === "ArrowUp" && at > 0) focusRow(at - 1);
    else if (key === "Home" && slot) focusRow(0);
    else if (key === "End" && slot) focusRow(last);
    else return;
  }
  event.preventDefault();
}

document.addEventListener("keydown", press);
extremes();
draw();
heed();
