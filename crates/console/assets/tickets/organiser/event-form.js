// Tickets › Organiser › an event's form: what, where, when, for how much, by which rules. Times are on the venue's clock.

import { get, getAll, path } from '../../api.js';
import { h } from '../../dom.js';
import { send } from '../../intents.js';
import { button, empty, heading, isMissing, loading, section, toast, troubles } from '../../parts.js';
import { signInFirst } from '../../pages/sign-in.js';
import { fromField, majorUnits, minorUnits, toField } from '../words.js';
import { manageLink } from './events.js';
import { area, refusal, select, text, tick } from './fields.js';
import { planFeed } from './plans.js';
import { venueDialog, venueFeed } from './venues.js';

const KINDS = ['concert', 'sport', 'theatre', 'festival', 'comedy', 'talk', 'other'];
const CURRENCIES = ['EUR', 'GBP', 'USD', 'CHF', 'SEK', 'BRL', 'JPY'];
const COLORS = ['#1b7f7a', '#3f6fb5', '#a9760f', '#a3478f', '#c4553b', '#5b7d2a'];
const QUEUES = [['off', 'No waiting room'], ['auto', 'By itself, when too many come'], ['on', 'Always']];

export function eventForm(page) {
  const { id } = page.params;
  page.title(id ? 'Edit event' : 'New event');
  page.view = () => [heading({ title: id ? 'Edit event' : 'New event' }), signInFirst('organiser', 'Events belong to somebody: sign in first.')];
  if (signInFirst('organiser', '')) return;
  const state = { form: id ? null : blank(), problem: null, busy: false, tried: false, categories: [], planOf: undefined, before: null };
  const context = { page, state, id, venues: venueFeed(page), plans: planFeed(page), existing: id ? page.feed((signal) => get(path('organiser', 'events', id), signal), () => null) : null, performers: page.feed((signal) => getAll('/organiser/performers', signal), () => null) };
  page.view = () => view(context);
}

function view(context) {
  const { page, state, id, venues, plans, existing, performers } = context;
  if (existing && isMissing(existing)) return [heading({ title: 'No such event', crumbs: [['Organiser', '#/tickets/organiser']] }), empty('There is no event at this address', 'Or it is another organiser’s.')];
  if (!state.form && existing?.data && venues.data && performers.data) {
    state.before = existing.data;
    state.form = filled(existing.data, venues.data.items, performers.data.items);
  }
  if (state.form && state.planOf !== state.form.plan) loadCategories(context);
  return [
    heading({ title: id ? 'Edit event' : 'New event', crumbs: [['Organiser', '#/tickets/organiser'], ...(id && state.before ? [[state.before.name, manageLink(id)]] : [])] }),
    troubles(...[venues, plans, performers, existing].filter(Boolean)),
    (!state.form || !venues.data || !plans.data) && loading(6),
    state.form && venues.data && plans.data && theForm(context),
  ];
}

function blank() {
  return {
    name: '', kind: 'concert', description: '', performers: '', venue: '', plan: '', currency: 'EUR',
    starts: '', doors: '', ends: '', onSale: '', offSale: '',
    levels: [{ name: 'Standard', price: '40', color: COLORS[0], categories: new Set() }], areas: [],
    maxPerCustomer: '8', holdMinutes: '10', noOrphans: false, transferable: true, refundable: '', queue: 'auto', perMinute: '', maxInside: '2000',
  };
}

/** From what the server has: venue and performers by id, prices in minor units. */
function filled(event, venues, performers) {
  const zone = venues.find((venue) => venue.id === event.venue)?.timezone;
  const { rules, queue } = event;
  return {
    ...blank(),
    name: event.name, kind: event.kind, description: event.description, performers: event.performers.map((one) => performers.find((known) => known.id === one)?.name ?? one).join(', '),
    venue: event.venue, plan: event.plan ?? '', currency: event.currency,
    starts: toField(event.starts_at, zone), doors: toField(event.doors_at, zone), ends: toField(event.ends_at, zone), onSale: toField(event.on_sale_at, zone), offSale: toField(event.off_sale_at, zone),
    levels: event.price_levels.map((level) => ({ key: level.key, name: level.name, price: majorUnits(level.price, event.currency), color: level.color, categories: new Set(level.categories) })),
    areas: event.areas.map(({ key, name, capacity, price_level: level }) => ({ key, name, capacity: String(capacity), level })),
    maxPerCustomer: String(rules.max_per_customer), holdMinutes: String(rules.hold_ttl_s / 60), noOrphans: rules.no_orphans, transferable: rules.transferable,
    refundable: rules.refundable_until_h === null || rules.refundable_until_h === undefined ? '' : String(rules.refundable_until_h),
    queue: queue.mode, perMinute: queue.admit_per_minute ? String(queue.admit_per_minute) : '', maxInside: String(queue.max_inside), queueBefore: queue,
  };
}

/** The categories of the chosen plan, which the price levels share among them. */
async function loadCategories({ page, state }) {
  const { form } = state;
  const plan = form.plan;
  state.planOf = plan;
  state.categories = [];
  if (!plan) return;
  try {
    const answer = await get(path('organiser', 'plans', plan));
    if (state.planOf !== plan) return;
    state.categories = answer.categories;
  } catch (problem) {
    state.problem = problem;
    page.render();
    return;
  }
  const known = new Set(form.levels.flatMap(({ categories }) => [...categories]));
  if (!state.categories.some(({ name }) => known.has(name))) {
    form.levels = state.categories.map(({ name, color }, index) => ({ name, price: form.levels[index]?.price ?? '40', color: color ?? COLORS[index % COLORS.length], categories: new Set([name]) }));
  }
  page.render();
}

function theForm(context) {
  const { page, state, id, venues, plans } = context;
  const { form } = state;
  const venue = venues.data.items.find((one) => one.id === form.venue);
  const zone = venue?.timezone ?? 'UTC';
  const fault = check(form, state.categories);
  const moment = (name, label, note) => text(page, form, name, label, { note, type: 'datetime-local', max: '9999-12-31T23:59' });
  return h('form', {
    class: 'event-form', novalidate: true,
    onsubmit: (event) => {
      event.preventDefault();
      state.tried = true;
      if (!check(form, state.categories) && !state.busy) save(context, zone);
      else page.render();
    },
  },
  section('What and where', h('div', { class: 'card fields' },
    text(page, form, 'name', 'Name', { maxlength: '200' }),
    select(page, form, 'kind', 'Kind', [...new Set([form.kind, ...KINDS])].map((kind) => [kind, kind])),
    text(page, form, 'performers', 'Performers', { note: 'with commas between them' }),
    h('div', { class: 'field', key: 'venue' }, select(page, form, 'venue', 'Venue', [['', 'Choose…'], ...venues.data.items.map((one) => [one.id, `${one.name}, ${one.city}`])]),
      h('button', { type: 'button', class: 'plain', onclick: () => venueDialog((made) => { form.venue = made.id; venues.refresh(); }) }, 'New venue')),
    h('div', { class: 'field', key: 'plan' }, select(page, form, 'plan', 'Seat plan', [['', 'None: general admission only'], ...plans.data.items.map((one) => [one.id, `${one.name} (${one.seats})`])]),
      h('a', { href: '#/tickets/organiser/plans' }, 'New seat plan')),
    select(page, form, 'currency', 'Currency', [...new Set([form.currency, ...CURRENCIES])].map((code) => [code, code])),
    area(page, form, 'description', 'Description'))),
  section('When', h('div', { class: 'card fields' },
    moment('starts', 'Starts'), moment('doors', 'Doors open', 'optional'), moment('ends', 'Ends', 'optional'), moment('onSale', 'On sale from', 'at once if empty'), moment('offSale', 'On sale until', 'the start if empty')),
  { note: `On the venue’s clock: ${zone}.` }),
  section('Prices', h('div', { class: 'card stack-small' }, priceLevels(page, form, state.categories))),
  section('General admission', h('div', { class: 'card stack-small' }, areas(page, form)), { note: 'Places without numbers, beside the seats or instead of them.' }),
  section('Rules and waiting room', h('div', { class: 'card fields' },
    text(page, form, 'maxPerCustomer', 'Tickets a customer, at most', { inputmode: 'numeric' }),
    text(page, form, 'holdMinutes', 'Minutes to pay', { inputmode: 'numeric' }),
    text(page, form, 'refundable', 'Refunds until, hours before', { note: 'never if empty', inputmode: 'numeric' }),
    select(page, form, 'queue', 'Waiting room', QUEUES),
    form.queue !== 'off' && text(page, form, 'perMinute', 'Let in a minute', { note: 'as many as fit if empty', inputmode: 'numeric' }),
    form.queue !== 'off' && text(page, form, 'maxInside', 'Inside at a time, at most', { inputmode: 'numeric' }),
    h('div', { class: 'ticks', key: 'ticks' }, tick(page, form, 'noOrphans', 'Leave no single seats'), tick(page, form, 'transferable', 'Tickets may be passed on')))),
  refusal(state.tried && fault ? { message: fault } : state.problem),
  h('div', { class: 'actions' },
    h('button', { type: 'submit', class: 'button primary', disabled: state.busy }, state.busy ? 'Saving…' : id ? 'Save changes' : 'Create as a draft'),
    h('a', { class: 'button', href: id ? manageLink(id) : '#/tickets/organiser' }, 'Leave')));
}

function priceLevels(page, form, categories) {
  const taken = (name) => form.levels.find((level) => level.categories.has(name));
  return [
    h('ul', { class: 'form-rows' }, form.levels.map((level, index) => h('li', { key: index },
      h('input', { type: 'color', 'aria-label': 'Colour on the map', value: level.color, oninput: (event) => { level.color = event.target.value; } }),
      text(page, level, 'name', 'Level'),
      text(page, level, 'price', `Price, ${form.currency}`, { inputmode: 'decimal' }),
      categories.length > 0 && h('div', { class: 'field grow' }, h('span', null, 'Seats of'), h('div', { class: 'pills' }, h('ul', null, categories.map(({ name }) => h('li', { key: name }, h('button', {
        type: 'button', class: 'pill', 'aria-pressed': String(level.categories.has(name)),
        onclick: () => {
          const holder = taken(name);
          holder?.categories.delete(name);
          if (holder !== level) level.categories.add(name);
          page.render();
        },
      }, name)))))),
      button('Remove', () => { form.levels.splice(index, 1); page.render(); }, { kind: 'small', disabled: form.levels.length === 1, label: `Remove ${level.name}` })))),
    h('div', null, button('Another price level', () => { form.levels.push({ name: '', price: '', color: COLORS[form.levels.length % COLORS.length], categories: new Set() }); page.render(); }, { kind: 'small', shape: 'plus' })),
  ];
}

function areas(page, form) {
  return [
    form.areas.length > 0 && h('ul', { class: 'form-rows' }, form.areas.map((one, index) => h('li', { key: index },
      text(page, one, 'name', 'Area'), text(page, one, 'capacity', 'Places', { inputmode: 'numeric' }),
      select(page, one, 'level', 'Price level', [['', 'Choose…'], ...form.levels.map((level, at) => [keyOf(level, at, form.levels), level.name])]),
      button('Remove', () => { form.areas.splice(index, 1); page.render(); }, { kind: 'small', label: `Remove ${one.name}` })))),
    h('div', null, button('Another area', () => { form.areas.push({ name: '', capacity: '', level: keyOf(form.levels[0], 0, form.levels) }); page.render(); }, { kind: 'small', shape: 'plus' })),
  ];
}

/** Keys are made from names and kept once they are there: what was sold refers to them. */
function keyOf({ key, name }, index, all) {
  if (key) return key;
  const stem = name.normalize('NFD').toLowerCase().replaceAll(/[^a-z0-9]+/g, '-').replaceAll(/^-|-$/g, '') || `level-${index + 1}`;
  return all.some((other, at) => at !== index && (other.key === stem || (!other.key && at < index && other.name === name))) ? `${stem}-${index + 1}` : stem;
}

const whole = (value, least, most) => /^\d+$/.test(value.trim()) && Number(value) >= least && Number(value) <= most;

function check(form, categories) {
  if (!form.name.trim()) return 'The event has no name yet.';
  if (!form.venue) return 'Choose a venue.';
  if (!form.starts) return 'Say when it starts.';
  if (!form.plan && form.areas.length === 0) return 'There is nothing to sell: choose a seat plan, or add an area of general admission.';
  for (const level of form.levels) {
    if (!level.name.trim()) return 'A price level has no name.';
    if (minorUnits(level.price, form.currency) === null) return `The price of “${level.name}” is not an amount: write 40 or 40.50.`;
  }
  const without = categories.filter(({ name }) => !form.levels.some((level) => level.categories.has(name)));
  if (without.length > 0) return `Seats of “${without[0].name}” have no price: give them to a price level.`;
  for (const one of form.areas) {
    if (!one.name.trim() || !whole(one.capacity, 1, 250_000)) return 'An area has a name and 1 to 250,000 places.';
    if (!form.levels.some((level, index) => keyOf(level, index, form.levels) === one.level)) return `Choose a price level for “${one.name}”.`;
  }
  if (!whole(form.maxPerCustomer, 1, 1000)) return 'Tickets a customer: 1 to 1,000.';
  if (!whole(form.holdMinutes, 1, 120)) return 'Minutes to pay: 1 to 120.';
  if (form.refundable && !whole(form.refundable, 0, 100_000)) return 'Refunds until: whole hours before the start, or nothing.';
  if (form.queue !== 'off' && ((form.perMinute && !whole(form.perMinute, 1, 10_000_000)) || !whole(form.maxInside, 1, 10_000_000))) return 'The waiting room lets in whole numbers of people.';
  return null;
}

async function save({ page, state, id }, zone) {
  const { form } = state;
  Object.assign(state, { busy: true, problem: null });
  page.render();
  try {
    const body = bodyOf(form, zone);
    body.performers = await performersOf(form.performers, state.before?.performers ?? []);
    const saved = id ? await send(path('organiser', 'events', id), body, { method: 'PUT', version: state.before.version }) : await send('/organiser/events', body);
    toast(id ? `${saved.name} is saved.` : `${saved.name} is there, as a draft: publish it when it is ready.`);
    location.hash = manageLink(saved.id);
  } catch (problem) {
    state.problem = problem;
  }
  state.busy = false;
  page.render();
}

function bodyOf(form, zone) {
  const number = (value) => (value.trim() === '' ? null : Number(value));
  return {
    name: form.name.trim(), kind: form.kind, description: form.description.trim(), venue: form.venue, seated: form.plan !== '', plan: form.plan || null, currency: form.currency,
    starts_at: fromField(form.starts, zone), doors_at: fromField(form.doors, zone), ends_at: fromField(form.ends, zone), on_sale_at: fromField(form.onSale, zone), off_sale_at: fromField(form.offSale, zone),
    price_levels: form.levels.map((level, index) => ({ key: keyOf(level, index, form.levels), name: level.name.trim(), price: minorUnits(level.price, form.currency), color: level.color, categories: [...level.categories] })),
    areas: form.areas.map((one, index) => ({ key: keyOf(one, index, form.areas), name: one.name.trim(), capacity: Number(one.capacity), price_level: one.level })),
    rules: { max_per_customer: Number(form.maxPerCustomer), hold_ttl_s: Number(form.holdMinutes) * 60, no_orphans: form.noOrphans, transferable: form.transferable, refundable_until_h: number(form.refundable) },
    queue: form.queue === 'off' ? { ...form.queueBefore, mode: 'off' } : { ...form.queueBefore, mode: form.queue, admit_per_minute: number(form.perMinute), max_inside: Number(form.maxInside) },
  };
}

/** Ids of performers by name; those that are not there yet are made. One whose name is not known is shown by its id. */
async function performersOf(names, before) {
  const wanted = [...new Set(names.split(',').map((name) => name.trim()).filter(Boolean))];
  if (wanted.length === 0) return [];
  const { items } = await getAll('/organiser/performers');
  const ids = [];
  for (const name of wanted) {
    if (before.includes(name)) {
      ids.push(name);
      continue;
    }
    const known = items.find((one) => one.name === name);
    ids.push((known ?? await send('/organiser/performers', { name })).id);
  }
  return ids;
}
