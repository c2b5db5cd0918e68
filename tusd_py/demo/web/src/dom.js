// Making elements; what both pages share.

export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export const byId = (id) => document.getElementById(id);

export function speak(text) {
  byId("spoken").textContent = text;
}

export async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Could not copy";
  }
  setTimeout(() => {
    button.textContent = button.dataset.label;
  }, 1600);
}

export function copyButton(label, text, { name = "", look = "" } = {}) {
  // Browsers allow the clipboard only on https and on localhost.
  if (!navigator.clipboard) return null;
  return element(
    "button",
    {
      type: "button",
      class: `button ${look}`,
      "aria-label": name ? `${label} of ${name}` : null,
      "data-label": label,
      onclick: (event) => copy(text, event.currentTarget),
    },
    label,
  );
}

/** Reads the configuration and fills the footer. */
export async function configure() {
  const answer = await fetch("demo/config.json", { cache: "no-store" });
  const config = await answer.json();
  config.endpoint = new URL(config.endpoint, location.href).href;
  byId("endpoint").textContent = config.endpoint;
  byId("version").textContent = config.version;
  const button = byId("copy-endpoint");
  const replacement = copyButton("Copy", config.endpoint, { look: "quiet small" });
  if (replacement) button.replaceWith(replacement);
  else button.remove();
  return config;
}
