// Numbers as people read them. Pure.

const UNITS = ["KB", "MB", "GB", "TB"];

export function size(bytes) {
  if (bytes < 1000) return `${bytes} B`;
  let value = bytes;
  let unit = -1;
  do {
    value /= 1000;
    unit += 1;
  } while (value >= 999.5 && unit < UNITS.length - 1);
  return `${value.toLocaleString(undefined, { maximumFractionDigits: value < 10 ? 1 : 0 })} ${UNITS[unit]}`;
}

export function speed(bytesPerSecond) {
  return `${size(Math.round(bytesPerSecond))}/s`;
}

export function percent(part, total) {
  if (!total) return 100;
  return Math.min(100, Math.floor((part / total) * 100));
}

export function timeLeft(seconds) {
  if (!Number.isFinite(seconds)) return "";
  if (seconds < 5) return "a few seconds left";
  if (seconds < 90) return `${Math.round(seconds / 5) * 5} s left`;
  if (seconds < 90 * 60) return `${Math.round(seconds / 60)} min left`;
  const hours = seconds / 3600;
  return `${hours.toLocaleString(undefined, { maximumFractionDigits: hours < 10 ? 1 : 0 })} h left`;
}

export function ago(date, now = new Date()) {
  const minutes = Math.round((now - date) / 60_000);
  if (!Number.isFinite(minutes)) return "";
  if (minutes < 1) return "just now";
  if (minutes < 60) return `${minutes} min ago`;
  if (minutes < 48 * 60) return `${Math.round(minutes / 60)} h ago`;
  return `${Math.round(minutes / 1440)} days ago`;
}

export function kind(name) {
  const match = /\.([a-z0-9]{1,4})$/i.exec(name);
  return match ? match[1].toUpperCase() : "FILE";
}
