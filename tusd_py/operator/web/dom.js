// Elements. Text of strangers only ever becomes text: nothing here parses HTML.

export const at = (id) => document.getElementById(id);

export function make(tag, className = "", ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

export function button(text, className, action) {
  const element = make("button", `button ${className}`, text);
  element.type = "button";
  element.addEventListener("click", action);
  return element;
}

// Only what changed is written: selections, focus and screen readers are left in peace.
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function show(element, visible) {
  if (element.hidden === visible) element.hidden = !visible;
}

export function mark(element, name, value) {
  if (element.dataset[name] !== value) element.dataset[name] = value;
}

// Makes the list's rows those of the items, by key, in their order; a row that stays is updated.
export function list(parent, items, key, create, update) {
  const old = new Map([...parent.children].map((row) => [row.key, row]));
  let place = parent.firstElementChild;
  for (const item of items) {
    const name = key(item);
    let row = old.get(name);
    if (row) {
      old.delete(name);
    } else {
      row = create(item);
      row.key = name;
    }
    row.item = item;
    update(row, item);
    if (row === place) place = place.nextElementSibling;
    else parent.insertBefore(row, place);
  }
  for (const row of old.values()) row.remove();
}
