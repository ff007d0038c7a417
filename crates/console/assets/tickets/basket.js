// What a fan has chosen and holds for one event. Choosing is local; holding asks the server, which alone decides.

import { get, path, serverNow } from '../api.js';
import { send } from '../intents.js';
import { admission, recall, remember } from './keeping.js';
import { numberOf, ticketId } from './plan.js';
import { FREE } from './seats.js';
import { place } from './words.js';

export class Basket {
  /** `changed()` after every change; `say(text)` for what a person who cannot see the map must hear; `held(numbers)` when
   * the server has given seats. */
  constructor(event, changed, say, held = () => {}) {
    this.event = event;
    this.changed = changed;
    this.say = say;
    this.held = held;
    this.picked = new Set();
    this.areas = new Map();
    this.hold = null;
    this.mine = new Set();
    this.busy = null;
    this.problem = null;
    this.nearby = [];
    this.lapsed = false;
    this.plan = null;
    this.seats = null;
    this.limit = Infinity;
    this.resume();
  }

  get count() {
    return this.picked.size + [...this.areas.values()].reduce((sum, quantity) => sum + quantity, 0);
  }

  /** Of what is chosen, by this page's prices; the hold says what it costs. */
  get total() {
    const prices = [...this.picked].map((seat) => [this.plan.priceOf(seat), 1]);
    for (const { key, level } of this.plan?.areas ?? []) prices.push([this.plan.levels[level]?.price, this.areas.get(key) ?? 0]);
    const known = prices.filter(([price, quantity]) => price && quantity > 0);
    if (known.length === 0) return null;
    return { amount: known.reduce((sum, [price, quantity]) => sum + price.amount * quantity, 0), currency: known[0][0].currency };
  }

  get leftMs() {
    return this.hold ? Date.parse(this.hold.expires_at) - serverNow() : 0;
  }

  toggle(seat) {
    if (this.hold) {
      if (!this.mine.has(seat)) this.complain('You hold seats already. Pay for them, or let them go to choose others.');
      return;
    }
    this.problem = null;
    this.nearby = [];
    if (this.picked.delete(seat)) {
      this.say(`${this.name(seat)} given up`);
    } else if (this.seats && this.seats.state[seat] !== FREE) {
      this.complain(`${this.name(seat)} is not free.`);
      return;
    } else if (this.count >= this.limit) {
      this.complain(`One customer can have ${this.limit} tickets for this event.`);
      return;
    } else {
      this.picked.add(seat);
      this.say(`${this.name(seat)} chosen`);
    }
    this.changed();
  }

  setArea(key, quantity) {
    this.problem = null;
    const others = this.count - (this.areas.get(key) ?? 0);
    this.areas.set(key, Math.max(0, Math.min(quantity, this.limit - others)));
    this.changed();
  }

  name(seat) {
    return place(this.plan.placeOf(seat));
  }

  complain(message) {
    this.problem = { message };
    this.changed();
  }

  /** Chosen seats that somebody else has taken leave the choice; null means that any may have. */
  notice(numbers) {
    if (this.hold || this.busy) return;
    const gone = [...(numbers ?? this.picked)].filter((seat) => this.picked.has(seat) && this.seats.state[seat] !== FREE);
    if (gone.length === 0) return;
    for (const seat of gone) this.picked.delete(seat);
    const names = gone.map((seat) => this.name(seat)).join('; ');
    this.problem = { message: `Somebody else was faster: ${names}. Choose another.` };
    this.say(this.problem.message);
    this.changed();
  }

  reserve() {
    const ids = [...this.picked].map((seat) => ticketId(this.event, seat));
    const areas = [...this.areas].filter(([, quantity]) => quantity > 0).map(([area, quantity]) => ({ area, quantity }));
    return this.ask(areas.length ? { event: this.event, areas, ...(ids.length ? { ticket_ids: ids } : {}) } : { ticket_ids: ids });
  }

  best(quantity, level) {
    return this.ask({ event: this.event, quantity, best_available: true, ...(level ? { price_level: level } : {}) });
  }

  async ask(body) {
    const admitted = admission(this.event, serverNow());
    await this.work('reserve', async () => {
      const hold = await send('/booking/reserve', admitted ? { ...body, admission: admitted.token } : body);
      this.take(hold);
      this.picked.clear();
      this.areas.clear();
      this.held(this.mine);
      this.say(`${hold.tickets.length} held for you. Pay within ${Math.round(this.leftMs / 60_000)} minutes.`);
    });
  }

  async release() {
    await this.work('release', async () => {
      await send('/booking/release', { hold_id: this.hold.hold_id });
      this.drop();
      this.say('Your seats are free again.');
    });
  }

  async work(what, act) {
    if (this.busy) return;
    this.busy = what;
    this.problem = null;
    this.nearby = [];
    this.lapsed = false;
    this.changed();
    try {
      await act();
    } catch (problem) {
      this.problem = problem;
      this.say(problem.message);
      const { nearby, seat, taken = [] } = problem.members ?? {};
      for (const ticket of taken) this.picked.delete(numberOf(ticket));
      // As many as were lost. The single seat that a choice would leave is an offer too.
      this.nearby = (nearby ?? (seat ? [seat] : [])).map(numberOf).filter((number) => number >= 0 && !this.picked.has(number)).slice(0, Math.max(1, taken.length));
      if (problem.code === 'tickets.hold_over') this.drop();
      if (problem.code === 'tickets.not_admitted') remember('admission', this.event, null);
    }
    this.busy = null;
    if (this.seats) this.notice(null);
    this.changed();
  }

  /** Seats that the server offers instead of those that were taken. */
  takeNearby() {
    for (const seat of this.nearby) if (this.count < this.limit) this.picked.add(seat);
    this.nearby = [];
    this.problem = null;
    this.changed();
  }

  take(hold) {
    this.hold = hold;
    this.mine = new Set(hold.tickets.map(({ id }) => numberOf(id)));
    remember('hold', this.event, hold.hold_id);
  }

  drop() {
    this.hold = null;
    this.mine = new Set();
    remember('hold', this.event, null);
  }

  /** Call every second: a hold that is over is over here too. */
  watch() {
    if (!this.hold || this.busy || this.leftMs > 0) return;
    this.drop();
    this.lapsed = true;
    this.say('Your hold has ended. The seats are free again.');
    this.changed();
  }

  /** After a reload the hold is still there, if the server says so. */
  async resume() {
    const kept = recall('hold', this.event);
    if (!kept) return;
    try {
      this.take(await get(path('booking', 'hold', kept)));
    } catch (problem) {
      if (problem.status !== 0) remember('hold', this.event, null);
    }
    this.changed();
  }
}
