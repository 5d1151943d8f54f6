// Numbers, spans of time and instants as people read them.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const tenth = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });

/** Return a count; a dash for what isn't known. */
export function count(value) {
  return value === null || value === undefined ? "–" : whole.format(value);
}

/** Return the sum of *values*; null if one of them isn't known. */
export function sumOf(values) {
  return values.includes(null) ? null : values.reduce((sum, value) => sum + value, 0);
}

/** Return a rate by the second. */
export function rate(value) {
  if (value === null || value === undefined) return "–/s";
  return `${value !== 0 && Math.abs(value) < 10 ? tenth.format(value) : whole.format(value)}/s`;
}

/** Return a span of seconds in its two largest units. */
export function span(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const s = Math.max(0, seconds);
  if (s < 10) return `${tenth.format(s)} s`;
  if (s < 60) return `${Math.floor(s)} s`;
  const [large, small, names] =
    s < 3600 ? [60, 1, "m s"] : s < 86400 ? [3600, 60, "h min"] : [86400, 3600, "d h"];
  const [one, two] = names.split(" ");
  const rest = Math.floor((s % large) / small);
  return `${Math.floor(s / large)} ${one === "m" ? "min" : one}${rest ? ` ${rest} ${two}` : ""}`;
}

/** Return the time of day of an ISO 8601 instant, or of Unix milliseconds, in UTC. */
export function time(at, digits = 0) {
  const instant = new Date(at);
  if (Number.isNaN(instant.getTime())) return String(at);
  return instant.toISOString().slice(11, 19 + (digits ? digits + 1 : 0));
}

/** Return date and time in UTC; only the time if it is today's. */
export function when(at, digits = 0) {
  const instant = new Date(at);
  if (Number.isNaN(instant.getTime())) return String(at);
  const day = instant.toISOString().slice(0, 10);
  return day === new Date().toISOString().slice(0, 10) ? time(at, digits) : `${day} ${time(at, digits)}`;
}

/** Return *many* with its noun. */
export function counted(many, one, more = `${one}s`) {
  return `${count(many)} ${many === 1 ? one : more}`;
}
