// Home: what runs here, and whether anything needs a person.

import { get, serverNow, withQuery } from '../api.js';
import { h } from '../dom.js';
import { count, counted, duration, stamp } from '../format.js';
import { pipelineLink } from '../actions.js';
import { badge, empty, facts, heading, loading, moment, prose, section, table, troubles } from '../parts.js';
import { hasRole, whoami } from '../session.js';
import { eventCard } from '../tickets/search.js';
import { everyPipeline, needsAttention } from './pipelines.js';

const ENDPOINTS = [
  ['/openapi.json', 'API description', 'OpenAPI 3.1'],
  ['/metrics', 'Metrics', 'Prometheus text'],
  ['/healthz', 'Health', 'the process lives'],
  ['/readyz', 'Readiness', 'it can take work'],
];
const ATTENTION_SHOWN = 5;
const EVENTS_SHOWN = 3;

export function home(page) {
  page.title('Home');
  const parts = page.feed((signal) => get('/components', signal), 2000);
  let pipelines = null;
  let events = null;

  page.view = () => {
    const ingestRuns = parts.data?.components.some(isIngest);
    if (ingestRuns && hasRole('operator') && !pipelines) pipelines = page.feed(everyPipeline, 2000);
    const ticketsRun = parts.data?.components.some(isTickets);
    if (ticketsRun && !events) events = page.feed((signal) => get(withQuery('/search', { sort: 'date', limit: EVENTS_SHOWN }), signal), 10_000);
    return [
      heading({ title: 'What runs here', under: parts.data && h('span', null, location.host) }),
      troubles(parts),
      parts.waiting && loading(5),
      parts.data && [
        summary(parts.data),
        events && ticketsCard(events),
        parts.data.components.some(isRides) && ridesCard(),
        ingestRuns && ingestCard(pipelines),
        components(parts.data.components),
        endpoints(),
      ],
    ];
  };
}

function isIngest({ name, role }) {
  return role === 'ingest' || name.startsWith('ingest');
}

function isTickets({ name, role }) {
  return role === 'tickets' || name.startsWith('tickets');
}

function isRides({ name, role }) {
  return role.startsWith('rides') || name.startsWith('rides');
}

function summary({ version, started_at, components }) {
  const ready = components.filter((component) => component.ready).length;
  return facts([
    ['Version', version],
    ['Up for', duration((serverNow() - Date.parse(started_at)) / 1000)],
    ['Started', h('time', { datetime: started_at }, `${stamp(started_at, serverNow())} UTC`)],
    ['Ready', `${ready} of ${components.length}`],
  ]);
}

function ticketsCard(feed) {
  return section('Tickets', [
    feed.problem && h('p', { class: 'field-error' }, prose(feed.problem.message)),
    feed.waiting && loading(2),
    feed.data && (feed.data.items.length === 0
      ? empty('No events yet', 'An organiser makes them: a venue, a seat plan, prices.', h('a', { class: 'button', href: '#/tickets/organiser' }, 'To the organiser’s pages'))
      : h('ul', { class: 'event-cards' }, feed.data.items.map((one) => h('li', { key: one.id }, eventCard(one))))),
  ], { beside: h('a', { class: 'button small', href: '#/tickets' }, feed.data?.total > EVENTS_SHOWN ? `All ${count(feed.data.total)} events` : 'All events') });
}

function ridesCard() {
  const pages = [['#/rides', 'Ride', 'where to, what it costs, and the car that comes'], ['#/rides/driver', 'Drive', 'a shift, offers, the way'], ['#/rides/operator', 'Operator', 'drivers, lines, prices and rides on the map']];
  return section('Rides', h('ul', { class: 'links' }, pages.map(([href, name, note]) =>
    h('li', { key: href }, h('a', { href }, name), h('span', null), h('span', { class: 'muted' }, note)))));
}

/** Without `feed` for somebody who is no operator. */
function ingestCard(feed) {
  if (!feed) {
    const href = `#/sign-in?back=${encodeURIComponent('#/ingest/pipelines')}`;
    return section('Ingest', h('div', { class: 'card product' },
      h('p', null, 'Pipelines and their runs are for operators. ', h('a', { href }, whoami() ? 'Switch person' : 'Sign in'))));
  }
  return section('Ingest', h('div', { class: 'card product' },
    feed.problem && h('p', { class: 'field-error' }, prose(feed.problem.message)),
    feed.waiting && loading(2),
    feed.data && ingestState(feed.data.items)),
  { beside: h('a', { class: 'button small', href: '#/ingest/pipelines' }, 'All pipelines') });
}

function ingestState(pipelines) {
  if (pipelines.length === 0) {
    return empty('No pipelines yet', 'Write a pipeline file into the folder that ingest watches; `tessera ingest init URL` drafts one from an API.');
  }
  const attention = pipelines.filter(needsAttention);
  const running = pipelines.filter(({ status }) => status === 'running');
  const next = pipelines.map((one) => one.next_run_at).filter(Boolean).sort()[0];
  return [
    facts([
      ['Pipelines', h('a', { href: '#/ingest/pipelines' }, String(pipelines.length))],
      ['Running', h('a', { href: '#/ingest/pipelines?show=running' }, String(running.length))],
      ['Need attention', h('a', { href: '#/ingest/pipelines?show=attention', class: attention.length ? 'tone-bad' : undefined }, String(attention.length))],
      ['Next run', next ? moment(next) : null],
    ]),
    attention.length > 0 && h('ul', { class: 'plain-list', 'aria-label': 'Pipelines that need attention' },
      attention.slice(0, ATTENTION_SHOWN).map((one) => h('li', { key: one.name }, badge(one.status), one.sla_status === 'missed' && one.status !== 'late' && badge('missed'),
        h('a', { href: pipelineLink(one.name), class: 'break' }, one.name), h('span', { class: 'muted break' }, one.owner)))),
    attention.length > ATTENTION_SHOWN && h('p', { class: 'muted' }, h('a', { href: '#/ingest/pipelines?show=attention' }, `and ${attention.length - ATTENTION_SHOWN} more`)),
  ];
}

function components(list) {
  return section('Components', list.length === 0
    ? empty('Nothing runs', 'This process answers, but it was started without any role.')
    : table({
      label: 'Components',
      rows: list,
      key: ({ name, role, address }) => `${role} ${name} ${address}`,
      columns: [
        { label: 'Component', main: true, cell: ({ name }) => name },
        { label: 'Role', cell: ({ role }) => role },
        { label: 'Address', cell: ({ address }) => h('code', { class: 'address' }, address) },
        { label: 'State', cell: ({ ready }) => badge(ready ? 'ready' : 'not_ready') },
        { label: 'Detail', wide: true, hide: list.every(({ detail }) => !detail), cell: ({ detail }) => (detail ? prose(detail) : null) },
      ],
    }), { beside: h('span', { class: 'muted' }, counted(list.length, 'component')) });
}

function endpoints() {
  return section('For programs', h('ul', { class: 'links' }, ENDPOINTS.map(([href, name, note]) =>
    h('li', { key: href }, h('a', { href }, name), h('code', null, href), h('span', { class: 'muted' }, note)))));
}
