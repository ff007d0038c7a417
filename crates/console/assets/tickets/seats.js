// The live state of an event's seats: a snapshot, then changes as they come. Listeners hear of a change at once; what they
// draw is their own affair.

import { getBytes, path } from '../api.js';

export const FREE = 0;
export const HELD = 1;
export const BOOKED = 2;
export const NOT_SOLD = 3;
export const STATE_NAMES = ['free', 'held', 'sold', 'not sold'];

const HEADER_BYTES = 13;
const VERSION = 1;
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 15_000;

/** How all seats stand, and how many are free where. */
export class SeatStates {
  constructor(plan) {
    this.plan = plan;
    this.state = new Uint8Array(plan.total).fill(NOT_SOLD);
    this.until = new Map();
    this.free = new Uint32Array(plan.sections.length);
    this.freeOfBlock = new Uint32Array(plan.blocks.length);
    this.freeOfLevel = new Uint32Array(plan.levels.length);
    this.freeOfArea = new Map();
    this.seq = 0;
  }

  /** Takes a snapshot: version (1 byte), sequence (8), count (4), then two bits a seat, the first in the lowest bits. */
  read(bytes) {
    const view = new DataView(bytes);
    if (bytes.byteLength < HEADER_BYTES || view.getUint8(0) !== VERSION) throw new Error('the seats are of a version that this page does not know; reload it');
    this.seq = Number(view.getBigUint64(1));
    const count = Math.min(view.getUint32(9), this.plan.total);
    const packed = new Uint8Array(bytes, HEADER_BYTES);
    for (let seat = 0; seat < count; seat += 1) this.state[seat] = (packed[seat >> 2] >> ((seat & 3) * 2)) & 3;
    this.until.clear();
    this.recount();
  }

  recount() {
    const { plan, state } = this;
    this.free.fill(0);
    this.freeOfBlock.fill(0);
    this.freeOfLevel.fill(0);
    for (let seat = 0; seat < plan.total; seat += 1) {
      if (state[seat] !== FREE) continue;
      if (seat < plan.seated) this.countSeat(seat, 1);
      if (plan.level[seat] >= 0) this.freeOfLevel[plan.level[seat]] += 1;
    }
    for (const { key, blocks } of plan.areas) {
      let free = 0;
      for (const [first, count] of blocks) {
        for (let at = first; at < first + count; at += 1) if (state[at] === FREE) free += 1;
      }
      this.freeOfArea.set(key, free);
    }
  }

  /** Takes a change and gives the numbers that are not what they were. What is older than what is here is left out. */
  apply({ seq, free = [], held = [], booked = [] }) {
    if (seq <= this.seq) return [];
    this.seq = seq;
    const touched = [];
    for (const seat of free) this.put(seat, FREE, 0, touched);
    for (const [seat, until] of held) this.put(seat, HELD, until, touched);
    for (const seat of booked) this.put(seat, BOOKED, 0, touched);
    return touched;
  }

  put(seat, state, until, touched) {
    if (!(seat < this.plan.total)) return;
    if (until) this.until.set(seat, until);
    else this.until.delete(seat);
    const before = this.state[seat];
    if (before === state) return;
    this.state[seat] = state;
    const step = (state === FREE) - (before === FREE);
    if (step !== 0) {
      if (seat < this.plan.seated) this.countSeat(seat, step);
      else this.countArea(seat, step);
      if (this.plan.level[seat] >= 0) this.freeOfLevel[this.plan.level[seat]] += step;
    }
    touched.push(seat);
  }

  countSeat(seat, step) {
    this.free[this.plan.sectionOf[seat]] += step;
    this.freeOfBlock[this.plan.blockOf[seat]] += step;
  }

  countArea(seat, step) {
    const area = this.plan.areaOf(seat);
    if (area) this.freeOfArea.set(area.key, (this.freeOfArea.get(area.key) ?? 0) + step);
  }
}

/** Those of an event, kept up to date. `changed(numbers)` is called with those that have changed, or null when all may have. */
export class Seats extends SeatStates {
  constructor(event, plan, changed) {
    super(plan);
    this.event = event;
    this.changed = changed;
    /** `loading`, `live` or `behind` (the last state is shown, and it is being asked for again). */
    this.status = 'loading';
    this.source = null;
    this.pause = FIRST_PAUSE_MS;
    this.stopped = false;
    this.load();
  }

  async load() {
    clearTimeout(this.timer);
    this.source?.close();
    try {
      const bytes = await getBytes(path('event', this.event, 'seats'), 'application/octet-stream');
      if (this.stopped) return;
      this.read(bytes);
      this.status = 'live';
      this.changed(null);
      this.follow();
    } catch (problem) {
      if (this.stopped) return;
      this.problem = problem;
      this.later(() => this.load());
    }
  }

  follow() {
    const source = new EventSource(`${path('event', this.event, 'seats', 'stream')}?since=${this.seq}`);
    this.source = source;
    source.onopen = () => {
      this.pause = FIRST_PAUSE_MS;
      this.become('live');
    };
    source.addEventListener('seats', ({ data }) => this.changed(this.apply(JSON.parse(data))));
    source.addEventListener('reset', () => this.load());
    source.onerror = () => {
      this.become('behind');
      // The browser tries again by itself after a cut, with the last id it saw; not after a refusal.
      if (source.readyState === EventSource.CLOSED) this.later(() => this.follow());
    };
  }

  become(status) {
    if (this.status === status) return;
    this.status = status;
    this.problem = null;
    this.changed([]);
  }

  later(again) {
    if (this.status === 'live') this.become('behind');
    else this.changed([]);
    this.timer = setTimeout(() => !this.stopped && again(), this.pause);
    this.pause = Math.min(this.pause * 2, LONGEST_PAUSE_MS);
  }

  stop() {
    this.stopped = true;
    clearTimeout(this.timer);
    this.source?.close();
  }
}
