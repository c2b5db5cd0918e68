// The page at `/`: what is seen and clicked. The uploads themselves are in transfers.js.

import { byId, configure, copyButton, element, speak } from "./dom.js";
import { findEarlier, matches, nameOf, remove, terminate } from "./earlier.js";
import { carriesFiles, filesOf } from "./files.js";
import * as finished from "./finished.js";
import * as format from "./format.js";
import { State, Transfers } from "./transfers.js";

const rows = new Map();
let configured;
let transfers;
let earlier = [];
let finishedEarlier = [];

async function main() {
  takeFiles(); // first: they may be chosen or dropped while the page still asks for its configuration
  configured = prepare();
  await configured;
  await refreshEarlier();
}

async function prepare() {
  transfers = new Transfers(await configure());
  if (transfers.maxSize !== null) {
    byId("drop-hint").textContent = `Any type, up to ${format.size(transfers.maxSize)}. Several at once.`;
  }
  transfers.addEventListener("change", (event) => show(event.detail));
  setInterval(tick, 1000);
  byId("pause-all").addEventListener("click", pauseOrResumeAll);
  byId("clear-done").addEventListener("click", clearDone);
  byId("clear-finished").addEventListener("click", clearFinished);
  byId("snippet").textContent = byId("snippet").textContent.replace("ENDPOINT", transfers.endpoint);
}

// -- Files come in

function takeFiles() {
  const drop = byId("drop");
  const pick = byId("pick");
  pick.addEventListener("change", () => {
    start([...pick.files]);
    pick.value = "";
  });
  let depth = 0;
  const light = (on) => drop.classList.toggle("over", on);
  addEventListener("dragenter", (event) => {
    if (!carriesFiles(event.dataTransfer)) return;
    event.preventDefault();
    depth += 1;
    light(true);
  });
  addEventListener("dragleave", () => {
    depth = Math.max(0, depth - 1);
    if (!depth) light(false);
  });
  addEventListener("dragover", (event) => {
    if (!carriesFiles(event.dataTransfer)) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "copy";
  });
  addEventListener("drop", async (event) => {
    if (!carriesFiles(event.dataTransfer)) return;
    event.preventDefault();
    depth = 0;
    light(false);
    start(await filesOf(event.dataTransfer));
  });
  addEventListener("paste", async (event) => {
    if (carriesFiles(event.clipboardData)) start(await filesOf(event.clipboardData));
  });
}

async function start(files) {
  if (!files.length) return;
  speak(files.length === 1 ? `Uploading ${files[0].name}` : `Uploading ${files.length} files`);
  await configured;
  for (const file of files) {
    const entry = earlier.find((known) => matches(known, file)) ?? null;
    if (entry) earlier = earlier.filter((known) => known !== entry);
    await transfers.add(file, entry);
  }
  showEarlier();
}

// -- Uploads of this visit

function show(transfer) {
  const list = byId("current-list");
  if (!transfers.items.includes(transfer)) {
    rows.get(transfer)?.item.remove();
    rows.delete(transfer);
  } else {
    if (!rows.has(transfer)) {
      const row = makeRow(transfer);
      rows.set(transfer, row);
      list.prepend(row.item);
    }
    paint(transfer, rows.get(transfer));
  }
  summarise();
}

function makeRow(transfer) {
  const { file } = transfer;
  const bar = element("div", { class: "progress-bar" });
  const progress = element(
    "div",
    {
      class: "progress",
      role: "progressbar",
      "aria-label": `Progress of ${file.name}`,
      "aria-valuemin": "0",
      "aria-valuemax": "100",
    },
    bar,
  );
  const status = element("p", { class: "status" });
  const numbers = element("p", { class: "numbers" });
  const actions = element("div", { class: "actions" });
  const item = element(
    "li",
    { class: "card" },
    element("span", { class: "badge", "aria-hidden": "true" }, format.kind(file.name)),
    element(
      "div",
      { class: "what" },
      element("p", { class: "name", title: file.name }, file.name),
      element("div", { class: "line" }, status, numbers),
      progress,
    ),
    actions,
  );
  return { item, bar, progress, status, numbers, actions, state: null };
}

function paint(transfer, row) {
  const { file, sent, state } = transfer;
  const done = format.percent(sent, file.size);
  const shown = state === State.DONE ? 100 : Math.min(done, 99.5);
  row.bar.style.transform = `scaleX(${(state === State.DONE ? 100 : (sent / (file.size || 1)) * 100) / 100})`;
  row.progress.setAttribute("aria-valuenow", String(Math.floor(shown)));
  row.numbers.textContent = numbersOf(transfer, done);
  const words = statusOf(transfer);
  if (row.status.textContent !== words) row.status.textContent = words;
  if (row.state === state) return;
  row.state = state;
  row.item.dataset.state = state;
  const focused = row.actions.contains(document.activeElement);
  row.actions.replaceChildren(...actionsOf(transfer));
  if (focused) row.actions.querySelector("button, a")?.focus();
  if (state === State.DONE) speak(`${file.name} is uploaded`);
  if (state === State.FAILED) speak(`${file.name}: ${transfer.message}`);
}

function numbersOf({ file, sent, state }, done) {
  if (state === State.DONE || state === State.WAITING && !sent) return format.size(file.size);
  return `${format.size(sent)} of ${format.size(file.size)} · ${done} %`;
}

function statusOf(transfer) {
  switch (transfer.state) {
    case State.WAITING:
      return "Waiting for its turn";
    case State.RUNNING: {
      if (transfer.sent >= transfer.file.size && transfer.file.size) return "Storing …";
      const left = format.timeLeft(transfer.secondsLeft);
      if (!transfer.speed) return transfer.resumed ? "Going on where it stopped …" : "Starting …";
      return `${format.speed(transfer.speed)}${left ? ` · ${left}` : ""}`;
    }
    case State.PAUSED:
      return "Paused";
    case State.DONE:
      return "Uploaded";
    default:
      return transfer.message;
  }
}

function actionsOf(transfer) {
  const { name } = transfer.file;
  const pause = () => action("Pause", name, () => transfer.pause());
  const cancel = () => action("Cancel", name, () => transfer.discard(), "danger");
  switch (transfer.state) {
    case State.WAITING:
    case State.RUNNING:
    case State.RETRYING:
      return [pause(), cancel()];
    case State.PAUSED:
      return [action("Resume", name, () => transfer.resume(), "strong"), cancel()];
    case State.FAILED:
      return [
        ...(transfer.final ? [] : [action("Try again", name, () => transfer.resume(), "strong")]),
        action("Remove", name, () => transfer.discard()),
      ];
    case State.DONE:
      return [
        ...linkActions(name, transfer.url),
        action("Delete", name, () => transfer.discard(), "danger"),
      ];
    default:
      return [];
  }
}

function linkActions(name, url) {
  return [
    element("a", { class: "button strong", href: url, "aria-label": `Download ${name}` }, "Download"),
    copyButton("Copy link", url, { name }),
  ].filter(Boolean);
}

function action(label, name, run, look = "") {
  return element(
    "button",
    { type: "button", class: `button ${look}`, "aria-label": `${label} ${name}`, onclick: run },
    label,
  );
}

function tick() {
  for (const [transfer, row] of rows) if (transfer.isBusy) paint(transfer, row);
  summarise();
}

function summarise() {
  const { items } = transfers;
  byId("current").hidden = !items.length;
  const busy = items.filter((item) => item.isBusy || item.state === State.WAITING);
  const paused = items.filter((item) => item.state === State.PAUSED);
  const done = items.filter((item) => item.state === State.DONE);
  const speed = busy.reduce((sum, item) => sum + item.speed, 0);
  const told = [];
  if (busy.length && speed) told.push(format.speed(speed));
  if (items.length > 1) told.push(`${done.length} of ${items.length} done`);
  byId("summary").textContent = told.join(" · ");
  const pauseAll = byId("pause-all");
  pauseAll.hidden = busy.length + paused.length < 2;
  pauseAll.textContent = busy.length ? "Pause all" : "Resume all";
  byId("clear-done").hidden = !done.length;
  document.title = titleOf(busy, items);
}

function titleOf(busy, items) {
  if (!busy.length) return "Uploads · tusd-py";
  const total = items.reduce((sum, item) => sum + item.file.size, 0);
  const sent = items.reduce((sum, item) => sum + item.sent, 0);
  return `${format.percent(sent, total)} % · tusd-py`;
}

function pauseOrResumeAll() {
  const busy = transfers.items.filter((item) => item.isBusy || item.state === State.WAITING);
  if (busy.length) {
    // Those that wait first: a freed place would start them.
    for (const item of busy.sort((a, b) => a.isBusy - b.isBusy)) item.pause();
  } else {
    for (const item of transfers.items) if (item.state === State.PAUSED) item.resume();
  }
}

function clearDone() {
  for (const item of transfers.items) if (item.state === State.DONE) transfers.remove(item);
}

// -- Uploads of earlier visits

async function refreshEarlier() {
  const found = await findEarlier();
  earlier = found.filter((entry) => !transfers.items.some((item) => item.follows(entry)));
  showEarlier();
  // After that: an upload that was taken for unfinished may turn out to be whole.
  const whole = await finished.findFinished();
  finishedEarlier = whole.filter(({ url }) => !transfers.items.some((item) => item.url === url));
  showFinished();
}

function showEarlier() {
  byId("earlier").hidden = !earlier.length;
  byId("earlier-list").replaceChildren(...earlier.map(earlierRow));
}

function earlierRow(entry) {
  const name = nameOf(entry);
  const known = Number.isFinite(entry.offset);
  const note = element("p", { class: "status" }, known ? `Started ${format.ago(new Date(entry.creationTime))}` : "The server cannot be asked right now");
  const input = element("input", {
    type: "file",
    class: "visually-hidden",
    tabindex: "-1",
    "aria-hidden": "true",
    onchange: () => {
      const [file] = input.files;
      if (!file) return;
      if (matches(entry, file)) start([file]);
      else {
        note.textContent = `That is another file: choose ${name} with ${format.size(entry.size)}.`;
        item.dataset.state = "failed";
        speak(note.textContent);
      }
      input.value = "";
    },
  });
  const bar = element("div", { class: "progress-bar" });
  bar.style.transform = `scaleX(${known ? entry.offset / (entry.size || 1) : 0})`;
  const item = element(
    "li",
    { class: "card", "data-state": "paused" },
    element("span", { class: "badge", "aria-hidden": "true" }, format.kind(name)),
    element(
      "div",
      { class: "what" },
      element("p", { class: "name", title: name }, name),
      element(
        "div",
        { class: "line" },
        note,
        element(
          "p",
          { class: "numbers" },
          known
            ? `${format.size(entry.offset)} of ${format.size(entry.size)} · ${format.percent(entry.offset, entry.size)} %`
            : format.size(entry.size ?? 0),
        ),
      ),
      element("div", { class: "progress", "aria-hidden": "true" }, bar),
    ),
    element(
      "div",
      { class: "actions" },
      input,
      action("Resume", name, () => input.click(), "strong"),
      action("Delete", name, () => removeEarlier(entry, item, note), "danger"),
    ),
  );
  return item;
}

async function removeEarlier(entry, item, note) {
  await deleting(item, note, async () => {
    await remove(entry);
    earlier = earlier.filter((known) => known !== entry);
    showEarlier();
  });
}

async function deleting(item, note, act) {
  try {
    await act();
    speak("Deleted");
  } catch {
    note.textContent = "It could not be deleted: the server cannot be reached. Try again.";
    item.dataset.state = "failed";
  }
}

function showFinished() {
  byId("finished").hidden = !finishedEarlier.length;
  byId("finished-list").replaceChildren(...finishedEarlier.map(finishedRow));
}

function finishedRow(entry) {
  const { name, size, url, at } = entry;
  const note = element("p", { class: "status" }, `Uploaded ${format.ago(new Date(at))}`);
  const item = element(
    "li",
    { class: "card", "data-state": "done" },
    element("span", { class: "badge", "aria-hidden": "true" }, format.kind(name)),
    element(
      "div",
      { class: "what" },
      element("p", { class: "name", title: name }, name),
      element("div", { class: "line" }, note, element("p", { class: "numbers" }, format.size(size))),
    ),
    element(
      "div",
      { class: "actions" },
      ...linkActions(name, url),
      action("Delete", name, () => removeFinished(entry, item, note), "danger"),
    ),
  );
  return item;
}

async function removeFinished(entry, item, note) {
  await deleting(item, note, async () => {
    await terminate(entry.url);
    forgetFinished([entry]);
  });
}

/** Takes them off the page; what the server has stays. */
function clearFinished() {
  forgetFinished(finishedEarlier);
}

function forgetFinished(entries) {
  for (const { url } of entries) finished.drop(url);
  finishedEarlier = finishedEarlier.filter((known) => !entries.includes(known));
  showFinished();
}

main();
