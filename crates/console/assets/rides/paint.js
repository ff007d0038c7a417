// What lies on the map: ways, pins, cars, areas. A meaning is a shape as well as a colour: free cars are round, busy ones
// square, and both point where they go.

/** A way: `places` in order. The one driven is full, the one to come dashed. */
export function paintWay(pen, map, places, { dashed = false, ink = map.inks.route } = {}) {
  if (places.length < 2) return;
  pen.beginPath();
  places.forEach((place, index) => {
    const [x, y] = map.at(place);
    if (index === 0) pen.moveTo(x, y);
    else pen.lineTo(x, y);
  });
  pen.lineJoin = 'round';
  pen.lineCap = 'round';
  pen.strokeStyle = map.inks.surface;
  pen.lineWidth = 8;
  pen.stroke();
  pen.setLineDash(dashed ? [2, 8] : []);
  pen.strokeStyle = ink;
  pen.lineWidth = 4.5;
  pen.stroke();
  pen.setLineDash([]);
}

/** The last steps on foot, from a place beside the road to its way. */
export function paintSteps(pen, map, place, end) {
  if (!place || !end) return;
  pen.beginPath();
  pen.moveTo(...map.at(place));
  pen.lineTo(...map.at(end));
  pen.setLineDash([1, 6]);
  pen.lineCap = 'round';
  pen.strokeStyle = map.inks.muted;
  pen.lineWidth = 3;
  pen.stroke();
  pen.setLineDash([]);
}

/** A pin with a letter, its point at the place. */
export function paintPin(pen, map, place, letter, ink) {
  const [x, y] = map.at(place);
  pen.beginPath();
  pen.arc(x, y - 22, 12, Math.PI * 0.82, Math.PI * 2.18);
  pen.lineTo(x, y);
  pen.closePath();
  pen.fillStyle = ink;
  pen.fill();
  pen.strokeStyle = map.inks.surface;
  pen.lineWidth = 2;
  pen.stroke();
  pen.fillStyle = map.inks.surface;
  pen.font = `700 13px ${map.inks.font}`;
  pen.textAlign = 'center';
  pen.textBaseline = 'middle';
  pen.fillText(letter, x, y - 21.5);
}

/** A car; `size` in pixels from its middle. */
export function paintCar(pen, map, place, { heading = null, duty = 'free', size = 6, ring = false } = {}) {
  const [x, y] = map.at(place);
  if (x < -30 || y < -30 || x > map.camera.width + 30 || y > map.camera.height + 30) return;
  const { inks } = map;
  pen.save();
  pen.translate(x, y);
  if (ring) {
    pen.beginPath();
    pen.arc(0, 0, size * 2.4, 0, Math.PI * 2);
    pen.fillStyle = duty === 'busy' ? inks.busy : inks.free;
    pen.globalAlpha = 0.22;
    pen.fill();
    pen.globalAlpha = 1;
  }
  if (heading !== null) pen.rotate((heading * Math.PI) / 180);
  pen.beginPath();
  if (duty === 'busy') pen.rect(-size, -size, size * 2, size * 2);
  else pen.arc(0, 0, size * 1.08, 0, Math.PI * 2);
  pen.strokeStyle = inks.surface;
  pen.lineWidth = 2.4;
  pen.stroke();
  pen.fillStyle = duty === 'busy' ? inks.busy : inks.free;
  pen.fill();
  if (heading !== null) {
    pen.beginPath();
    pen.moveTo(-size * 0.62, size * 0.45);
    pen.lineTo(0, -size * 0.72);
    pen.lineTo(size * 0.62, size * 0.45);
    pen.strokeStyle = inks.surface;
    pen.lineWidth = Math.max(1.4, size * 0.3);
    pen.lineCap = 'round';
    pen.stroke();
  }
  pen.restore();
}

/** Somebody who waits at a place. */
export function paintWaiting(pen, map, place) {
  const [x, y] = map.at(place);
  pen.beginPath();
  pen.moveTo(x, y - 8);
  pen.lineTo(x + 8, y);
  pen.lineTo(x, y + 8);
  pen.lineTo(x - 8, y);
  pen.closePath();
  pen.fillStyle = map.inks.warn;
  pen.fill();
  pen.strokeStyle = map.inks.surface;
  pen.lineWidth = 2;
  pen.stroke();
}

/** An area, the fuller the dearer, with its numbers in its middle. */
export function paintArea(pen, map, area) {
  if (area.corners.length < 3) return;
  const points = area.corners.map((corner) => map.at(corner));
  pen.beginPath();
  points.forEach(([x, y], index) => (index === 0 ? pen.moveTo(x, y) : pen.lineTo(x, y)));
  pen.closePath();
  const { inks } = map;
  if (area.surge > 1) {
    pen.globalAlpha = Math.min(0.34, 0.1 + (area.surge - 1) * 0.2);
    pen.fillStyle = inks.warn;
    pen.fill();
    pen.globalAlpha = 1;
  }
  pen.setLineDash([5, 4]);
  pen.strokeStyle = area.surge > 1 ? inks.warn : inks.muted;
  pen.globalAlpha = area.surge > 1 ? 0.9 : 0.5;
  pen.lineWidth = area.surge > 1 ? 2 : 1;
  pen.stroke();
  pen.setLineDash([]);
  pen.globalAlpha = 1;
}

/** The words of an area, above everything else. */
export function paintAreaWords(pen, map, area) {
  const points = area.corners.map((corner) => map.at(corner));
  if (points.length < 3) return;
  const width = Math.max(...points.map(([x]) => x)) - Math.min(...points.map(([x]) => x));
  if (width < 110) return;
  const sum = (side) => points.reduce((total, point) => total + point[side], 0) / points.length;
  const text = [area.surge > 1 && `×${area.surge.toFixed(2)}`, area.waiting > 0 && `${area.waiting} waiting`, `${area.free} free`].filter(Boolean).join(' · ');
  const { inks } = map;
  pen.font = `600 12px ${inks.font}`;
  pen.textAlign = 'center';
  pen.textBaseline = 'middle';
  const wide = pen.measureText(text).width + 16;
  const [x, y] = [Math.min(Math.max(sum(0), wide / 2 + 4), map.camera.width - wide / 2 - 4), Math.min(Math.max(sum(1), 16), map.camera.height - 30)];
  // Not where its area is off the screen.
  if (Math.abs(x - sum(0)) > width / 2 || Math.abs(y - sum(1)) > width / 2) return;
  pen.beginPath();
  pen.roundRect(x - wide / 2, y - 11, wide, 22, 11);
  pen.globalAlpha = 0.92;
  pen.fillStyle = area.surge > 1 || area.waiting > 0 ? inks.warn : inks.surface;
  pen.fill();
  pen.globalAlpha = 1;
  pen.strokeStyle = inks.line;
  pen.lineWidth = 1;
  pen.stroke();
  pen.fillStyle = area.surge > 1 || area.waiting > 0 ? inks.surface : inks.ink;
  pen.fillText(text, x, y + 0.5);
}

/** Where things that are told of now and then are in between: they glide from where they were shown to where they are. */
export class Glide {
  constructor(map, spanMs) {
    this.map = map;
    this.spanMs = matchMedia('(prefers-reduced-motion: reduce)').matches ? 0 : spanMs;
    this.known = new Map();
  }

  /** All there is now: `[id, place]`. */
  set(entries) {
    const now = performance.now();
    const next = new Map();
    for (const [id, place] of entries) {
      const before = this.known.get(id);
      next.set(id, { from: before ? this.between(before, now) : place, to: place, since: now });
    }
    this.known = next;
    this.map.draw();
  }

  between({ from, to, since }, now) {
    const share = this.spanMs === 0 ? 1 : Math.min(1, (now - since) / this.spanMs);
    return { lat: from.lat + (to.lat - from.lat) * share, lng: from.lng + (to.lng - from.lng) * share };
  }

  /** Where it is shown at this moment. Asks for another frame while something moves. */
  at(id, now) {
    const one = this.known.get(id);
    if (!one) return null;
    if (now - one.since < this.spanMs && (one.from.lat !== one.to.lat || one.from.lng !== one.to.lng)) this.map.draw();
    return this.between(one, now);
  }
}
