// Uploads that an earlier visit left unfinished, as the browser's storage and the server know them.

import * as finished from "./finished.js";
import { store } from "./transfers.js";

/** Unfinished uploads with what the server has of each; those it no longer has are forgotten. */
export async function findEarlier() {
  const entries = await store.findAllUploads();
  const known = await Promise.all(entries.map(withOffset));
  return known
    .filter(Boolean)
    .sort((a, b) => new Date(b.creationTime) - new Date(a.creationTime));
}

async function withOffset(entry) {
  if (!entry.uploadUrl) return null;
  try {
    const answer = await fetch(entry.uploadUrl, {
      method: "HEAD",
      headers: { "Tus-Resumable": "1.0.0" },
      cache: "no-store",
    });
    if ([403, 404, 410].includes(answer.status)) return await forget(entry);
    const offset = Number(answer.headers.get("Upload-Offset") ?? NaN);
    if (offset === entry.size) {
      // The page went away before it heard of the end.
      const { uploadUrl: url, size } = entry;
      finished.keep({ url, name: nameOf(entry), size, at: new Date().toISOString() });
      return await forget(entry);
    }
    return { ...entry, offset };
  } catch {
    return { ...entry, offset: NaN };
  }
}

export async function forget(entry) {
  await store.removeUpload(entry.urlStorageKey);
  return null;
}

/** Deletes it here and on the server. Throws when the server cannot be reached. */
export async function remove(entry) {
  await terminate(entry.uploadUrl);
  await forget(entry);
}

/** Has the server delete an upload. Throws when it cannot be reached. */
export async function terminate(url) {
  const answer = await fetch(url, { method: "DELETE", headers: { "Tus-Resumable": "1.0.0" } });
  if (!answer.ok && ![403, 404, 410].includes(answer.status)) throw new Error(String(answer.status));
}

export function nameOf(entry) {
  return entry.metadata?.filename ?? "A file without a name";
}

/** Whether a chosen file can be the one of the entry. */
export function matches(entry, file) {
  return entry.size === file.size && entry.metadata?.filename === file.name;
}
