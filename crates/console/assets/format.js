// Numbers, sizes, durations and times as text. Times are UTC everywhere, as in the API, the logs and the file layout.

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const short = [0, 1, 2, 3, 4].map((digits) => new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: digits }));
const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];

export const NONE = '–';

const missing = (value) => value === null || value === undefined || Number.isNaN(value);

export function count(value) {
  return missing(value) ? NONE : whole.format(value);
}

/** "1 row", "2 rows". */
export function counted(value, noun) {
  return `${count(value)} ${noun}${value === 1 ? '' : 's'}`;
}

/** "1.2M": `digits` (0 to 4) after the point at most. */
export function compact(value, digits = 1) {
  return missing(value) ? NONE : short[digits].format(value);
}

export function percent(share) {
  if (missing(share)) return NONE;
  if (share > 0 && share < 0.001) return '< 0.1 %';
  if (share > 0.999 && share < 1) return '> 99.9 %';
  return `${(share * 100).toFixed(share === 0 || share >= 0.1 ? 0 : 1)} %`;
}

export function bytes(value) {
  if (missing(value)) return NONE;
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  let unit = 0;
  let size = value;
  while (size >= 1024 && unit < units.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return `${unit === 0 || size >= 100 ? Math.round(size) : size.toFixed(1)} ${units[unit]}`;
}

/** Two units at most: "48 s", "3 min 5 s", "2 h 10 min", "4 d 3 h". */
export function duration(seconds) {
  if (missing(seconds)) return NONE;
  const total = Math.max(0, seconds);
  if (total < 1) return total === 0 ? '0 s' : '< 1 s';
  const rounded = Math.round(total);
  const steps = [[86400, 'd', 3600, 'h'], [3600, 'h', 60, 'min'], [60, 'min', 1, 's']];
  for (const [big, bigName, small, smallName] of steps) {
    if (rounded >= big) {
      const rest = Math.floor((rounded % big) / small);
      return `${Math.floor(rounded / big)} ${bigName}${rest ? ` ${rest} ${smallName}` : ''}`;
    }
  }
  return `${rounded} s`;
}

/** One unit, for axes. */
export function shortDuration(seconds) {
  if (missing(seconds)) return NONE;
  for (const [size, name] of [[86400, 'd'], [3600, 'h'], [60, 'min']]) {
    if (Math.abs(seconds) >= size) return `${Number((seconds / size).toFixed(1))} ${name}`;
  }
  return `${Number(seconds.toFixed(1))} s`;
}

export function secondsBetween(from, to) {
  return (Date.parse(to) - Date.parse(from)) / 1000;
}

/** "in 4 min", "12 s ago"; coarse on purpose. */
export function relative(iso, nowMs) {
  const seconds = (Date.parse(iso) - nowMs) / 1000;
  if (Number.isNaN(seconds)) return NONE;
  const size = Math.abs(seconds);
  if (size < 2) return 'now';
  const words = size < 59.5 ? `${Math.round(size)} s`
    : size < 3570 ? `${Math.round(size / 60)} min`
      : size < 170000 ? `${Math.round(size / 3600)} h`
        : `${Math.round(size / 86400)} d`;
  return seconds > 0 ? `in ${words}` : `${words} ago`;
}

/** "21 Nov 14:03:22", with the year when it is not this one. */
export function stamp(iso, nowMs, { seconds = true } = {}) {
  const time = new Date(iso);
  if (Number.isNaN(time.getTime())) return NONE;
  const pad = (value) => String(value).padStart(2, '0');
  const year = time.getUTCFullYear() === new Date(nowMs).getUTCFullYear() ? '' : ` ${time.getUTCFullYear()}`;
  const clock = `${pad(time.getUTCHours())}:${pad(time.getUTCMinutes())}${seconds ? `:${pad(time.getUTCSeconds())}` : ''}`;
  return `${time.getUTCDate()} ${MONTHS[time.getUTCMonth()]}${year} ${clock}`;
}
