// What states, reasons and results are called.

import { duration, since, size } from "./format.js";

export const STATUS = {
  receiving: "Receiving",
  stalled: "No bytes come",
  waiting: "Between requests",
  finishing: "Finishing",
};

export const REASON = {
  tail_missing: "Tail missing",
  unfinished: "Not finished",
  failed: "Failed",
  unclean: "Left over",
  idle: "Idle",
};

export function explain(upload, at) {
  switch (upload.reason) {
    case "tail_missing":
      return `Its last ${size(upload.tail_size)} are on ${upload.node}, which is gone.`;
    case "unfinished":
      return `All bytes are here since ${duration(since(upload.updated_at, at))}, the file is not.`;
    case "failed":
      return `Failed ${duration(since(upload.updated_at, at))} ago: ${upload.failure ?? "no reason"}.`;
    case "unclean":
      return `The store kept something: ${upload.cleanup_reason}`;
    default:
      return `No progress for ${duration(since(upload.updated_at, at))}.`;
  }
}

export const nameOf = (upload) => upload.filename ?? "Without a name";

export const shortRef = (ref) => ref.split(":")[0];

export function swept(run) {
  const sums = new Map();
  for (const { counters } of run.sweeps) {
    for (const [name, number] of Object.entries(counters)) {
      if (name !== "due") sums.set(name, (sums.get(name) ?? 0) + number);
    }
  }
  const words = [...sums].map(([name, number]) => `${number} ${name.replaceAll("_", " ")}`);
  return words.join(", ") || "nothing to do";
}
