// The seat map: a canvas that shows sections from afar and seats from near. Only what is on screen is drawn, at most once a
// frame, however many changes came since the last one. A state is a shape as well as a colour: free seats are discs, held
// ones rings, sold ones small crosses, yours squares with a tick.

import { CanvasFrame } from '../canvasframe.js';
import { centroid, contains, shapeBox } from './plan.js';
import { paintOwn, paintSeats, readInks } from './seatpaint.js';
import { FREE, STATE_NAMES } from './seats.js';
import { money, place } from './words.js';

/** Neighbouring seats at least this many pixels apart are drawn one by one. */
const SEATS_FROM_PX = 4.2;
/** No closer than this: a seat is then larger than a finger. */
const CLOSEST_PX = 46;
const FINGER_PX = 18;
const LABEL_FONT = 12;
const EDGE_PX = 28;
const LABEL = 'Seat map. Arrow keys move it, plus and minus zoom. Choose seats without a pointer in the list view.';

/**
 * `options`: `states` (a `Seats`-like `{state, free}`, or null while it loads), `picked()` and `mine()` (sets of numbers),
 * `only()` (index of the one price level that is shown in full, or null), `choose(seat)`.
 */
export class SeatMap extends CanvasFrame {
  constructor(plan, options) {
    super({ role: 'img', label: LABEL, whole: 'Show the whole plan', sharpest: 3 });
    this.plan = plan;
    this.options = options;
    for (const block of [...plan.sections, ...plan.blocks]) block.path = pathOf(block.outline);
  }

  readInks() {
    return readInks(document.documentElement, this.plan.levels);
  }

  framed(width, height) {
    this.camera.frame(width, height, this.plan.box, CLOSEST_PX / this.plan.spacing);
  }

  get showsSeats() {
    return this.plan.spacing * this.camera.scale >= SEATS_FROM_PX;
  }

  paint() {
    const { pen, camera, plan, ratio } = this;
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, this.canvas.width, this.canvas.height);
    pen.setTransform(ratio * camera.scale, 0, 0, ratio * camera.scale, ratio * camera.left, ratio * camera.top);
    for (const shape of plan.shapes) this.paintShape(shape);
    if (this.showsSeats) {
      this.paintGrounds();
      paintSeats(this);
    } else {
      this.paintSections();
    }
    this.paintWords();
    paintOwn(this);
  }

  paintShape(shape) {
    if (shape.shape === 'text') return;
    const { pen, inks } = this;
    const box = shapeBox(shape);
    pen.beginPath();
    if (shape.shape === 'ellipse' || shape.shape === 'circle') {
      pen.ellipse((box.left + box.right) / 2, (box.top + box.bottom) / 2, (box.right - box.left) / 2, (box.bottom - box.top) / 2, 0, 0, Math.PI * 2);
    } else if (shape.shape === 'polygon') {
      for (const [x, y] of shape.points ?? []) pen.lineTo(x + (shape.x ?? 0), y + (shape.y ?? 0));
      pen.closePath();
    } else {
      pen.rect(box.left, box.top, box.right - box.left, box.bottom - box.top);
    }
    pen.fillStyle = inks.sunken;
    pen.fill();
    pen.strokeStyle = inks.line;
    pen.lineWidth = 1 / this.camera.scale;
    pen.stroke();
  }

  /** From near: a faint ground under each section, so that rows hold together. */
  paintGrounds() {
    const { pen, inks, plan } = this;
    pen.fillStyle = inks.surface;
    pen.strokeStyle = inks.surface;
    pen.lineJoin = 'round';
    pen.lineWidth = plan.spacing * 1.8;
    for (const section of this.visibleSections()) {
      pen.fill(section.path);
      pen.stroke(section.path);
    }
  }

  /** From afar: each block in the colour of its price, the fuller the more of it is free; hatched when sold out. */
  paintSections() {
    const { pen, inks, plan, options } = this;
    const only = options.only();
    pen.lineJoin = 'round';
    pen.lineWidth = plan.spacing * 1.2;
    for (const section of this.visibleSections()) {
      pen.fillStyle = inks.surface;
      pen.strokeStyle = inks.surface;
      pen.fill(section.path);
      pen.stroke(section.path);
      for (const block of section.blocks) {
        const free = options.states ? options.states.freeOfBlock[block.index] : block.seats;
        const dim = only !== null && block.level !== only;
        pen.globalAlpha = dim ? 0.1 : free === 0 ? 0.16 : 0.3 + 0.6 * Math.sqrt(free / Math.max(1, block.seats));
        pen.fillStyle = free === 0 ? inks.muted : inks.levels[block.level] ?? inks.muted;
        pen.fill(block.path);
        pen.globalAlpha = 1;
        if (free === 0) this.hatch(block);
      }
      if (section === this.hovered) {
        pen.strokeStyle = inks.ink;
        pen.lineWidth = 2 / this.camera.scale;
        pen.stroke(section.path);
        pen.lineWidth = plan.spacing * 1.2;
      }
    }
  }

  hatch(section) {
    const { pen, inks, camera } = this;
    const { left, top, right, bottom } = section.box;
    const step = 7 / camera.scale;
    pen.save();
    pen.clip(section.path);
    pen.beginPath();
    for (let x = left - (bottom - top); x < right; x += step) {
      pen.moveTo(x, bottom);
      pen.lineTo(x + (bottom - top), top);
    }
    pen.strokeStyle = inks.muted;
    pen.globalAlpha = 0.5;
    pen.lineWidth = 1 / camera.scale;
    pen.stroke();
    pen.restore();
  }

  visibleSections() {
    const { camera } = this;
    const [left, top] = camera.toPlan(0, 0);
    const [right, bottom] = camera.toPlan(camera.width, camera.height);
    return this.plan.sections.filter(({ box }) => box.right >= left && box.left <= right && box.bottom >= top && box.top <= bottom);
  }

  /** Names, in pixels so that letters stay letters. */
  paintWords() {
    const { pen, camera, plan, options, inks, ratio } = this;
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.textAlign = 'center';
    pen.textBaseline = 'middle';
    const put = (text, x, y, size, weight, color, room) => {
      pen.font = `${weight} ${size}px ${inks.font}`;
      if (pen.measureText(text).width > room) return false;
      pen.lineWidth = 3;
      pen.lineJoin = 'round';
      pen.strokeStyle = inks.surface;
      pen.strokeText(text, x, y);
      pen.fillStyle = color;
      pen.fillText(text, x, y);
      return true;
    };
    for (const shape of plan.shapes) {
      if (!shape.text) continue;
      const { left, top, right, bottom } = shapeBox(shape);
      put(String(shape.text), ((left + right) / 2) * camera.scale + camera.left, ((top + bottom) / 2) * camera.scale + camera.top, 13, 600, inks.muted, (right - left) * camera.scale);
    }
    if (this.showsSeats) {
      this.paintRowNames(put);
      return;
    }
    this.paintSectionNames(put);
  }

  /** Names of sections, the large ones first; what would lie on another name or outside its section is left out. */
  paintSectionNames(put) {
    const { pen, camera, options, inks } = this;
    const taken = [];
    const fits = (text, x, y, size, weight, section) => {
      pen.font = `${weight} ${size}px ${inks.font}`;
      const half = pen.measureText(text).width / 2;
      const box = { left: x - half - 1, right: x + half + 1, top: y - size / 2, bottom: y + size / 2 };
      if (taken.some((other) => box.left < other.right && box.right > other.left && box.top < other.bottom && box.bottom > other.top)) return false;
      if (section && ![box.left, box.right].every((side) => contains(section.outline, ...camera.toPlan(side, y)))) return false;
      taken.push(box);
      return true;
    };
    const sections = this.visibleSections().sort((a, b) => b.seats - a.seats);
    for (const section of sections) {
      const [x, y] = middleOf(section);
      const px = x * camera.scale + camera.left;
      const py = y * camera.scale + camera.top;
      const tall = (section.box.bottom - section.box.top) * camera.scale;
      const free = options.states?.free[section.index];
      const words = free === undefined ? null : free === 0 ? 'sold out' : `${free} free`;
      const two = words !== null && tall > LABEL_FONT * 3 && fits(words, px, py + 8, 10.5, 450, section);
      const nameY = two ? py - 7 : py;
      if (two) put(words, px, py + 8, 10.5, 450, inks.ink, Infinity);
      if (tall >= LABEL_FONT && fits(section.name, px, nameY, LABEL_FONT, 650, null)) put(section.name, px, nameY, LABEL_FONT, 650, inks.ink, Infinity);
    }
  }

  /** Row labels beside both ends, once seats are large enough to be picked. A row that goes on to the left of the screen is
   * named at its edge, and the section in the middle of the screen at the top. */
  paintRowNames(put) {
    const { camera, plan, inks } = this;
    const pitch = plan.spacing * camera.scale;
    if (pitch < 9) return;
    const size = Math.max(9, Math.min(12, pitch * 0.6));
    const atEdge = [];
    for (const section of this.visibleSections()) {
      for (const row of section.rows) {
        const { first, count, label } = row;
        if (count < 2) continue;
        for (const [seat, next] of [[first, first + 1], [first + count - 1, first + count - 2]]) {
          const x = (plan.x[seat] * 2 - plan.x[next]) * camera.scale + camera.left;
          const y = (plan.y[seat] * 2 - plan.y[next]) * camera.scale + camera.top;
          if (x < -20 || y < -20 || x > camera.width + 20 || y > camera.height + 20) continue;
          put(label, x, y, size, 500, inks.muted, pitch * 2.5);
        }
        const y = this.crossing(row);
        if (y !== null) atEdge.push([label, y]);
      }
    }
    this.paintEdge(put, atEdge, size);
    const [x, y] = camera.toPlan(camera.width / 2, camera.height / 2);
    const section = plan.sectionAt(x, y);
    if (section && !this.showsAllOf(section.box)) put(section.name, camera.width / 2, 16, 14, 650, inks.ink, camera.width);
  }

  showsAllOf({ left, top, right, bottom }) {
    const { camera } = this;
    const [low, high] = [camera.toPlan(0, 0), camera.toPlan(camera.width, camera.height)];
    return left >= low[0] && top >= low[1] && right <= high[0] && bottom <= high[1];
  }

  /** Where a row passes the left edge of the screen, in pixels; null where it does not. */
  crossing({ first, count }) {
    const { camera, plan } = this;
    const left = (seat) => plan.x[seat] * camera.scale + camera.left;
    if (left(first) > 0 === left(first + count - 1) > 0) return null;
    for (let seat = first + 1; seat < first + count; seat += 1) {
      if (left(seat) > 0 === left(seat - 1) > 0) continue;
      const y = plan.y[seat] * camera.scale + camera.top;
      return y > 0 && y < camera.height ? y : null;
    }
    return null;
  }

  /** A strip along the left edge with the names of the rows that pass it. */
  paintEdge(put, names, size) {
    if (names.length === 0) return;
    const { pen, inks } = this;
    pen.globalAlpha = 0.86;
    pen.fillStyle = inks.surface;
    const heights = names.map(([, y]) => y);
    pen.fillRect(0, Math.min(...heights) - size, EDGE_PX, Math.max(...heights) - Math.min(...heights) + size * 2);
    pen.globalAlpha = 1;
    for (const [label, y] of names) put(label, EDGE_PX / 2, y, size, 600, inks.muted, EDGE_PX);
  }

  seatAt(x, y) {
    const [planX, planY] = this.camera.toPlan(x, y);
    const reach = Math.max(this.plan.spacing * 0.75, Math.min(FINGER_PX / this.camera.scale, this.plan.spacing * 1.2));
    return this.plan.nearest(planX, planY, reach);
  }

  tap(x, y) {
    if (this.showsSeats && this.plan.spacing * this.camera.scale >= 9) {
      const seat = this.seatAt(x, y);
      if (seat >= 0) this.options.choose(seat);
      return;
    }
    const [planX, planY] = this.camera.toPlan(x, y);
    const section = this.plan.sectionAt(planX, planY);
    if (section) this.zoomToward(section, planX, planY);
    else if (this.showsSeats) this.camera.zoom(2, x, y);
  }

  /** So near that seats can be picked, with the tapped point in the middle; the whole section where that is near enough. */
  zoomToward(section, x, y) {
    const whole = this.camera.around(section.box, 1.15);
    const enough = 13 / this.plan.spacing;
    const scale = this.camera.allowed(Math.max(whole.scale, enough));
    const target = scale === whole.scale ? whole : { scale, left: this.camera.width / 2 - x * scale, top: this.camera.height / 2 - y * scale };
    this.camera.glideTo(target);
  }

  /** Comes so close to these seats that they can be told apart. */
  show(numbers) {
    const seats = [...numbers].filter((seat) => seat < this.plan.seated);
    if (!this.host || seats.length === 0) return;
    const [xs, ys] = [seats.map((seat) => this.plan.x[seat]), seats.map((seat) => this.plan.y[seat])];
    const air = this.plan.spacing * 14;
    const view = this.camera.around({ left: Math.min(...xs) - air, right: Math.max(...xs) + air, top: Math.min(...ys) - air, bottom: Math.max(...ys) + air });
    this.camera.glideTo(view);
  }

  hover(x, y) {
    const [planX, planY] = this.camera.toPlan(x, y);
    const before = this.hovered;
    this.hovered = null;
    if (this.showsSeats) {
      const seat = this.seatAt(x, y);
      this.canvas.style.setProperty('cursor', seat >= 0 && this.options.states?.state[seat] === FREE ? 'pointer' : 'grab');
      this.tell(x, y, seat >= 0 ? this.sayOfSeat(seat) : []);
    } else {
      this.hovered = this.plan.sectionAt(planX, planY);
      this.canvas.style.setProperty('cursor', this.hovered ? 'zoom-in' : 'grab');
      this.tell(x, y, this.hovered ? this.sayOfSection(this.hovered) : []);
      if (this.hovered !== before) this.draw();
    }
  }

  sayOfSeat(seat) {
    const { options, plan } = this;
    const state = options.mine().has(seat) ? 'held for you' : options.picked().has(seat) ? 'your choice' : STATE_NAMES[options.states?.state[seat]] ?? '';
    const price = plan.priceOf(seat);
    return [place(plan.placeOf(seat)), [price && money(price), state].filter(Boolean).join(', ')];
  }

  sayOfSection(section) {
    const free = this.options.states?.free[section.index];
    const prices = [...new Set(section.blocks.map(({ level }) => money(this.plan.levels[level]?.price)))].join(' / ');
    return [section.name, [free === undefined ? null : free === 0 ? 'sold out' : `${free} of ${section.seats} free`, prices].filter(Boolean).join(', ')];
  }

  leave() {
    super.leave();
    if (!this.hovered) return;
    this.hovered = null;
    this.draw();
  }
}

function pathOf(points) {
  const path = new Path2D();
  points.forEach(([x, y], index) => (index === 0 ? path.moveTo(x, y) : path.lineTo(x, y)));
  path.closePath();
  return path;
}

/** Where a section's name stands: the middle of its outline by area. */
function middleOf(section) {
  section.middle ??= centroid(section.outline);
  return section.middle;
}
