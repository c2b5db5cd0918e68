// The operator's page: draws the picture that the server sends about once a second.

import { Refused, get, named, post, watch } from "./api.js";
import { at, button, list, make, mark, say, show } from "./dom.js";
import { ago, count, duration, percent, plural, size, speed, timeLeft, when } from "./format.js";
import { REASON, STATUS, explain, nameOf, shortRef, swept } from "./words.js";

const STUCK_SHOWN = 6;
const CENSUS_CAP = 100_000;
const COUNT_CAP = 10_000;
const LISTED = 50; // of each reason
const SPARK_POINTS = 60;

let now = null; // the picture's time, as the server tells it
let allStuck = false;
let latest = null;
const speeds = [];

// -- Parts of rows

function titled(upload) {
  const open = make("button", "name");
  open.type = "button";
  open.title = nameOf(upload);
  open.append(make("bdi", "", nameOf(upload)));
  open.addEventListener("click", () => openDetail(open.closest("li").item));
  return open;
}

function facts(upload, ...more) {
  const known = [upload.owner, upload.node && `node ${upload.node}`, ...more];
  return known.filter(Boolean).join(" · ");
}

function actions(upload, words) {
  const parts = make("div", "actions");
  parts.append(
    button(words, "small retry", (event) => retryUpload(event.target.closest("li").item)),
    button("Cancel", "small danger", (event) => askToCancel(event.target.closest("li").item)),
  );
  for (const part of parts.children) {
    part.setAttribute("aria-label", `${part.textContent} ${nameOf(upload)}`);
  }
  return parts;
}

function offer(row, upload) {
  const [retry, cancel] = row.querySelector(".actions").children;
  show(retry, upload.actions.includes("retry"));
  show(cancel, upload.actions.includes("cancel"));
  show(retry.parentElement, upload.actions.length > 0);
}

// -- Under way

function newRunning(upload) {
  const bar = make("div", "progress", make("div", "arrived"), make("div", "kept"));
  bar.setAttribute("role", "progressbar");
  bar.setAttribute("aria-label", nameOf(upload));
  bar.setAttribute("aria-valuemin", "0");
  bar.setAttribute("aria-valuemax", "100");
  const row = make("li", "row running");
  row.append(
    make("div", "top", titled(upload), make("span", "percent")),
    bar,
    make("div", "bottom", make("span", "facts"), make("span", "pace")),
    actions(upload, "Finish"),
  );
  return row;
}

function updateRunning(row, upload) {
  const done = percent(upload.received, upload.length);
  const bar = row.querySelector(".progress");
  mark(row, "status", upload.status);
  say(row.querySelector(".percent"), done === null ? "" : `${done} %`);
  mark(bar, "unknown", String(done === null));
  if (done === null) bar.removeAttribute("aria-valuenow");
  else bar.setAttribute("aria-valuenow", String(done));
  const of = upload.length === null ? "" : ` of ${size(upload.length)}`;
  bar.querySelector(".arrived").style.transform = scale(upload.received, upload.length);
  bar.querySelector(".kept").style.transform = scale(upload.offset, upload.length);
  say(row.querySelector(".facts"), facts(upload, `${size(upload.received)}${of}`));
  say(row.querySelector(".pace"), pace(upload));
  offer(row, upload);
}

const scale = (part, total) => `scaleX(${total ? Math.min(1, part / total) : Number(total === 0)})`;

function pace(upload) {
  if (upload.status !== "receiving") return STATUS[upload.status];
  return [speed(upload.speed), timeLeft(upload.eta_s)].filter(Boolean).join(" · ");
}

// -- Needs attention, and found ones

function newStuck(upload) {
  const row = make("li", "row stuck");
  row.append(
    make("div", "top", make("span", "tag"), titled(upload)),
    make("div", "bottom", make("span", "why"), make("span", "facts")),
    actions(upload, upload.reason === "unclean" ? "Clean up" : "Finish now"),
  );
  return row;
}

function updateStuck(row, upload) {
  mark(row, "reason", upload.reason);
  say(row.querySelector(".tag"), REASON[upload.reason]);
  say(row.querySelector(".why"), explain(upload, now));
  say(row.querySelector(".facts"), facts(upload, received(upload)));
  offer(row, upload);
}

function received(upload) {
  const of = upload.length === null ? "" : ` of ${size(upload.length)}`;
  return `${size(upload.offset)}${of}`;
}

function newFound(upload) {
  const row = make("li", "row found");
  row.append(
    make("div", "top", make("span", "tag"), titled(upload)),
    make("div", "bottom", make("span", "facts"), make("span", "pace")),
    actions(upload, upload.cleanup_reason ? "Clean up" : "Finish now"),
  );
  return row;
}

function updateFound(row, upload) {
  mark(row, "state", upload.state);
  say(row.querySelector(".tag"), upload.state);
  say(row.querySelector(".facts"), facts(upload, received(upload), shortRef(upload.ref)));
  say(row.querySelector(".pace"), when(upload.updated_at));
  offer(row, upload);
}

// -- Jobs, finished ones, nodes, clean-up

function newJob() {
  const row = make("li", "row job");
  row.append(
    make("div", "top", make("span", "tag"), make("span", "name")),
    make("div", "bottom", make("span", "why"), make("span", "facts")),
    make("div", "actions", button("Retry", "small retry", () => retryJob(row.item))),
  );
  return row;
}

function updateJob(row, job) {
  mark(row, "state", job.state);
  say(row.querySelector(".tag"), job.state);
  say(row.querySelector(".name"), job.kind.replaceAll("_", " "));
  say(row.querySelector(".why"), job.error ?? "");
  const tries = job.attempts ? plural(job.attempts, "try", "tries") : "not tried yet";
  say(row.querySelector(".facts"), `${shortRef(job.subject)} · ${tries} · ${ago(job.updated_at, now)}`);
  const retry = row.querySelector(".retry");
  retry.setAttribute("aria-label", `Retry ${job.kind} ${job.id}`);
  show(retry.parentElement, job.actions.includes("retry"));
}

function newDone(upload) {
  const row = make("li", "row done");
  row.append(
    make("div", "top", titled(upload), make("span", "percent")),
    make("div", "bottom", make("span", "facts"), make("span", "pace")),
  );
  return row;
}

function updateDone(row, upload) {
  say(row.querySelector(".percent"), size(upload.length));
  const took = (new Date(upload.completed_at) - new Date(upload.created_at)) / 1000;
  say(row.querySelector(".facts"), facts({ owner: upload.owner }, `in ${duration(took)}`));
  say(row.querySelector(".pace"), upload.deleted_at ? "deleted since" : ago(upload.completed_at, now));
}

function newNode() {
  const row = make("li", "row host");
  row.append(
    make("div", "top", make("span", "dot"), make("span", "name"), make("span", "percent")),
    make("div", "bottom", make("span", "facts"), make("span", "pace")),
  );
  return row;
}

function updateNode(row, node) {
  mark(row, "alive", String(node.alive));
  say(row.querySelector(".name"), node.name);
  say(row.querySelector(".percent"), node.size ? size(node.size) : "");
  const held = node.uploads ? plural(node.uploads, "tail") : "no tails";
  say(row.querySelector(".facts"), held);
  const seen = node.seen_at ? `seen ${ago(node.seen_at, now)}` : "has not reported yet";
  say(row.querySelector(".pace"), node.alive ? seen : `gone? ${seen}`);
}

function newRun() {
  const row = make("li", "row run");
  row.append(make("div", "top", make("span", "name"), make("span", "percent")));
  row.append(make("div", "bottom", make("span", "facts"), make("span", "pace")));
  return row;
}

function updateRun(row, run) {
  mark(row, "failed", String(run.failed > 0));
  say(row.querySelector(".name"), swept(run));
  say(row.querySelector(".percent"), "");
  const why = run.sweeps.flatMap((sweep) => sweep.failures)[0];
  say(row.querySelector(".facts"), [`node ${run.node}`, why].filter(Boolean).join(" · "));
  say(row.querySelector(".pace"), `${ago(run.started_at, now)}, took ${run.seconds.toFixed(1)} s`);
}

function hosts(picture) {
  const tails = new Map(picture.tails.map((tail) => [tail.node, tail]));
  const named = picture.nodes.map((node) => ({ ...tails.get(node.name), ...node }));
  const known = new Set(picture.nodes.map((node) => node.name));
  const silent = picture.tails.filter((tail) => !known.has(tail.node));
  return [
    ...named,
    ...silent.map((tail) => ({ ...tail, name: tail.node, alive: !tail.gone, seen_at: null })),
  ];
}

// -- The picture

function draw(picture) {
  show(at("trouble"), Boolean(picture.trouble));
  say(at("trouble"), picture.trouble ?? "");
  if (picture.trouble) return;
  latest = picture;
  now = picture.at;
  say(at("node"), `node ${picture.node}`);
  say(at("version"), `tusd-py ${picture.version}`);
  drawTiles(picture);
  section("running", picture.running, (one) => one.ref, newRunning, updateRunning);
  const hidden = picture.totals.running - picture.running.length;
  say(at("running-count"), hidden > 0 ? `and ${count(hidden, COUNT_CAP)} more` : "");
  drawStuck(picture);
  const { dead, running, queued } = picture.jobs;
  section("jobs", [...dead, ...running, ...queued], (job) => job.id, newJob, updateJob);
  section("done", picture.completed, (one) => one.ref, newDone, updateDone);
  section("nodes", hosts(picture), (node) => node.name, newNode, updateNode);
  section("reaper", picture.reaper, (run) => run.node + run.started_at, newRun, updateRun);
}

function section(name, items, key, create, update) {
  list(at(`${name}-list`), items, key, create, update);
  show(at(`${name}-list`), items.length > 0);
  show(at(`${name}-empty`), items.length === 0);
}

function drawStuck(picture) {
  const shown = allStuck ? picture.stuck : picture.stuck.slice(0, STUCK_SHOWN);
  section("stuck", shown, (one) => one.reason + one.ref, newStuck, updateStuck);
  const more = picture.stuck.length - shown.length;
  show(at("stuck-more"), more > 0 || allStuck);
  say(at("stuck-more"), allStuck ? "Show fewer" : `Show ${more} more`);
}

function drawTiles(picture) {
  const { totals } = picture;
  say(at("t-running"), count(totals.running, COUNT_CAP));
  say(at("t-speed"), totals.running ? speed(totals.speed) : "quiet");
  const reasons = countReasons(picture);
  const all = Object.values(reasons).reduce((sum, number) => sum + number, 0);
  say(at("t-stuck"), count(all));
  mark(at("tile-stuck"), "tone", all > reasons.idle ? "bad" : all ? "warn" : "good");
  const told = Object.entries(reasons).filter(([, number]) => number);
  const words = told.map(([reason, number]) => `${count(number)} ${REASON[reason].toLowerCase()}`);
  say(at("t-stuck-note"), words.join(", ") || "nothing is stuck");
  say(at("t-open"), count(totals.open, CENSUS_CAP));
  say(at("t-open-note"), `${size(totals.open_size)} kept, ${size(totals.tail_size)} in tails`);
  say(at("t-jobs"), count(totals.jobs_queued + totals.jobs_running + totals.jobs_dead, COUNT_CAP));
  mark(at("tile-jobs"), "tone", totals.jobs_dead ? "bad" : "good");
  const jobs = [
    [totals.jobs_dead, "dead"],
    [totals.jobs_running, "running"],
    [totals.jobs_queued, "queued"],
  ].filter(([number]) => number);
  say(at("t-jobs-note"), jobs.map(([number, word]) => `${count(number)} ${word}`).join(", ") || "all done");
  drawSpark(totals.speed);
}

// An upload counts once, by its most serious reason; of what is not listed in full, the count does.
function countReasons({ stuck, totals }) {
  const reasons = { tail_missing: 0, unfinished: 0, failed: 0, unclean: 0, idle: 0 };
  for (const upload of stuck) reasons[upload.reason] += 1;
  const counted = { failed: totals.failed, unclean: totals.unclean, idle: totals.idle };
  for (const [reason, number] of Object.entries(counted)) {
    if (number > LISTED) reasons[reason] = number;
  }
  return reasons;
}

function drawSpark(value) {
  speeds.push(value);
  if (speeds.length > SPARK_POINTS) speeds.shift();
  const top = Math.max(...speeds, 1);
  const step = 120 / (SPARK_POINTS - 1);
  const left = 120 - (speeds.length - 1) * step;
  const points = speeds.map((one, n) => `${(left + n * step).toFixed(1)},${(34 - (one / top) * 31).toFixed(1)}`);
  const line = `M${points.join("L")}`;
  at("spark").querySelector(".line").setAttribute("d", line);
  at("spark").querySelector(".area").setAttribute("d", `${line}L120,36L${left.toFixed(1)},36Z`);
}

// -- What the operator does

let asked = null;

function askToCancel(upload) {
  asked = upload;
  say(at("ask-name"), nameOf(upload));
  at("ask").returnValue = "no";
  at("ask").showModal();
}

at("ask").addEventListener("close", () => {
  if (at("ask").returnValue !== "yes" || !asked) return;
  act(`uploads/${named(asked.ref)}/cancel`, `Cancelled ${nameOf(asked)}.`);
});

async function retryUpload(upload) {
  await act(`uploads/${named(upload.ref)}/retry`, (now) =>
    now.state === "completed" ? `Finished ${nameOf(upload)}.` : `Tried again: ${now.state}.`,
  );
}

async function retryJob(job) {
  await act(`jobs/${named(job.id)}/retry`, `The job ${job.kind} runs again.`);
}

async function act(path, words) {
  toast("…");
  try {
    const answer = await post(path);
    toast(typeof words === "function" ? words(answer) : words);
    if (found.query !== null) await search(found.query);
  } catch (error) {
    toast(error instanceof Refused ? error.message : "The server does not answer.", "bad");
  }
}

let fading = 0;

function toast(text, tone = "good") {
  const element = at("toast");
  say(element, text);
  mark(element, "tone", tone);
  element.classList.add("shown");
  clearTimeout(fading);
  fading = setTimeout(() => element.classList.remove("shown"), tone === "bad" ? 10_000 : 5000);
}

at("stuck-more").addEventListener("click", () => {
  allStuck = !allStuck;
  if (latest) drawStuck(latest);
});

// -- One upload

const DETAILS = [
  ["Reference", (one) => one.ref],
  ["State", (one) => one.state],
  ["Failure", (one) => one.failure],
  ["Left over", (one) => one.cleanup_reason],
  ["Owner", (one) => one.owner],
  ["Type", (one) => one.content_type],
  ["Received", (one) => received(one)],
  ["In parts", (one) => `${plural(one.parts, "part")}, ${size(one.parts_size)}`],
  ["In the tail", (one) => one.tail_size && `${size(one.tail_size)} on node ${one.tail_node}`],
  ["Written by", (one) => one.lease_holder],
  ["Strategy", (one) => [one.strategy, one.kind, one.profile].join(", ")],
  ["Begun", (one) => when(one.created_at)],
  ["Last progress", (one) => when(one.updated_at)],
  ["Expires", (one) => one.completed_at === null && when(one.expires_at)],
  ["Completed", (one) => one.completed_at && when(one.completed_at)],
  ["Deleted", (one) => one.deleted_at && when(one.deleted_at)],
  ["CRC-32", (one) => one.crc32],
];

async function openDetail(upload) {
  say(at("detail-title"), nameOf(upload));
  at("detail-list").replaceChildren();
  at("detail").showModal();
  try {
    const one = await get(`uploads/${named(upload.ref)}`);
    const told = DETAILS.map(([name, value]) => [name, value(one)]).filter(([, value]) => value);
    const pairs = Object.entries(one.metadata).map(([name, value]) => [`Metadata: ${name}`, value]);
    at("detail-list").replaceChildren(
      ...[...told, ...pairs].flatMap(([name, value]) => [
        make("dt", "", name),
        make("dd", "", make("bdi", "", String(value))),
      ]),
    );
  } catch (error) {
    at("detail-list").replaceChildren(make("dd", "", String(error.message)));
  }
}

// -- Finding

const found = { query: null, next: null, uploads: [] };

async function search(query, after = null) {
  const params = new URLSearchParams([...query].filter(([, value]) => value));
  params.set("limit", "25");
  if (after) params.set("after", after);
  const page = await get(`uploads?${params}`);
  found.uploads = after ? [...found.uploads, ...page.uploads] : page.uploads;
  found.query = query;
  found.next = page.next;
  section("found", found.uploads, (one) => one.ref, newFound, updateFound);
  show(at("found-more"), page.next !== null);
}

async function searchOrSay(query, after) {
  try {
    await search(query, after);
  } catch (error) {
    toast(error instanceof Refused ? error.message : "The server does not answer.", "bad");
  }
}

at("find").addEventListener("submit", (event) => {
  event.preventDefault();
  searchOrSay([...new FormData(at("find"))].map(([name, value]) => [name, value.trim()]));
});
at("found-more").addEventListener("click", () => searchOrSay(found.query, found.next));

// -- Begin

const STATES = { live: "Live", waiting: "Reconnecting", paused: "Paused" };

watch(draw, (state) => {
  mark(at("live"), "state", state);
  say(at("live"), STATES[state]);
});
