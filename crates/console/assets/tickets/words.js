// Money, moments and seats in the words of the field. Times are the venue's own: that is when the doors open.

import { NONE } from '../format.js';

const formats = new Map();

function moneyFormat(currency) {
  if (!formats.has(currency)) {
    let format;
    try {
      format = new Intl.NumberFormat('en', { style: 'currency', currency, currencyDisplay: 'narrowSymbol' });
    } catch {
      format = { format: (value) => `${currency} ${value.toFixed(2)}`, resolvedOptions: () => ({ maximumFractionDigits: 2 }) };
    }
    formats.set(currency, { format, unit: 10 ** format.resolvedOptions().maximumFractionDigits });
  }
  return formats.get(currency);
}

/** `{amount, currency}`, in minor units, for people; whole amounts without their zeros. */
export function money(value) {
  if (!value?.currency) return NONE;
  const { format, unit } = moneyFormat(value.currency);
  const text = format.format(value.amount / unit);
  return value.amount % unit === 0 ? text.replace(/[.,]0+$/, '') : text;
}

/** Minor units from what a person typed: "45" or "45.50"; null where it is no amount. */
export function minorUnits(text, currency) {
  if (!/^\d{1,9}([.,]\d{1,3})?$/.test(text.trim())) return null;
  const amount = Number(text.trim().replace(',', '.')) * moneyFormat(currency).unit;
  return Number.isInteger(Math.round(amount * 1000) / 1000) ? Math.round(amount) : null;
}

/** The reverse of `minorUnits`, for a form. */
export function majorUnits(amount, currency) {
  const { unit } = moneyFormat(currency);
  return (amount / unit).toFixed(amount % unit === 0 ? 0 : Math.round(Math.log10(unit)));
}

const clocks = new Map();

function clock(timezone, options) {
  const name = `${timezone} ${JSON.stringify(options)}`;
  if (!clocks.has(name)) {
    try {
      clocks.set(name, new Intl.DateTimeFormat('en-GB', { ...options, timeZone: timezone || 'UTC' }));
    } catch {
      clocks.set(name, new Intl.DateTimeFormat('en-GB', { ...options, timeZone: 'UTC' }));
    }
  }
  return clocks.get(name);
}

const FULL = { weekday: 'short', day: 'numeric', month: 'short', year: 'numeric', hour: '2-digit', minute: '2-digit', hourCycle: 'h23' };
const CLOCK = { hour: '2-digit', minute: '2-digit', hourCycle: 'h23', timeZoneName: 'short' };

const readable = (iso) => iso && !Number.isNaN(Date.parse(iso));

/** "Sat, 21 Nov 2026, 19:30", on the venue's clock. */
export function when(iso, timezone) {
  return readable(iso) ? clock(timezone, FULL).format(new Date(iso)) : NONE;
}

/** "19:30 GMT". */
export function clockTime(iso, timezone) {
  return readable(iso) ? clock(timezone, CLOCK).format(new Date(iso)) : NONE;
}

/** The parts of a calendar leaf: `{weekday, day, month, year}`. */
export function leaf(iso, timezone) {
  if (!readable(iso)) return { weekday: '', day: NONE, month: '', year: '' };
  const parts = clock(timezone, { weekday: 'short', day: 'numeric', month: 'short', year: 'numeric' }).formatToParts(new Date(iso));
  return Object.fromEntries(parts.map(({ type, value }) => [type, value]));
}

/** What a `datetime-local` field holds for a moment on the venue's clock. */
export function toField(iso, timezone) {
  if (!readable(iso)) return '';
  const parts = clock(timezone, { year: 'numeric', month: '2-digit', day: '2-digit', hour: '2-digit', minute: '2-digit', hourCycle: 'h23' }).formatToParts(new Date(iso));
  const { year, month, day, hour, minute } = Object.fromEntries(parts.map(({ type, value }) => [type, value]));
  return `${year}-${month}-${day}T${hour}:${minute}`;
}

/** The moment that a `datetime-local` field on the venue's clock means. Asked twice, since the first guess may lie on the
 * other side of a change of summer time. */
export function fromField(local, timezone) {
  if (!local) return null;
  const wanted = Date.parse(`${local}Z`);
  if (Number.isNaN(wanted)) return null;
  let guess = wanted;
  for (let turn = 0; turn < 2; turn += 1) {
    guess += wanted - Date.parse(`${toField(new Date(guess).toISOString(), timezone)}Z`);
  }
  return new Date(guess).toISOString().replace('.000Z', 'Z');
}

/** A message of the API with its moments on the venue's clock: "kept until 19:04 WET". */
export function onClock(text, timezone) {
  return String(text).replaceAll(/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z/g, (iso) => clockTime(iso, timezone));
}

/** "Block 112 · Row 5 · Seat 9", or the area's name. */
export function place({ section, row, seat, area }) {
  return area ?? [section, row && `Row ${row}`, seat && `Seat ${seat}`].filter(Boolean).join(' · ');
}

/** "12:05" until a moment, given what is left of it in milliseconds. */
export function countdown(leftMs) {
  const seconds = Math.max(0, Math.ceil(leftMs / 1000));
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`;
}

/** "sport" → "Sport". */
export function kindName(kind) {
  return kind ? kind[0].toUpperCase() + kind.slice(1).replaceAll('_', ' ') : '';
}
