// Tells the server where the car is: as often as it asks for, and whenever it has moved.

import { newKey, write } from '../api.js';
import { Walk, headingTo, metresBetween } from './geo.js';

/** Of a drive by itself. */
export const PACES = [
  { name: 'town', text: 'As in town', speed: 11 },
  { name: 'quick', text: '4 times', speed: 44 },
  { name: 'leap', text: '15 times', speed: 165 },
];
const STEP_MS = 1000;
/** Where the server says nothing about the next. */
const EVERY_MS = 5000;

export class Beacon {
  /** `moved(place)` hears of each step, `refused(code)` of positions that were not taken. */
  constructor(page, { moved, refused }) {
    this.page = page;
    this.moved = moved;
    this.refused = refused;
    this.place = null;
    this.heading = null;
    /** `tap`, `gps` or `auto`. */
    this.mode = 'tap';
    this.pace = 'quick';
    this.walk = null;
    this.sentAt = null;
    this.lost = false;
    this.problem = null;
    this.on = false;
    this.sending = false;
    this.steps = null;
    this.watching = null;
    page.closing(() => this.rest());
  }

  /** Metres to the end of the way, where it is followed by itself. */
  get left() {
    if (!this.walk || !this.place || this.mode !== 'auto') return null;
    const rest = this.walk.places.slice(this.walk.at + 1);
    return rest.reduce(([sum, from], to) => [sum + metresBetween(from, to), to], [0, this.place])[0];
  }

  /** On duty at a place, which the server knows. */
  begin(place) {
    Object.assign(this, { place, on: true, heading: null });
    this.moved(place);
    this.later(EVERY_MS);
    if (this.mode === 'gps') this.listen();
  }

  /** Off duty. */
  rest() {
    this.on = false;
    this.lost = false;
    clearTimeout(this.timer);
    clearInterval(this.steps);
    this.deafen();
  }

  use(mode) {
    this.mode = mode;
    this.problem = null;
    this.deafen();
    if (mode === 'gps') this.listen();
  }

  /** Follows a line from now on, or none; by itself where that is wanted. */
  drive(line) {
    clearInterval(this.steps);
    this.walk = line?.length > 1 ? new Walk(line) : null;
    if (!this.walk || this.mode !== 'auto' || !this.on) return;
    this.steps = setInterval(() => this.step(), STEP_MS);
  }

  step() {
    const { speed } = PACES.find(({ name }) => name === this.pace);
    this.to(this.walk.step((speed * STEP_MS) / 1000), this.walk.heading);
    if (this.walk.done) clearInterval(this.steps);
    this.page.render();
  }

  /** The car is there now. */
  to(place, heading) {
    this.heading = heading ?? this.heading;
    this.place = place;
    this.moved(place);
    this.tell();
  }

  listen() {
    if (!navigator.geolocation) {
      this.problem = 'This browser does not know where it is.';
      return;
    }
    this.watching = navigator.geolocation.watchPosition(({ coords }) => {
      const place = { lat: coords.latitude, lng: coords.longitude };
      this.problem = null;
      if (this.on) this.to(place, coords.heading ?? (this.place && metresBetween(this.place, place) > 5 ? headingTo(this.place, place) : null));
    }, ({ message }) => {
      this.problem = `Your position is not known${message ? `: ${message}` : ''}. Use the map instead.`;
      this.page.render();
    }, { enableHighAccuracy: true });
  }

  deafen() {
    if (this.watching !== null) navigator.geolocation.clearWatch(this.watching);
    this.watching = null;
  }

  later(pauseMs) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.tell(), pauseMs);
  }

  /** One report at a time: what comes meanwhile is in the next. */
  async tell() {
    if (!this.on || !this.place || this.sending) return;
    this.sending = true;
    const { place, heading } = this;
    let next = EVERY_MS;
    try {
      const body = heading === null ? place : { ...place, heading: Math.round(heading) % 360 };
      const answer = await write('POST', '/drivers/location/update', body, { key: newKey() });
      const [said] = answer.updates;
      if (typeof said === 'string' && said !== 'stale') this.refused(said);
      next = answer.next_update_ms ?? EVERY_MS;
      Object.assign(this, { sentAt: Date.now(), lost: false });
    } catch (problem) {
      this.lost = true;
    }
    this.sending = false;
    this.page.render();
    if (this.on) this.later(this.place === place ? next : 0);
  }
}
