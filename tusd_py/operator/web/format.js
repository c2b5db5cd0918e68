// Numbers and times as people read them. Pure.

const UNITS = ["KB", "MB", "GB", "TB", "PB"];

export function size(bytes) {
  if (bytes === null || bytes === undefined) return "–";
  if (bytes < 1000) return `${bytes} B`;
  let value = bytes;
  let unit = -1;
  do {
    value /= 1000;
    unit += 1;
  } while (value >= 999.5 && unit < UNITS.length - 1);
  const digits = value < 10 ? 1 : 0;
  return `${value.toLocaleString("en", { maximumFractionDigits: digits })} ${UNITS[unit]}`;
}

export function speed(perSecond) {
  return perSecond === null ? "measuring" : `${size(Math.round(perSecond))}/s`;
}

export function count(number, cap = Infinity) {
  return number.toLocaleString("en") + (number >= cap ? "+" : "");
}

export function plural(number, one, many = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : many}`;
}

export function percent(part, total) {
  if (total === null) return null;
  if (total === 0) return 100;
  return Math.min(100, Math.floor((part / total) * 100));
}

export function duration(seconds) {
  if (seconds < 1) return "under 1 s";
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min`;
  const hours = whole / 3600;
  if (hours < 48) return `${hours.toLocaleString("en", { maximumFractionDigits: 1 })} h`;
  return `${Math.round(hours / 24)} days`;
}

export function timeLeft(seconds) {
  if (seconds === null) return "";
  if (seconds < 5) return "a few seconds left";
  return `${duration(seconds)} left`;
}

// Seconds from a time to the picture's time, both told by the server.
export function since(time, at) {
  return time === null ? 0 : (new Date(at) - new Date(time)) / 1000;
}

export function ago(time, at) {
  if (time === null) return "never";
  const seconds = since(time, at);
  return seconds < 5 ? "just now" : `${duration(seconds)} ago`;
}

export function when(time) {
  return time === null ? "–" : new Date(time).toLocaleString();
}
