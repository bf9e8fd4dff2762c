// Numbers and times as the page says them. No DOM, no state.

const THIN = "\u00a0";

/** Seconds as "6.2 s", "24 s", "2 min 10 s", "1 h 5 min". */
export function duration(seconds) {
  if (seconds < 9.95) return `${(Math.round(seconds * 10) / 10).toFixed(1)}${THIN}s`;
  return wholeTime(Math.round(seconds));
}

/** Whole seconds, rounded up: what is left of something. */
export function left(seconds) {
  return wholeTime(Math.ceil(seconds));
}

function wholeTime(seconds) {
  if (seconds < 100) return `${seconds}${THIN}s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return withRest(minutes, "min", seconds % 60, "s");
  return withRest(Math.floor(minutes / 60), "h", minutes % 60, "min");
}

function withRest(many, unit, rest, restUnit) {
  const main = `${many}${THIN}${unit}`;
  return rest ? `${main} ${rest}${THIN}${restUnit}` : main;
}

/** What is left, in words: "3 s left", "almost done". */
export function leftWords(seconds) {
  if (seconds === null || seconds === undefined) return "";
  return seconds <= 0.5 ? "almost done" : `${left(seconds)} left`;
}

const UNITS = ["bytes", "kB", "MB", "GB", "TB"];

function unitOf(count) {
  let unit = 0;
  for (let size = count; size >= 999.5 && unit < UNITS.length - 1; size /= 1000) unit += 1;
  return unit;
}

function inUnit(count, unit) {
  const size = count / 1000 ** unit;
  return unit >= 3 && size < 100 ? size.toFixed(1) : String(Math.round(size));
}

/** 1000-based bytes: "24 MB", "6.5 GB". */
export function bytes(count) {
  const unit = unitOf(count);
  return `${inUnit(count, unit)}${THIN}${UNITS[unit]}`;
}

/** "2.1 of 6.9 GB". */
export function bytesOf(count, total) {
  return `${inUnit(count, unitOf(total))} of ${bytes(total)}`;
}

/** "768 × 512" that never breaks. */
export function pixels(width, height) {
  return `${width}${THIN}×${THIN}${height}`;
}

/** Counts grouped by the browser's language: 1,284. */
export function grouped(count) {
  return count.toLocaleString();
}

/** 7, 7.5, 0.75: no trailing zeros. */
export function short(number) {
  return String(Math.round(number * 100) / 100);
}

/** "1 picture", "4 pictures". */
export function some(count, one, many = `${one}s`) {
  return `${grouped(count)} ${count === 1 ? one : many}`;
}

/** "1st", "2nd", "3rd", "11th". */
export function place(number) {
  const tail = number % 100 >= 11 && number % 100 <= 13 ? 0 : number % 10;
  return `${number}${["th", "st", "nd", "rd"][tail] ?? "th"}`;
}

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/** The heading of a day: "Today", "Yesterday", "19 Nov", "19 Nov 2025". */
export function day(epochSeconds, now = new Date()) {
  const date = new Date(epochSeconds * 1000);
  const midnight = (d) => new Date(d.getFullYear(), d.getMonth(), d.getDate()).getTime();
  const days = Math.round((midnight(now) - midnight(date)) / 86_400_000);
  if (days === 0) return "Today";
  if (days === 1) return "Yesterday";
  const text = `${date.getDate()} ${MONTHS[date.getMonth()]}`;
  return date.getFullYear() === now.getFullYear() ? text : `${text} ${date.getFullYear()}`;
}

/** "14:27". */
function clock(epochSeconds) {
  const date = new Date(epochSeconds * 1000);
  return `${String(date.getHours()).padStart(2, "0")}:${String(date.getMinutes()).padStart(2, "0")}`;
}

/** "Today, 14:27"; last year's without the time. */
export function moment(epochSeconds, now = new Date()) {
  const text = day(epochSeconds, now);
  return / \d{4}$/.test(text) ? text : `${text}, ${clock(epochSeconds)}`;
}

/** The first so many characters, with "…" where some were cut. */
export function cut(text, length) {
  return text.length > length ? `${text.slice(0, length - 1).trimEnd()}…` : text;
}
