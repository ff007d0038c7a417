// Plots as inline SVG, drawn at the width they have on screen. Series differ by shape and dash as well as by colour; the
// numbers are always in a table beside the plot as well.

import { h } from './dom.js';

const AXIS_BELOW = 20;
const ABOVE = 14;
const RIGHT = 10;
const LETTER = 6.4;
const TIME_STEPS_S = [1, 5, 15, 30, 60, 300, 900, 1800, 3600, 10800, 21600, 43200, 86400, 259200, 604800, 2592000, 31536000];

/**
 * Values of runs, in order. `series`: [{name, kind: 'bar' | 'line', values, style: 1…5, shape}], a null value is a gap.
 * `marks`: [{index, text}] events; `limit`: {value, name} a horizontal line; `zero`: the axis starts at 0.
 * `cursor`: {selected: index | null, select(index | null)}, moved by the pointer and the arrow keys; plots may share one.
 */
export function plot({ label, width, height = 148, times, series, marks = [], limit = null, format, zero = true, whole = false, seconds = false, cursor }) {
  const n = times.length;
  const { selected } = cursor;
  const values = series.flatMap((one) => one.values).concat(limit ? [limit.value] : []).filter((value) => value !== null);
  const ticks = axis(values, { zero, whole, seconds });
  const [low, high] = [ticks[0], ticks[ticks.length - 1]];
  const names = tickNames(ticks, format);
  const left = Math.ceil(Math.max(...names.map((name) => name.length)) * LETTER) + 8;
  const step = Math.max(1, width - left - RIGHT) / Math.max(1, n);
  const x = (index) => round(left + (index + 0.5) * step);
  const y = (value) => round(ABOVE + (height - ABOVE - AXIS_BELOW) * (1 - (value - low) / (high - low)));
  const move = (event) => {
    const box = event.currentTarget.getBoundingClientRect();
    const at = ((event.clientX - box.left) / box.width) * width;
    cursor.select(Math.min(n - 1, Math.max(0, Math.floor((at - left) / step))));
  };
  const keys = (event) => {
    const from = cursor.selected ?? n - 1;
    const next = { ArrowLeft: from - 1, ArrowRight: from + 1, Home: 0, End: n - 1 }[event.key];
    if (event.key === 'Escape') cursor.select(null);
    else if (next === undefined) return;
    else cursor.select(Math.min(n - 1, Math.max(0, next)));
    event.preventDefault();
  };
  return h('svg', {
    class: 'plot', viewBox: `0 0 ${width} ${height}`, width, height, role: 'img', tabindex: '0', 'aria-label': label,
    onpointermove: move, onpointerdown: move, onpointerleave: () => cursor.select(null), onkeydown: keys,
  },
  ticks.map((tick, index) => h('g', { key: `tick ${tick}` },
    h('line', { class: 'grid', x1: left, x2: width - RIGHT, y1: y(tick), y2: y(tick) }),
    h('text', { class: 'tick', x: left - 6, y: y(tick) + 3.5, 'text-anchor': 'end' }, names[index]))),
  timeLabels(times, x, left, width, height),
  selected !== null && selected < n && h('line', { key: 'cross', class: 'cross', x1: x(selected), x2: x(selected), y1: ABOVE - 6, y2: height - AXIS_BELOW }),
  limit && h('g', { key: 'limit' },
    h('line', { class: 'limit', x1: left, x2: width - RIGHT, y1: y(limit.value), y2: y(limit.value) }),
    h('text', { class: 'tick limit-name', x: width - RIGHT, y: y(limit.value) - 4, 'text-anchor': 'end' }, limit.name)),
  marks.map(({ index, text }) => h('g', { key: `mark ${index}`, class: 'event' },
    h('line', { x1: x(index), x2: x(index), y1: ABOVE - 4, y2: height - AXIS_BELOW }),
    h('path', { d: shapePath('diamond', x(index), ABOVE - 6, 4.5) }, h('title', null, text)))),
  series.map((one) => h('g', { key: one.name, class: `series-${one.style ?? 1}` },
    one.kind === 'bar' ? bars(one, { x, y, step, low, selected }) : line(one, { x, y, step, selected }))));
}

function bars({ values }, { x, y, step, low, selected }) {
  const thick = Math.max(1.5, Math.min(22, step * 0.7));
  return values.map((value, index) => {
    if (value === null) return null;
    const top = y(value);
    const bottom = y(Math.max(0, low));
    return h('rect', {
      key: index, class: index === selected ? 'bar-fill selected' : 'bar-fill', rx: Math.min(2, thick / 3),
      x: round(x(index) - thick / 2), width: round(thick), y: value > 0 ? Math.min(top, bottom - 1) : bottom, height: value > 0 ? Math.max(1, round(bottom - top)) : 0,
    });
  });
}

function line({ values, shape = 'circle', style = 1 }, { x, y, step, selected }) {
  const pieces = [];
  let pen = 'M';
  values.forEach((value, index) => {
    if (value === null) {
      pen = 'M';
      return;
    }
    pieces.push(`${pen}${x(index)} ${y(value)}`);
    pen = 'L';
  });
  const alone = (index) => (values[index - 1] ?? null) === null && (values[index + 1] ?? null) === null;
  // Shapes are thinned out where they would touch, and shifted per series so that they do not cover each other.
  const stride = Math.max(1, Math.ceil(16 / step));
  return [
    h('path', { key: 'line', class: 'stroke', d: pieces.join('') || 'M0 0' }),
    values.map((value, index) => value !== null && (index === selected || alone(index) || (index + style) % stride === 0) &&
      h('path', { key: index, class: index === selected ? 'point selected' : 'point', d: shapePath(shape, x(index), y(value), index === selected ? 4.5 : 3) })),
  ];
}

/** A shape of about the same weight for every name, as a path. */
export function shapePath(shape, cx, cy, r) {
  const [a, b] = [round(cx), round(cy)];
  const polygon = (points) => `M${points.map(([dx, dy]) => `${round(a + dx * r)} ${round(b + dy * r)}`).join('L')}Z`;
  switch (shape) {
    case 'square': return polygon([[-0.9, -0.9], [0.9, -0.9], [0.9, 0.9], [-0.9, 0.9]]);
    case 'triangle': return polygon([[0, -1.15], [1.1, 0.85], [-1.1, 0.85]]);
    case 'diamond': return polygon([[0, -1.25], [1.25, 0], [0, 1.25], [-1.25, 0]]);
    case 'down': return polygon([[0, 1.15], [1.1, -0.85], [-1.1, -0.85]]);
    default: return `M${round(a - r)} ${b}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0Z`;
  }
}

/** Names of series with the shape and dash they are drawn with. */
export function legend(series) {
  return h('ul', { class: 'legend' }, series.map(({ name, kind, style = 1, shape = 'circle' }) =>
    h('li', { key: name, class: `series-${style}` },
      h('svg', { width: 24, height: 10, viewBox: '0 0 24 10', 'aria-hidden': 'true' },
        kind === 'bar' ? h('rect', { class: 'bar-fill', x: 7, y: 0, width: 10, height: 10, rx: 2 })
          : [h('path', { class: 'stroke', d: 'M0 5L24 5' }), h('path', { class: 'point', d: shapePath(shape, 12, 5, 3.4) })]),
      h('span', null, name))));
}

/** A line without axes for a stat tile. */
export function spark(values, { label, width = 140, height = 34 }) {
  const top = Math.max(1, ...values);
  const step = width / Math.max(1, values.length - 1);
  const points = values.map((value, index) => `${round(index * step)} ${round(height - 2 - (height - 5) * (value / top))}`);
  return h('svg', { class: 'spark series-1', viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: 'none', role: 'img', 'aria-label': label },
    points.length > 1 && [
      h('path', { key: 'area', class: 'area', d: `M0 ${height}L${points.join('L')}L${width} ${height}Z` }),
      h('path', { key: 'line', class: 'stroke', d: `M${points.join('L')}` }),
    ]);
}

/** Shares between 0 and 1 as small columns: how much of a column is null, run by run. */
export function shareStrip(shares, { label, selected, width = 160, height = 22 }) {
  const step = width / Math.max(1, shares.length);
  return h('svg', { class: 'strip series-2', viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: 'none', role: 'img', 'aria-label': label },
    h('line', { class: 'grid', x1: 0, x2: width, y1: height - 0.5, y2: height - 0.5 }),
    shares.map((share, index) => share !== null && h('rect', {
      key: index, class: index === selected ? 'bar-fill selected' : 'bar-fill',
      x: round(index * step + step * 0.12), width: round(step * 0.76),
      y: round(height - Math.max(share > 0 ? 1.5 : 0, share * height)), height: round(Math.max(share > 0 ? 1.5 : 0, share * height)),
    })));
}

/** Round numbers that cover the values, three or four steps. */
function axis(values, { zero, whole, seconds }) {
  let low = values.length ? Math.min(...values) : 0;
  let high = values.length ? Math.max(...values) : 1;
  if (zero) low = Math.min(0, low);
  if (high === low) {
    high += zero || high === 0 ? (high === 0 ? 1 : 0) : Math.abs(high) * 0.01;
    if (!zero) low -= Math.abs(low) * 0.01;
    if (high === low) low = 0;
  }
  const step = stepFor((high - low) / 3, { whole, seconds });
  const first = Math.floor(low / step + 1e-9);
  const last = Math.max(first + 1, Math.ceil(high / step - 1e-9));
  return Array.from({ length: last - first + 1 }, (_, index) => Number(((first + index) * step).toPrecision(12)));
}

function stepFor(rough, { whole, seconds }) {
  if (seconds && rough > 0.5) {
    const found = TIME_STEPS_S.find((step) => step >= rough);
    if (found) return found;
  }
  const power = 10 ** Math.floor(Math.log10(rough));
  const nice = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((step) => step >= rough * 0.999) ?? 10 * power;
  return whole ? Math.max(1, Math.ceil(nice)) : nice;
}

/** As short as they can be while each differs from the next. */
function tickNames(ticks, format) {
  for (let digits = 1; ; digits += 1) {
    const names = ticks.map((tick) => format(tick, digits));
    if (digits === 4 || new Set(names).size === names.length) return names;
  }
}

function timeLabels(times, x, left, width, height) {
  const n = times.length;
  if (n === 0) return null;
  const wide = width - left > 300;
  const at = n === 1 ? [0] : wide && n > 2 ? [0, Math.floor((n - 1) / 2), n - 1] : [0, n - 1];
  return at.map((index) => {
    const anchor = n === 1 ? 'middle' : index === 0 ? 'start' : index === n - 1 ? 'end' : 'middle';
    const place = n === 1 ? x(0) : index === 0 ? left : index === n - 1 ? width - RIGHT : x(index);
    return h('text', { key: `time ${index}`, class: 'tick', x: place, y: height - 5, 'text-anchor': anchor }, times[index]);
  });
}

function round(value) {
  return Math.round(value * 10) / 10;
}
