// How seats are painted: small ones as squares, one fill for all of a colour; larger ones from stamps that are drawn once
// per size. Both keep a frame of ten thousand seats within a few milliseconds.

import { BOOKED, FREE, HELD } from './seats.js';

/** Below this distance between seats, in pixels, shapes could not be told apart anyway. */
const STAMPS_FROM_PX = 7.5;
const DIM = 0.16;

/** The page's colours as the canvas needs them. */
export function readInks(element, levels) {
  const style = getComputedStyle(element);
  const named = (name) => style.getPropertyValue(name).trim();
  return {
    ink: named('--ink'), muted: named('--muted'), line: named('--line-strong'), surface: named('--surface'), sunken: named('--sunken'),
    accent: named('--accent'), accentInk: named('--accent-ink'), font: named('--sans'),
    levels: levels.map(({ color }) => color),
    onLevels: levels.map(({ color }) => inkOn(color)),
    stamps: new Map(),
  };
}

/** Black or white, whichever can be read on a colour (relative luminance as in WCAG 2). */
function inkOn(color) {
  const [red, green, blue] = [1, 3, 5].map((at) => (parseInt(color.slice(at, at + 2), 16) / 255) ** 2.2);
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.3 ? '#15181b' : '#ffffff';
}

/** Paints the seats on screen of a `SeatMap`, whose pen is in plan units. */
export function paintSeats(map) {
  const buckets = sort(map);
  const { pen, ratio, camera } = map;
  const pitch = map.plan.spacing * camera.scale;
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  const paint = pitch < STAMPS_FROM_PX ? paintSquares : paintStamps;
  for (const [key, seats] of buckets) paint(map, key, seats, pitch);
}

/** The seats that are ours, at any distance. */
export function paintOwn(map) {
  const { pen, ratio, camera, plan, options } = map;
  const pitch = plan.spacing * camera.scale;
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  for (const [numbers, kind] of [[options.mine(), 'mine'], [options.picked(), 'picked']]) {
    for (const seat of numbers) if (seat < plan.seated) paintOne(map, seat, kind, pitch);
  }
}

/** The seats on screen by what they look like: level × 4 + state. */
function sort({ plan, camera, options }) {
  const margin = plan.spacing;
  const [left, top] = camera.toPlan(0, 0);
  const [right, bottom] = camera.toPlan(camera.width, camera.height);
  const buckets = new Map();
  const states = options.states?.state;
  plan.within(left - margin, top - margin, right + margin, bottom + margin, (seats, from, to) => {
    for (let at = from; at < to; at += 1) {
      const seat = seats[at];
      const key = plan.level[seat] * 4 + (states ? states[seat] : FREE);
      const bucket = buckets.get(key);
      if (bucket) bucket.push(seat);
      else buckets.set(key, [seat]);
    }
  });
  return buckets;
}

const levelOf = (key) => Math.floor(key / 4);
const stateOf = (key) => key & 3;

function dimmed({ options }, key) {
  const only = options.only();
  return only !== null && levelOf(key) !== only;
}

function paintSquares(map, key, seats, pitch) {
  const { pen, camera, plan, inks } = map;
  const state = stateOf(key);
  const size = pitch * (state === FREE ? 0.78 : state === HELD ? 0.5 : 0.28);
  pen.fillStyle = state === FREE || state === HELD ? inks.levels[levelOf(key)] ?? inks.muted : inks.line;
  pen.globalAlpha = dimmed(map, key) ? DIM : state === HELD ? 0.55 : 1;
  pen.beginPath();
  for (const seat of seats) pen.rect(plan.x[seat] * camera.scale + camera.left - size / 2, plan.y[seat] * camera.scale + camera.top - size / 2, size, size);
  pen.fill();
  pen.globalAlpha = 1;
}

function paintStamps(map, key, seats, pitch) {
  const { pen, camera, plan, ratio } = map;
  const picture = stamp(map, key, pitch);
  const side = picture.width / ratio;
  pen.globalAlpha = dimmed(map, key) ? DIM : 1;
  for (const seat of seats) {
    pen.drawImage(picture, plan.x[seat] * camera.scale + camera.left - side / 2, plan.y[seat] * camera.scale + camera.top - side / 2, side, side);
  }
  pen.globalAlpha = 1;
  if (pitch >= 22 && stateOf(key) === FREE) paintLabels(map, key, seats, pitch);
}

function paintLabels(map, key, seats, pitch) {
  const { pen, camera, plan, inks } = map;
  pen.font = `600 ${Math.min(13, pitch * 0.36)}px ${inks.font}`;
  pen.textAlign = 'center';
  pen.textBaseline = 'middle';
  pen.fillStyle = inks.onLevels[levelOf(key)] ?? inks.surface;
  for (const seat of seats) {
    pen.fillText(plan.placeOf(seat).seat, plan.x[seat] * camera.scale + camera.left, plan.y[seat] * camera.scale + camera.top + 0.5);
  }
}

/** The picture of one sort of seat at this size; sizes in steps, so that zooming does not make hundreds. */
function stamp({ inks, ratio }, key, pitch) {
  const size = Math.max(4, Math.round(pitch * 0.82 * ratio));
  const name = `${key} ${size}`;
  let picture = inks.stamps.get(name);
  if (!picture) {
    if (inks.stamps.size > 600) inks.stamps.clear();
    picture = document.createElement('canvas');
    picture.width = size + 2;
    picture.height = size + 2;
    drawStamp(picture.getContext('2d'), size, stateOf(key), inks.levels[levelOf(key)] ?? inks.muted, inks);
    inks.stamps.set(name, picture);
  }
  return picture;
}

function drawStamp(pen, size, state, color, inks) {
  const middle = size / 2 + 1;
  pen.lineCap = 'round';
  pen.beginPath();
  if (state === FREE) {
    pen.arc(middle, middle, size / 2, 0, Math.PI * 2);
    pen.fillStyle = color;
    pen.fill();
  } else if (state === HELD) {
    const width = Math.max(1, size * 0.13);
    pen.arc(middle, middle, size * 0.4 - width / 2, 0, Math.PI * 2);
    pen.lineWidth = width;
    pen.strokeStyle = color;
    pen.stroke();
  } else if (state === BOOKED) {
    const reach = size * 0.2;
    pen.moveTo(middle - reach, middle - reach);
    pen.lineTo(middle + reach, middle + reach);
    pen.moveTo(middle + reach, middle - reach);
    pen.lineTo(middle - reach, middle + reach);
    pen.lineWidth = Math.max(1, size * 0.1);
    pen.strokeStyle = inks.muted;
    pen.stroke();
  } else {
    pen.rect(middle - size * 0.15, middle - 0.5, size * 0.3, Math.max(1, size * 0.08));
    pen.fillStyle = inks.line;
    pen.fill();
  }
}

/** Ours stand out at any size: a dark square with a tick, and a ring around it once they are held. */
function paintOne({ pen, camera, plan, inks }, seat, kind, pitch) {
  const x = plan.x[seat] * camera.scale + camera.left;
  const y = plan.y[seat] * camera.scale + camera.top;
  const side = Math.max(7, pitch * 0.86);
  pen.fillStyle = inks.ink;
  pen.beginPath();
  pen.roundRect(x - side / 2, y - side / 2, side, side, side * 0.18);
  pen.fill();
  pen.beginPath();
  pen.moveTo(x - side * 0.24, y + side * 0.02);
  pen.lineTo(x - side * 0.06, y + side * 0.2);
  pen.lineTo(x + side * 0.26, y - side * 0.18);
  pen.strokeStyle = inks.surface;
  pen.lineWidth = Math.max(1.4, side * 0.13);
  pen.lineCap = 'round';
  pen.lineJoin = 'round';
  pen.stroke();
  if (kind === 'mine') {
    pen.beginPath();
    pen.roundRect(x - side / 2 - 3, y - side / 2 - 3, side + 6, side + 6, side * 0.25);
    pen.strokeStyle = inks.accent;
    pen.lineWidth = 2;
    pen.stroke();
  }
}
