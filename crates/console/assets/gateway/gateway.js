// Gateway: what passes through the door now, how the services behind it are, and what the config last changed.

import { get, path } from '../api.js';
import { h } from '../dom.js';
import { compact, count, percent } from '../format.js';
import { send } from '../intents.js';
import { badge, banner, button, empty, facts, heading, loading, section, table, troubles } from '../parts.js';
import { signInFirst } from '../pages/sign-in.js';

const LIVE_MS = 2000;
const CONFIG_MS = 10_000;
/** Rates and times are those of so many looks. */
const WINDOW = 5;

export function gateway(page) {
  page.title('Gateway');
  const refused = signInFirst('operator', 'Only an operator sees what passes through the gateway.');
  page.view = () => [heading({ title: 'Gateway' }), refused];
  if (refused) return;
  const state = { looks: [], problem: null, busy: new Set(), page };
  const feeds = {
    status: page.feed((signal) => get('/gateway/status', signal), LIVE_MS),
    routes: page.feed(async (signal) => look(state, (await get('/gateway/routes', signal)).items), LIVE_MS),
    upstreams: page.feed((signal) => get('/gateway/upstreams', signal), LIVE_MS),
    config: page.feed((signal) => get('/gateway/config', signal), CONFIG_MS),
  };
  state.feeds = feeds;
  page.view = () => {
    if (feeds.status.problem?.status === 404) {
      return [heading({ title: 'Gateway' }), empty('No gateway serves here', 'Start one with `tessera up`, or with a file of routes: `tessera serve gateway --gateway FILE`.')];
    }
    const status = feeds.status.data;
    return [
      heading({ title: 'Gateway', under: status && h('span', null, status.listeners.join(' · ')) }),
      troubles(feeds.status, feeds.routes, feeds.upstreams, feeds.config),
      state.problem && banner({ title: state.problem.title, text: state.problem.message, code: state.problem }),
      status?.config_refused && banner({ title: 'The config file as it is now was refused; the last good one serves', text: status.config_refused }),
      status && feeds.routes.data ? tiles(status, feeds.routes.data) : loading(2),
      feeds.routes.data && routes(feeds.routes.data, status),
      feeds.upstreams.data && upstreams(state, feeds.upstreams.data.items),
      feeds.config.data && config(state, feeds.config.data),
    ];
  };
}

/** Remembers what was counted, and gives each route with what was counted since the window began. */
function look(state, items) {
  state.looks.push({ at: performance.now(), routes: new Map(items.map((route) => [route.name, route])) });
  if (state.looks.length > WINDOW) state.looks.shift();
  const [first, last] = [state.looks[0], state.looks[state.looks.length - 1]];
  const seconds = (last.at - first.at) / 1000;
  return items.map((route) => {
    const before = first.routes.get(route.name);
    const since = (key) => Math.max(0, route[key] - (before?.[key] ?? 0));
    return {
      ...route,
      rate: seconds > 0 ? since('requests') / seconds : null,
      recent: { requests: since('requests'), client_errors: since('client_errors'), server_errors: since('server_errors') },
      times: route.buckets.map((number, index) => Math.max(0, number - (before?.buckets[index] ?? 0))),
    };
  });
}

/** The bound below which this share of answers stayed; none without answers. */
function percentile(buckets, bounds, share) {
  const all = buckets.reduce((sum, number) => sum + number, 0);
  if (all === 0) return null;
  let seen = 0;
  const at = buckets.findIndex((number) => (seen += number) >= all * share);
  return at < bounds.length ? `≤ ${span(bounds[at])}` : `> ${span(bounds[bounds.length - 1])}`;
}

function span(ms) {
  return ms < 1000 ? `${ms} ms` : `${ms / 1000} s`;
}

function tiles(status, list) {
  const sum = (pick) => list.reduce((total, route) => total + pick(route), 0);
  const recent = sum((route) => route.recent.requests);
  const share = (key) => (recent > 0 ? percent(sum((route) => route.recent[key]) / recent) : 'none');
  const times = status.bounds_ms.concat(Infinity).map((_, index) => sum((route) => route.times[index] ?? 0));
  const tile = (name, value, under) => h('div', { class: 'tile', key: name }, h('dt', null, name), h('dd', null, value, h('p', { class: 'tile-under' }, under)));
  return h('dl', { class: 'tiles' },
    tile('Requests a second', compact(sum((route) => route.rate ?? 0)), `${count(sum((route) => route.requests))} since the start`),
    tile('Half of the answers', percentile(times, status.bounds_ms, 0.5) ?? 'none', '99 of 100: ' + (percentile(times, status.bounds_ms, 0.99) ?? 'none')),
    tile('Failed', share('server_errors'), `refused: ${share('client_errors')}`),
    tile('Connections', count(status.connections), 'open now'),
    tile('Limits hit', count(status.limits_hit), 'since the start'),
    status.cache && tile('From the cache', percent(status.cache.hits / Math.max(1, status.cache.requests)), `${count(status.cache.hits)} of ${count(status.cache.requests)} answers`));
}

function routes(list, status) {
  const time = (share) => (route) => (status && percentile(route.times, status.bounds_ms, share)) ?? '–';
  return section('Routes', table({
    label: 'Routes',
    rows: list,
    key: ({ name }) => name,
    columns: [
      { label: 'Route', main: true, cell: ({ name, path: taken }) => [h('span', null, name), ' ', h('code', { class: 'muted break' }, taken)] },
      { label: 'To', cell: ({ to }) => h('span', { class: 'break' }, to) },
      { label: 'Each second', numeric: true, cell: ({ rate }) => (rate === null ? '–' : compact(rate)) },
      { label: 'Half within', numeric: true, cell: time(0.5) },
      { label: '99 of 100', numeric: true, cell: time(0.99) },
      { label: 'Refused', numeric: true, cell: ({ client_errors: number }) => count(number) },
      { label: 'Failed', numeric: true, cell: ({ server_errors: number }) => count(number) },
      { label: 'All', numeric: true, cell: ({ requests }) => count(requests) },
    ],
  }), { note: 'Rates and times are of the last seconds; refused (4xx), failed (5xx) and all are counted since the start.' });
}

function upstreams(state, list) {
  return section('Services behind', list.map((upstream) => h('div', { class: 'card', key: upstream.name },
    facts([
      ['Service', upstream.name],
      ['State', badge(upstream.breaker_open ? 'left_alone' : 'serving')],
      ['Requests under way', count(upstream.requests_at_once)],
      upstream.in_process && ['Where', 'in this process'],
    ]),
    upstream.endpoints.length > 0 && table({
      label: `Endpoints of ${upstream.name}`,
      rows: upstream.endpoints,
      key: ({ url }) => url,
      columns: [
        { label: 'Endpoint', main: true, cell: ({ url }) => h('code', { class: 'break' }, url) },
        { label: 'State', cell: (endpoint) => badge(stateOf(endpoint)) },
        { label: 'Weight', numeric: true, cell: ({ weight }) => count(weight) },
        { label: 'Under way', numeric: true, cell: ({ requests_at_once: number }) => count(number) },
        { label: 'Expected', numeric: true, cell: ({ expected_ms: ms }) => span(Math.round(ms * 10) / 10) },
        { label: '', cell: (endpoint) => drainButton(state, upstream, endpoint) },
      ],
    }))));
}

function stateOf({ drained, well, paused }) {
  if (drained) return 'drained';
  if (!well) return 'unwell';
  return paused ? 'left_alone' : 'serving';
}

function drainButton(state, upstream, { url, drained }) {
  const key = `${upstream.name} ${url}`;
  return button(drained ? 'Use again' : 'Drain', () => act(state, key, async () => {
    await send(path('gateway', 'upstreams', upstream.name, 'drain'), { url, drained: !drained });
    state.feeds.upstreams.refresh();
  }), { kind: 'small', disabled: state.busy.has(key), label: `${drained ? 'Use' : 'Drain'} ${url}` });
}

function config(state, { number, changed }) {
  const short = (value) => (value === null ? h('span', { class: 'muted' }, 'nothing') : h('code', { class: 'break' }, typeof value === 'string' ? value : JSON.stringify(value)));
  return section('Config', changed.length === 0
    ? empty(number === 1 ? 'The config it was started with' : 'The last reload changed nothing', 'A changed file is read by itself within a second; one that is wrong is refused and said here.')
    : table({
      label: 'What the last config changed',
      rows: changed,
      key: ({ pointer }) => pointer,
      columns: [
        { label: 'Key', main: true, cell: ({ pointer }) => h('code', { class: 'break' }, pointer) },
        { label: 'Before', cell: ({ before }) => short(before) },
        { label: 'Now', cell: ({ after }) => short(after) },
      ],
    }), {
    beside: button('Read the file again', () => act(state, 'reload', async () => {
      await send('/gateway/reload', undefined);
      state.feeds.config.refresh();
    }), { kind: 'small', disabled: state.busy.has('reload') }),
    note: `Number ${number} since the start.`,
  });
}

async function act(state, key, work) {
  state.busy.add(key);
  state.problem = null;
  state.page.render();
  try {
    await work();
  } catch (problem) {
    state.problem = problem;
  }
  state.busy.delete(key);
  state.page.render();
}
