// Finished uploads of this browser: their links survive a reload. Knows no page.

const KEY = "tusd-py.finished";
const MOST = 100;

/** Remembers an upload that the server has whole: `{ url, name, size, at }`, newest first. */
export function keep(entry) {
  write([entry, ...read().filter((known) => known.url !== entry.url)].slice(0, MOST));
}

export function drop(url) {
  write(read().filter((known) => known.url !== url));
}

/** Those that the server still has; the others are forgotten. */
export async function findFinished() {
  const known = await Promise.all(read().map(stillThere));
  return known.filter(Boolean);
}

async function stillThere(entry) {
  try {
    const answer = await fetch(entry.url, {
      method: "HEAD",
      headers: { "Tus-Resumable": "1.0.0" },
      cache: "no-store",
    });
    if (![403, 404, 410].includes(answer.status)) return entry;
  } catch {
    return entry; // Nobody knows: the server is away.
  }
  drop(entry.url);
  return null;
}

function read() {
  try {
    const found = JSON.parse(localStorage.getItem(KEY));
    return Array.isArray(found) ? found.filter((entry) => typeof entry?.url === "string") : [];
  } catch {
    return [];
  }
}

function write(entries) {
  try {
    localStorage.setItem(KEY, JSON.stringify(entries));
  } catch {
    // The browser keeps nothing here: the links live as long as the page.
  }
}
