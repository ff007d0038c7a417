// What maps on a canvas have in common: the element with its buttons and its tip, its size, inks that follow the theme, and at most one
// picture a frame.

import { Camera, listenTo } from './camera.js';

/** A tip further right than so many pixels from the edge is to the left of the pointer. */
const TIP_ROOM_PX = 190;
const TIP_LINE_PX = 14;

/**
 * A map is one of these with `readInks()` (colours by name), `framed(width, height)` (the element has this size: tells the camera),
 * `paint(now)`, `tap(x, y)` and `hover(x, y)`, in pixels. `look`: `role` and `label` for those who do not see it, `whole` (what the button
 * that shows all of it is called), and `sharpest`, the most dots in a pixel.
 */
export class CanvasFrame {
  constructor(look) {
    this.look = look;
    this.host = null;
    this.inks = null;
    this.queued = false;
    this.moved = false;
    /** Where the pointer rests on it. */
    this.pointer = null;
    this.camera = new Camera(() => { this.moved = true; this.draw(); });
    this.observer = new ResizeObserver(() => this.resize());
    this.dark = matchMedia('(prefers-color-scheme: dark)');
    this.recolored = () => this.recolor();
    this.dark.addEventListener('change', this.recolored);
  }

  /** Draws itself into an element from now on. `more` is what else lies on it. */
  attach(host, ...more) {
    this.host = host;
    this.pointer = null;
    this.canvas = document.createElement('canvas');
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute('role', this.look.role);
    this.canvas.setAttribute('aria-label', this.look.label);
    this.tip = document.createElement('div');
    this.tip.className = 'map-tip';
    this.tip.hidden = true;
    host.replaceChildren(this.canvas, this.tip, this.buttons(), ...more);
    this.pen = this.canvas.getContext('2d');
    listenTo(this.canvas, this.camera, {
      tap: (x, y) => this.tap(x, y),
      hover: (x, y) => this.rest(x, y),
      leave: () => this.leave(),
    });
    this.recolor();
    this.observer.disconnect();
    this.observer.observe(host);
    this.resize();
  }

  buttons() {
    const buttons = document.createElement('div');
    buttons.className = 'zoom-buttons';
    for (const [sign, text, act] of [
      ['+', 'Zoom in', () => this.camera.zoom(1.6)],
      ['−', 'Zoom out', () => this.camera.zoom(1 / 1.6)],
      ['⤢', this.look.whole, () => this.camera.glideTo(this.camera.fitted())],
    ]) {
      const button = document.createElement('button');
      button.type = 'button';
      button.textContent = sign;
      button.title = text;
      button.setAttribute('aria-label', text);
      button.onclick = act;
      buttons.append(button);
    }
    return buttons;
  }

  /** Nothing is drawn or listened to any more. */
  close() {
    this.observer.disconnect();
    this.dark.removeEventListener('change', this.recolored);
    this.host = null;
  }

  recolor() {
    if (!this.host) return;
    this.inks = this.readInks();
    this.draw();
  }

  resize() {
    if (!this.host) return;
    const { clientWidth: width, clientHeight: height } = this.host;
    if (width === 0 || height === 0) return;
    this.ratio = Math.min(this.look.sharpest, window.devicePixelRatio || 1);
    this.canvas.width = Math.round(width * this.ratio);
    this.canvas.height = Math.round(height * this.ratio);
    this.framed(width, height);
  }

  /** Asks for a frame; the next one shows all that has changed until then. */
  draw() {
    if (this.queued || !this.host) return;
    this.queued = true;
    requestAnimationFrame((now) => {
      this.queued = false;
      if (!this.host?.isConnected || !this.inks) return;
      this.paint(now);
      // What is under a pointer that rests has changed.
      if (this.moved && this.pointer) this.hover(...this.pointer);
      this.moved = false;
    });
  }

  rest(x, y) {
    this.pointer = [x, y];
    this.hover(x, y);
  }

  leave() {
    this.pointer = null;
    this.tip.hidden = true;
  }

  /** Shows lines beside the pointer; none hide the tip. */
  tell(x, y, lines) {
    const said = lines.filter(Boolean);
    this.tip.hidden = said.length === 0;
    if (this.tip.hidden) return;
    this.tip.replaceChildren(...said.map((text) => {
      const line = document.createElement('div');
      line.textContent = text;
      return line;
    }));
    const right = x > this.camera.width - TIP_ROOM_PX;
    const top = Math.max(4, y - 22 - TIP_LINE_PX * said.length);
    this.tip.style.setProperty('transform', `translate(${Math.round(x + (right ? -12 : 14))}px, ${Math.round(top)}px)${right ? ' translateX(-100%)' : ''}`);
  }
}
