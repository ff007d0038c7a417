// The roads of the city, fetched once and cut into squares, so that only what is on the screen is drawn.

import { getCached } from '../api.js';
import { Plane, decodeLine } from './geo.js';

/** Side of a square, metres. */
const SQUARE_M = 1200;
/** From the smallest to the largest, which is drawn on top: [class, metres wide, least pixels, from this scale on]. */
export const CLASSES = [
  ['service', 4, 0.7, 0.3],
  ['living_street', 5, 0.9, 0.14],
  ['residential', 6, 1.1, 0.05],
  ['unclassified', 6, 1.1, 0.05],
  ['tertiary', 8, 1.6, 0.02],
  ['secondary', 10, 2.2, 0],
  ['primary', 12, 2.6, 0],
  ['trunk', 14, 3, 0],
  ['motorway', 16, 3.2, 0],
];

let loading = null;

/** The roads; the same for all pages. A refusal is asked for again the next time. */
export function loadRoads() {
  loading ??= getCached('/map').then((answer) => new Roads(answer)).catch((problem) => {
    loading = null;
    throw problem;
  });
  return loading;
}

export class Roads {
  constructor({ bounds, attribution, roads }) {
    const box = bounds ?? { south: -1, west: -1, north: 1, east: 1 };
    this.attribution = attribution;
    this.plane = new Plane({ lat: (box.south + box.north) / 2, lng: (box.west + box.east) / 2 });
    const [left, bottom] = this.plane.flat({ lat: box.south, lng: box.west });
    const [right, top] = this.plane.flat({ lat: box.north, lng: box.east });
    this.box = { left, top, right, bottom };
    this.squares = new Map();
    for (const road of roads) this.add(road);
  }

  add({ class: name, line }) {
    const points = decodeLine(line).map((place) => this.plane.flat(place));
    if (points.length < 2) return;
    const [column, row] = points[0].map((metres) => Math.floor(metres / SQUARE_M));
    const key = `${column} ${row}`;
    if (!this.squares.has(key)) this.squares.set(key, { box: { left: Infinity, top: Infinity, right: -Infinity, bottom: -Infinity }, paths: new Map() });
    const square = this.squares.get(key);
    if (!square.paths.has(name)) square.paths.set(name, new Path2D());
    const path = square.paths.get(name);
    const { box } = square;
    points.forEach(([x, y], index) => {
      if (index === 0) path.moveTo(x, y);
      else path.lineTo(x, y);
      box.left = Math.min(box.left, x);
      box.right = Math.max(box.right, x);
      box.top = Math.min(box.top, y);
      box.bottom = Math.max(box.bottom, y);
    });
  }

  /** Draws the roads of a box (metres) with a pen that is in metres; `scale` is pixels in a metre. */
  paint(pen, box, scale, inks) {
    const seen = [...this.squares.values()].filter((square) =>
      square.box.right >= box.left && square.box.left <= box.right && square.box.bottom >= box.top && square.box.top <= box.bottom);
    pen.lineJoin = 'round';
    pen.lineCap = 'round';
    const shown = CLASSES.filter(([, , , from]) => scale >= from);
    const width = ([, wide, least]) => Math.max(least, Math.min(22, wide * scale)) / scale;
    const draw = (one, ink, more) => {
      pen.strokeStyle = ink;
      pen.lineWidth = width(one) + more / scale;
      for (const { paths } of seen) {
        const path = paths.get(one[0]);
        if (path) pen.stroke(path);
      }
    };
    // Edges first, all of them, so that crossings are open.
    for (const one of shown) if (one[1] * scale > 2.4) draw(one, inks.edge, 1.6);
    for (const one of shown) draw(one, inkOf(one[0], inks), 0);
  }
}

function inkOf(name, inks) {
  if (name === 'motorway' || name === 'trunk') return inks.major;
  if (name === 'primary' || name === 'secondary') return inks.main;
  return inks.minor;
}
