// The server's JSON, and its live pictures.

const OWN = { "X-Tusd-Operator": "1", Accept: "application/json" };

export class Refused extends Error {}

async function ask(path, options = {}) {
  const answer = await fetch(`api/${path}`, { headers: OWN, cache: "no-store", ...options });
  if (answer.status === 401) {
    location.assign("login");
    throw new Refused("Signed out.");
  }
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(body.detail ?? `The server answered ${answer.status}.`);
  return body;
}

export const get = (path) => ask(path);
export const post = (path) => ask(path, { method: "POST" });
export const named = (ref) => encodeURIComponent(ref);

// Calls `picture` about once a second while the page is visible; `state` is told how it goes.
export function watch(picture, state) {
  let source = null;
  let timer = 0;

  function open() {
    close();
    if (document.hidden) return;
    source = new EventSource("api/events");
    source.onopen = () => state("live");
    source.onmessage = (event) => {
      state("live");
      picture(JSON.parse(event.data));
    };
    source.onerror = () => {
      state("waiting");
      if (source.readyState !== EventSource.CLOSED) return;
      // It was refused, and tells not why: the plain request does.
      get("snapshot").then(picture, () => {});
      timer = setTimeout(open, 5000);
    };
  }

  function close() {
    clearTimeout(timer);
    source?.close();
    source = null;
  }

  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) return open();
    close();
    state("paused");
  });
  addEventListener("pagehide", close);
  open();
}
