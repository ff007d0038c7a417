// Tickets › Organiser › Seat plans: from a file, or from the generator. Either is looked at before events use it.

import { get, getAll, path, SLOW_MS } from '../../api.js';
import { h } from '../../dom.js';
import { count } from '../../format.js';
import { send } from '../../intents.js';
import { banner, button, choices, empty, heading, loading, section, table, toast, troubles } from '../../parts.js';
import { signInFirst } from '../../pages/sign-in.js';
import { organiserTabs } from './events.js';
import { refusal, text } from './fields.js';
import { geometryOf, preview } from './preview.js';

/** As the server takes: larger files are not read. */
const MAX_FILE_BYTES = 32 * 1024 * 1024;
/** Name, words, seats to begin with, fewest and most. */
const KINDS = [['theatre', 'Theatre', 600, 50, 6000], ['arena', 'Arena', 12_000, 500, 40_000], ['stadium', 'Stadium', 50_000, 2000, 150_000]];

export function planFeed(page) {
  return page.feed((signal) => getAll('/organiser/plans', signal), 15_000);
}

export function plans(page) {
  page.title('Seat plans');
  page.view = () => [heading({ title: 'Organiser' }), signInFirst('organiser', 'Seat plans belong to somebody: sign in to see yours.')];
  if (signInFirst('organiser', '')) return;
  const feed = planFeed(page);
  const state = { way: 'file', file: null, plan: null, problem: null, busy: false, shown: null, form: { kind: 'theatre', seats: '600', name: '' } };
  page.view = () => [
    heading({ title: 'Organiser' }),
    organiserTabs('plans'),
    section('New seat plan', h('div', { class: 'card stack-small' },
      h('div', null, choices('From', [['file', 'From a file'], ['generate', 'Generate one']], state.way, (way) => { Object.assign(state, { way, problem: null, plan: null, file: null }); page.render(); })),
      state.way === 'file' ? fromFile(page, state, feed) : generator(page, state, feed))),
    state.shown && section(state.shown.name, preview(page, state.shown.plan)),
    troubles(feed),
    feed.waiting && loading(3),
    feed.data && section('Your seat plans', feed.data.items.length === 0
      ? empty('No seat plans yet', 'Upload a plan file or generate one above. Events of general admission need none.')
      : planTable(page, state, feed.data.items)),
  ];
}

function fromFile(page, state, feed) {
  return [
    h('p', { class: 'muted' }, 'A seating plan as JSON: zones, rows and seats with positions and categories, as pretix and others export it.'),
    h('label', { class: 'field' }, h('span', null, 'Plan file'), h('input', { type: 'file', accept: '.json,application/json', onchange: (event) => readFile(page, state, feed, event.target.files[0]) })),
    state.problem && banner({ title: state.file ? `${state.file.name} cannot be used` : 'The file cannot be used', text: state.problem.message, code: state.problem.code ? state.problem : undefined }),
    state.plan && preview(page, state.plan),
    state.file && state.plan && h('div', { class: 'actions' }, button(state.busy ? 'Uploading…' : 'Create the seat plan', () => create(page, state, feed, state.file.text), { kind: 'primary', disabled: state.busy, name: 'create-plan' })),
  ];
}

async function readFile(page, state, feed, file) {
  Object.assign(state, { file: null, plan: null, problem: null });
  if (file) {
    try {
      if (file.size > MAX_FILE_BYTES) throw new Error('It is larger than 32 MiB, more than any plan needs.');
      state.file = { name: file.name, text: await file.text() };
      state.plan = geometryOf(JSON.parse(state.file.text));
    } catch (problem) {
      state.problem = problem;
    }
    // What is no JSON at all the server refuses too, and names the line.
    if (state.problem instanceof SyntaxError) await create(page, state, feed, state.file.text);
  }
  page.render();
}

function generator(page, state, feed) {
  const { form } = state;
  const seats = Number(form.seats);
  const [, words, , least, most] = KINDS.find(([kind]) => kind === form.kind);
  const fault = Number.isInteger(seats) && seats >= least && seats <= most ? null : { message: `A ${words.toLowerCase()} has ${count(least)} to ${count(most)} seats.` };
  return h('form', {
    class: 'stack-small',
    onsubmit: (event) => {
      event.preventDefault();
      if (!fault) create(page, state, feed, { generate: { kind: form.kind, seats, name: form.name.trim() || undefined } });
    },
  },
  h('div', null, choices('Kind', KINDS.map(([kind, name]) => [kind, name]), form.kind, (kind) => { form.kind = kind; form.seats = String(KINDS.find(([name]) => name === kind)[2]); page.render(); })),
  h('div', { class: 'fields' }, text(page, form, 'seats', 'Seats', { inputmode: 'numeric' }), text(page, form, 'name', 'Name', { note: 'optional' })),
  refusal(fault ?? state.problem),
  h('div', null, h('button', { type: 'submit', class: 'button primary', disabled: state.busy || fault !== null }, state.busy ? 'Generating…' : 'Generate')));
}

async function create(page, state, feed, body) {
  Object.assign(state, { busy: true, problem: null });
  page.render();
  try {
    const made = await send('/organiser/plans', body, { deadlineMs: SLOW_MS });
    toast(`${made.name} is there, with ${count(made.seats)} seats.`);
    Object.assign(state, { file: null, plan: null });
    feed.refresh();
    await show(page, state, made);
  } catch (problem) {
    state.problem = problem;
  }
  state.busy = false;
  page.render();
}

async function show(page, state, { id, name }) {
  try {
    const answer = await get(path('organiser', 'plans', id));
    state.shown = { name, plan: geometryOf(answer) };
  } catch (problem) {
    toast(`${name} cannot be shown: ${problem.message}`);
  }
  page.render();
}

function planTable(page, state, rows) {
  return table({
    label: 'Seat plans',
    rows,
    key: ({ id }) => id,
    columns: [
      { label: 'Plan', main: true, cell: (one) => h('span', { class: 'break strong' }, one.name) },
      { label: 'Seats', numeric: true, cell: (one) => count(one.seats) },
      { label: '', cell: (one) => h('div', { class: 'actions' }, button('Look', () => show(page, state, one), { kind: 'small', label: `Look at ${one.name}` })) },
    ],
  });
}
