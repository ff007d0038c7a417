// Where the map looks: plan units to pixels, and the gestures that move it. One finger or the mouse drags, two fingers
// pinch, the wheel zooms, a tap that does not move is a tap.

const TAP_SLACK_PX = 7;
const WHEEL_STEP = 0.0016;
const GLIDE_MS = 260;

/** Plan point (x, y) is at pixel (x * scale + left, y * scale + top). */
export class Camera {
  constructor(changed) {
    this.changed = changed;
    this.scale = 1;
    this.left = 0;
    this.top = 0;
    this.width = 1;
    this.height = 1;
    this.box = { left: 0, top: 0, right: 1, bottom: 1 };
    this.nearest = 1;
    this.glide = null;
  }

  /** The screen's size, what there is to see, and the scale beyond which it makes no sense to go. */
  frame(width, height, box, nearest) {
    const first = this.width === 1;
    const wasFit = first || Math.abs(this.scale - this.fitScale) < 1e-6;
    Object.assign(this, { width, height, box, nearest });
    if (wasFit) this.look(this.fitted());
    else this.look(this);
  }

  get fitScale() {
    const { left, top, right, bottom } = this.box;
    return Math.min(this.nearest, (this.width * 0.91) / Math.max(1e-6, right - left), (this.height * 0.91) / Math.max(1e-6, bottom - top));
  }

  fitted() {
    return this.around(this.box, 1);
  }

  /** The view that shows a box with some air. */
  around({ left, top, right, bottom }, air = 1.12) {
    const scale = this.allowed(Math.min((this.width * 0.91) / Math.max(1e-6, (right - left) * air), (this.height * 0.91) / Math.max(1e-6, (bottom - top) * air)));
    return { scale, left: this.width / 2 - ((left + right) / 2) * scale, top: this.height / 2 - ((top + bottom) / 2) * scale };
  }

  allowed(scale) {
    return Math.min(this.nearest, Math.max(this.fitScale, scale));
  }

  /** Goes there, keeping the plan within reach of the screen. */
  look({ scale, left, top }) {
    this.scale = this.allowed(scale);
    this.left = hold(left, this.box.left, this.box.right, this.scale, this.width);
    this.top = hold(top, this.box.top, this.box.bottom, this.scale, this.height);
    this.changed();
  }

  /** Goes there in a moment, or at once for those who want no motion. */
  glideTo(target) {
    if (matchMedia('(prefers-reduced-motion: reduce)').matches) {
      this.look(target);
      return;
    }
    const from = { scale: this.scale, left: this.left, top: this.top };
    const started = performance.now();
    const step = (now) => {
      if (this.glide !== step) return;
      const share = Math.min(1, (now - started) / GLIDE_MS);
      const eased = 1 - (1 - share) ** 3;
      // The scale goes by factors and the middle of the screen by distance, so that it looks like one movement.
      const scale = from.scale * (target.scale / from.scale) ** eased;
      const middle = (view, size, side) => (size / 2 - view[side]) / view.scale;
      const [x0, x1] = [middle(from, this.width, 'left'), middle(target, this.width, 'left')];
      const [y0, y1] = [middle(from, this.height, 'top'), middle(target, this.height, 'top')];
      const along = target.scale === from.scale ? eased : (1 - from.scale / scale) / (1 - from.scale / target.scale);
      this.look({ scale, left: this.width / 2 - (x0 + (x1 - x0) * along) * scale, top: this.height / 2 - (y0 + (y1 - y0) * along) * scale });
      if (share < 1) requestAnimationFrame(step);
      else this.glide = null;
    };
    this.glide = step;
    requestAnimationFrame(step);
  }

  zoom(factor, x = this.width / 2, y = this.height / 2) {
    this.glide = null;
    const scale = this.allowed(this.scale * factor);
    const ratio = scale / this.scale;
    this.look({ scale, left: x - (x - this.left) * ratio, top: y - (y - this.top) * ratio });
  }

  pan(dx, dy) {
    this.glide = null;
    this.look({ scale: this.scale, left: this.left + dx, top: this.top + dy });
  }

  toPlan(x, y) {
    return [(x - this.left) / this.scale, (y - this.top) / this.scale];
  }
}

/** A plan smaller than the screen stays in its middle; a larger one covers it up to a margin. */
function hold(offset, low, high, scale, size) {
  const extent = (high - low) * scale;
  if (extent <= size) return size / 2 - ((low + high) / 2) * scale;
  const margin = size * 0.2;
  return Math.min(margin - low * scale, Math.max(size - margin - high * scale, offset));
}

/** Listens on an element. `tap(x, y)`, `hover(x, y)` and `leave()` get pixels within it. */
export function listenTo(element, camera, { tap, hover, leave }) {
  const pointers = new Map();
  let moved = 0;
  const at = (event) => {
    const box = element.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };
  element.addEventListener('pointerdown', (event) => {
    if (event.button !== 0) return;
    element.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, at(event));
    moved = pointers.size === 1 ? 0 : Infinity;
  });
  element.addEventListener('pointermove', (event) => {
    const now = at(event);
    const before = pointers.get(event.pointerId);
    if (!before) {
      hover(now.x, now.y);
      return;
    }
    if (pointers.size === 1) {
      moved += Math.hypot(now.x - before.x, now.y - before.y);
      if (moved > TAP_SLACK_PX) camera.pan(now.x - before.x, now.y - before.y);
    } else {
      const other = [...pointers].find(([id]) => id !== event.pointerId)[1];
      const spread = (point) => Math.max(1, Math.hypot(point.x - other.x, point.y - other.y));
      camera.pan((now.x - before.x) / 2, (now.y - before.y) / 2);
      camera.zoom(spread(now) / spread(before), (now.x + other.x) / 2, (now.y + other.y) / 2);
    }
    pointers.set(event.pointerId, now);
  });
  const end = (event) => {
    const { x, y } = at(event);
    if (!pointers.delete(event.pointerId)) return;
    if (event.type === 'pointerup' && moved <= TAP_SLACK_PX) tap(x, y);
  };
  element.addEventListener('pointerup', end);
  element.addEventListener('pointercancel', end);
  element.addEventListener('pointerleave', leave);
  element.addEventListener('wheel', (event) => {
    event.preventDefault();
    const { x, y } = at(event);
    const lines = event.deltaMode === 1 ? 16 : 1;
    camera.zoom(Math.exp(-event.deltaY * lines * (event.ctrlKey ? 6 : 1) * WHEEL_STEP), x, y);
  }, { passive: false });
  element.addEventListener('keydown', (event) => {
    const step = 60;
    const move = { ArrowLeft: [step, 0], ArrowRight: [-step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] }[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (move) camera.pan(...move);
    else if (event.key === '+' || event.key === '=') camera.zoom(1.4);
    else if (event.key === '-') camera.zoom(1 / 1.4);
    else if (event.key === '0' || event.key === 'Home') camera.glideTo(camera.fitted());
    else return;
    event.preventDefault();
  });
}
