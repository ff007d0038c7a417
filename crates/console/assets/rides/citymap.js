// The map: a canvas with the city's roads, and on top what a page paints. Roads are drawn into a picture of their own that is
// larger than the screen, so that dragging and moving cars cost a copy of it.

import { CanvasFrame } from '../canvasframe.js';
import { loadRoads } from './roads.js';

/** No closer than this many pixels in a metre. */
const CLOSEST = 2.2;
/** How much larger than the screen the picture of the roads is, on each side. */
const MARGIN = 0.3;
/** After a change of scale the roads are drawn anew when it has rested for so long; until then the picture is stretched. */
const REST_MS = 90;

/**
 * `options`: `label` (what it shows, for those who do not see it), `paint(pen, map)` in pixels, `tap(place, x, y)`,
 * `hover(x, y)` gives a text for what is there or null.
 */
export class CityMap extends CanvasFrame {
  constructor(page, options) {
    const enter = options.tap ? ', Enter takes the middle' : '';
    super({ role: 'application', label: `${options.label} Arrow keys move it, plus and minus zoom${enter}.`, whole: 'Show the whole city', sharpest: 2 });
    this.page = page;
    this.options = options;
    this.roads = null;
    this.problem = null;
    this.base = null;
    /** Whether the camera knows the screen; until then, what it is to show. */
    this.isFramed = false;
    this.wanted = null;
    page.closing(() => this.close());
    this.load();
  }

  async load() {
    this.problem = null;
    try {
      this.roads = await loadRoads();
    } catch (problem) {
      this.problem = problem;
    }
    if (this.page.closed) return;
    this.resize();
    this.page.render();
  }

  /** Draws itself into an element from now on. */
  attach(host) {
    this.credit = document.createElement('p');
    this.credit.className = 'map-credit';
    super.attach(host, this.credit);
    this.canvas.addEventListener('keydown', (event) => {
      if (event.key !== 'Enter' || !this.options.tap) return;
      event.preventDefault();
      this.tap(this.camera.width / 2, this.camera.height / 2);
    });
    for (const name of ['focus', 'blur']) this.canvas.addEventListener(name, () => this.draw());
  }

  close() {
    super.close();
    clearTimeout(this.resting);
  }

  readInks() {
    // The picture of the roads has the colours of before.
    this.base = null;
    const style = getComputedStyle(document.documentElement);
    const named = (name) => style.getPropertyValue(name).trim();
    return {
      ground: named('--map-ground'), minor: named('--map-minor'), main: named('--map-main'), major: named('--map-major'), edge: named('--map-edge'),
      ink: named('--ink'), muted: named('--muted'), surface: named('--surface'), line: named('--line-strong'), accent: named('--accent'),
      accentInk: named('--accent-ink'), free: named('--map-free'), busy: named('--map-busy'), good: named('--good'), bad: named('--bad'), warn: named('--warn'),
      route: named('--map-route'), way: named('--map-way'), font: named('--sans'),
    };
  }

  framed(width, height) {
    this.credit.textContent = this.roads?.attribution ?? '';
    this.base = null;
    if (!this.roads) return;
    this.camera.frame(width, height, this.roads.box, CLOSEST);
    const first = this.wanted;
    [this.isFramed, this.wanted] = [true, null];
    if (first) this.camera.look(this.viewOf(first));
  }

  /** A place in pixels. */
  at(place) {
    const [x, y] = this.roads.plane.flat(place);
    return [x * this.camera.scale + this.camera.left, y * this.camera.scale + this.camera.top];
  }

  placeAt(x, y) {
    return this.roads.plane.place(...this.camera.toPlan(x, y));
  }

  /** The sides of what is on the screen, degrees. */
  bounds() {
    if (!this.roads) return null;
    const [low, high] = [this.placeAt(0, this.camera.height), this.placeAt(this.camera.width, 0)];
    return { south: low.lat, west: low.lng, north: high.lat, east: high.lng };
  }

  /** Goes to where these places are in view, as soon as there is a map. */
  show(places) {
    const known = places.filter(Boolean);
    if (known.length === 0) return;
    if (this.isFramed && this.host) this.camera.glideTo(this.viewOf(known));
    else this.wanted = known;
  }

  viewOf(places) {
    const points = places.map((place) => this.roads.plane.flat(place));
    const [xs, ys] = [points.map(([x]) => x), points.map(([, y]) => y)];
    // One place alone is shown with its quarter.
    const air = points.length > 1 ? 100 : 600;
    return this.camera.around({ left: Math.min(...xs) - air, right: Math.max(...xs) + air, top: Math.min(...ys) - air, bottom: Math.max(...ys) + air }, 1.25);
  }

  paint(now) {
    const { pen, ratio, camera, inks } = this;
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.fillStyle = inks.ground;
    pen.fillRect(0, 0, this.canvas.width, this.canvas.height);
    if (!this.roads) return;
    this.paintBase();
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.options.paint(pen, this, now);
    if (this.options.tap && document.activeElement === this.canvas && this.canvas.matches(':focus-visible')) paintCross(pen, camera, inks);
  }

  paintBase() {
    const { camera } = this;
    const stale = !this.base || this.base.scale !== camera.scale;
    if (!this.base || (!this.covers() && !stale) || (stale && !this.resting)) this.drawBase();
    if (stale) {
      clearTimeout(this.resting);
      this.resting = setTimeout(() => { this.resting = null; if (this.base?.scale !== this.camera.scale) this.drawBase(); this.draw(); }, REST_MS);
    }
    const { picture, scale, left, top, ratio } = this.base;
    const share = (camera.scale / scale) * (this.ratio / ratio);
    const x = (camera.left - left * (camera.scale / scale)) * this.ratio;
    const y = (camera.top - top * (camera.scale / scale)) * this.ratio;
    this.pen.drawImage(picture, x, y, picture.width * share, picture.height * share);
  }

  /** Whether the picture reaches to all sides of the screen. */
  covers() {
    const { camera, base } = this;
    const [x, y] = [base.left - camera.left, base.top - camera.top];
    return x >= 0 && y >= 0 && x + camera.width <= base.width && y + camera.height <= base.height;
  }

  drawBase() {
    const { camera, ratio, inks } = this;
    const [marginX, marginY] = [camera.width * MARGIN, camera.height * MARGIN];
    const [width, height] = [camera.width + 2 * marginX, camera.height + 2 * marginY];
    const picture = this.base?.picture ?? document.createElement('canvas');
    Object.assign(picture, { width: Math.round(width * ratio), height: Math.round(height * ratio) });
    const pen = picture.getContext('2d');
    pen.fillStyle = inks.ground;
    pen.fillRect(0, 0, picture.width, picture.height);
    const [left, top] = [camera.left + marginX, camera.top + marginY];
    pen.setTransform(ratio * camera.scale, 0, 0, ratio * camera.scale, ratio * left, ratio * top);
    const box = { left: -left / camera.scale, top: -top / camera.scale, right: (width - left) / camera.scale, bottom: (height - top) / camera.scale };
    this.roads.paint(pen, box, camera.scale, inks);
    this.base = { picture, scale: camera.scale, left, top, width, height, ratio };
  }

  tap(x, y) {
    if (this.roads) this.options.tap?.(this.placeAt(x, y), x, y);
  }

  hover(x, y) {
    this.tell(x, y, [this.roads ? this.options.hover?.(x, y) : null]);
  }
}

function paintCross(pen, { width, height }, inks) {
  const [x, y] = [width / 2, height / 2];
  pen.beginPath();
  for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
    pen.moveTo(x + dx * 5, y + dy * 5);
    pen.lineTo(x + dx * 16, y + dy * 16);
  }
  for (const [ink, wide] of [[inks.surface, 4], [inks.ink, 1.6]]) {
    pen.strokeStyle = ink;
    pen.lineWidth = wide;
    pen.stroke();
  }
}
