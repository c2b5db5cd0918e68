// Files from a drop, a paste or a picker; folders are walked.

/** All files of a DataTransfer. Must be called in the event's own turn; the rest is awaited. */
export async function filesOf(transfer) {
  const entries = [];
  const plain = [];
  for (const item of transfer.items ?? []) {
    if (item.kind !== "file") continue;
    const entry = item.webkitGetAsEntry?.();
    if (entry) entries.push(entry);
    else if (item.getAsFile()) plain.push(item.getAsFile());
  }
  if (!entries.length && !plain.length) return [...(transfer.files ?? [])];
  const nested = await Promise.all(entries.map(walk));
  return [...plain, ...nested.flat()];
}

async function walk(entry) {
  if (entry.isFile) {
    try {
      return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
    } catch {
      return [];
    }
  }
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    // A reader hands out a hundred entries at a time, and an empty list at the end.
    const batch = await new Promise((resolve) => reader.readEntries(resolve, () => resolve([])));
    if (!batch.length) return found;
    for (const child of batch) found.push(...(await walk(child)));
  }
}

export function carriesFiles(transfer) {
  return [...(transfer?.types ?? [])].includes("Files");
}
