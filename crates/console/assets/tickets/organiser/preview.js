// A seat plan file as the map draws it, before anything is sold from it. The file is the public seating-plan JSON: zones,
// rows and seats whose positions add up. What is wrong with a file the server says; this only draws what it can.

import { h } from '../../dom.js';
import { counted } from '../../format.js';
import { Plan } from '../plan.js';
import { SeatMap } from '../seatmap.js';

const NOTHING = new Set();
const ORIGIN = { x: 0, y: 0 };

/** The geometry of a plan file; throws where it has no seats or is no plan at all. */
export function geometryOf(file) {
  const categories = (file.categories ?? []).map(({ name, color }) => ({ key: name, name, color, price: null }));
  const answer = { event: 'event_', seats: 0, price_levels: categories, sections: [], labels: [], x: [], y: [], level: [], areas: [], shapes: [] };
  for (const zone of file.zones ?? []) {
    const section = { name: String(zone.name ?? ''), rows: [] };
    const at = zone.position ?? ORIGIN;
    for (const row of zone.rows ?? []) {
      const first = answer.seats;
      const rowAt = row.position ?? ORIGIN;
      for (const seat of row.seats ?? []) {
        const seatAt = seat.position ?? ORIGIN;
        answer.x.push(Number(at.x) + Number(rowAt.x) + Number(seatAt.x));
        answer.y.push(Number(at.y) + Number(rowAt.y) + Number(seatAt.y));
        answer.labels.push(String(seat.seat_number ?? ''));
        answer.level.push(categories.findIndex(({ name }) => name === seat.category));
        answer.seats += 1;
      }
      section.rows.push({ label: String(row.row_number ?? ''), first, count: answer.seats - first });
    }
    answer.sections.push(section);
    for (const drawn of zone.areas ?? []) answer.shapes.push(shapeOf(drawn, at));
  }
  if (answer.seats === 0) throw new Error('There are no seats in it: a plan has `zones` with `rows` with `seats`.');
  return new Plan(answer);
}

function shapeOf({ shape, position = ORIGIN, rectangle, width, height, circle, ellipse, polygon, text }, at) {
  const x = Number(at.x) + Number(position.x);
  const y = Number(at.y) + Number(position.y);
  const words = (typeof text === 'string' ? text : text?.text) || undefined;
  if (shape === 'circle') return { shape: 'circle', x, y, radius: Number(circle?.radius ?? 0), text: words };
  if (shape === 'ellipse') {
    const [rx, ry] = [Number(ellipse?.radius?.x ?? 0), Number(ellipse?.radius?.y ?? 0)];
    return { shape: 'ellipse', x: x - rx, y: y - ry, width: rx * 2, height: ry * 2, text: words };
  }
  if (shape === 'polygon') return { shape: 'polygon', x, y, points: (polygon?.points ?? []).map((point) => [Number(point.x), Number(point.y)]), text: words };
  return { shape: 'rectangle', x, y, width: Number(rectangle?.width ?? width ?? 0), height: Number(rectangle?.height ?? height ?? 0), text: words };
}

/** A map of the plan and what is in it. */
export function preview(page, plan) {
  if (!plan.previewed) {
    const map = new SeatMap(plan, { states: null, picked: () => NOTHING, mine: () => NOTHING, only: () => null, choose: () => {} });
    page.closing(() => map.close());
    plan.previewed = map;
  }
  return h('div', { class: 'stack-small' },
    h('div', { key: `map ${identity(plan)}`, class: 'map seatmap seatmap-small', ref: (host) => plan.previewed.attach(host) }),
    h('p', { class: 'muted' }, `${counted(plan.seated, 'seat')} in ${counted(plan.sections.length, 'section')}`),
    h('ul', { class: 'price-levels', 'aria-label': 'Categories' }, plan.levels.map((level) => h('li', { key: level.key, class: 'price-level still' },
      h('span', { class: 'swatch', style: { background: level.color } }), h('span', { class: 'break' }, level.name)))));
}

let plans = 0;

function identity(plan) {
  plan.identity ??= (plans += 1);
  return plan.identity;
}
