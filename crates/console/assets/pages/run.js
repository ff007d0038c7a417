// Ingest › one run, live: how far each resource is, how fast, what the API makes it wait for, and what to do when it fails.

import { get, path, serverNow } from '../api.js';
import { cancelDialog, pipelineLink, refusal, runButtons } from '../actions.js';
import { h } from '../dom.js';
import { bytes, compact, count, counted, duration, NONE, percent, secondsBetween, stamp } from '../format.js';
import { badge, banner, button, empty, facts, heading, isMissing, loading, moment, progress, prose, section, table, toast, troubles } from '../parts.js';
import { spark } from '../plot.js';

const OVER = new Set(['succeeded', 'failed', 'gate_failed', 'stopped']);
const SAMPLES = 120;

export function run(page) {
  const { id } = page.params;
  page.title('Run');
  const speeds = [];
  const feed = page.feed((signal) => get(path('ingest', 'runs', id), signal), (data) => {
    if (!data) return 1000;
    if (OVER.has(data.status)) return null;
    return 1000;
  });
  let sampled = null;
  page.view = () => {
    if (isMissing(feed)) {
      return [heading({ title: id, crumbs: [['Ingest', '#/ingest/pipelines'], ['Runs', '#/ingest/runs']] }),
        empty('No such run', 'It may be older than what is kept.', h('a', { class: 'button', href: '#/ingest/runs' }, 'To the runs'))];
    }
    const data = feed.data;
    if (data && data !== sampled) {
      sampled = data;
      if (data.status === 'running') speeds.push(data.rows_per_second ?? 0);
      if (speeds.length > SAMPLES) speeds.shift();
      page.title(`${data.pipeline} run`);
    }
    return [
      runHeading(page, feed, id),
      troubles(feed),
      refusal(page),
      feed.waiting && loading(6),
      data && [outcome(data), tiles(data, speeds), resources(data), about(data)],
    ];
  };
}

function runHeading(page, feed, id) {
  const data = feed.data;
  const over = data && OVER.has(data.status);
  return heading({
    title: data ? `${data.run_type === 'backfill' ? 'Backfill' : 'Incremental run'} of ${data.pipeline}` : id,
    crumbs: [['Ingest', '#/ingest/pipelines'], ...(data ? [[data.pipeline, pipelineLink(data.pipeline)]] : []), ['Runs', '#/ingest/runs']],
    beside: data && badge(data.status),
    actions: data && (over
      ? runButtons({ name: data.pipeline, resources: data.resources }, page, (started) => { location.hash = path('ingest', 'runs', started.id); })
      : button('Cancel', () => cancelDialog(data, () => { toast('Cancelling. What is in flight is finished first.'); feed.refresh(); }), { shape: 'stop', kind: 'danger', name: 'cancel' })),
    under: data && [`Started by ${data.trigger}, `, moment(data.started_at)],
  });
}

function outcome(data) {
  if (data.status === 'succeeded' || data.status === 'queued' || (data.status === 'running' && !data.error)) return null;
  if (data.status === 'stopped') {
    return banner({ tone: 'warn', title: 'Stopped before the end', text: data.error?.detail ?? 'What was committed stays. The next run goes on from there.', code: data.error ?? {} });
  }
  return banner({
    title: data.status === 'gate_failed' ? 'A quality rule was broken' : 'The run failed',
    text: [prose(data.error?.detail ?? 'The server gave no reason; its log has more.'), h('span', { class: 'advice' }, prose(advice(data)))],
    code: data.error ?? {},
    action: data.status === 'gate_failed' && h('a', { class: 'button small', href: pipelineLink(data.pipeline, 'quality') }, 'See quality'),
  });
}

/** What to do next, by what the code is about. The detail comes from the server and is more exact. */
function advice({ status, error, pipeline }) {
  if (status === 'gate_failed') return 'What to do: look at the failed checks, correct the source or the rule, then run again. The rows of this run are in the lake unless the rule says otherwise.';
  const code = error?.code ?? '';
  const known = [
    [/auth|credential|token|forbidden|denied/, 'check the credentials of the source; `tessera ingest check` tries them without a run.'],
    [/rate|limit|throttl|budget/, 'lower the pipeline’s rate limit or raise its budget, then run again; it goes on from the last commit.'],
    [/lease|lock|busy|conflict/, 'wait for the other run of this pipeline to end, or cancel it.'],
    [/disk|store|lake|object|write/, 'check the space and the rights at the destination, then run again.'],
    [/schema|type|decode|shape|json/, 'look at the answer with `tessera ingest preview`, then correct the resource in the pipeline file.'],
    [/spec|config|yaml|usage/, 'correct the pipeline file; `tessera ingest validate` names the line.'],
    [/timeout|connect|unavailable|network|http/, 'check that the API is up, then run again; it goes on from the last commit.'],
  ].find(([about]) => about.test(code));
  return `What to do: ${known ? known[1] : `correct the cause, then run ${pipeline} again; it goes on from the last commit.`}`;
}

function tiles(data, speeds) {
  const running = data.status === 'running';
  const expected = data.resources.every(({ expected_rows }) => expected_rows !== null && expected_rows !== undefined)
    ? data.resources.reduce((sum, { expected_rows }) => sum + expected_rows, 0) : null;
  const etas = data.resources.filter(({ status }) => status !== 'done').map(({ eta_s }) => eta_s);
  const eta = etas.length > 0 && etas.every((one) => one !== null && one !== undefined) ? Math.max(...etas) : null;
  const elapsed = data.finished_at ? secondsBetween(data.started_at, data.finished_at) : Math.max(0, (serverNow() - Date.parse(data.started_at)) / 1000);
  const tile = (label, value, under, extra) => h('div', { class: 'tile', key: label }, h('dt', null, label), h('dd', null, value), under && h('dd', { class: 'tile-under' }, under), extra && h('dd', { class: 'tile-extra' }, extra));
  return h('dl', { class: 'tiles' },
    tile('Rows', count(data.rows), expected ? `${percent(Math.min(1, data.rows / expected))} of ${compact(expected)} expected` : 'no full total from the API'),
    tile('Rows per second', count(data.rows_per_second), running ? null : 'average', speeds.length > 1 && spark(speeds, { label: `Rows per second over the last ${counted(speeds.length, 'sample')}, now ${count(data.rows_per_second)}` })),
    tile(running ? 'Running for' : 'Took', duration(elapsed), running ? (eta === null ? 'no estimate yet' : `about ${duration(eta)} left`) : data.finished_at && `until ${stamp(data.finished_at, serverNow(), { seconds: false })}`),
    tile('Written', bytes(data.bytes), counted(data.files, 'file')),
    tile('Requests', count(data.requests), counted(data.retries, 'retry').replace('retrys', 'retries')),
    tile('Throttled', count(data.throttled), 'answers with 429'));
}

function resources(data) {
  if (data.resources.length === 0) return section('Resources', empty('Not planned yet', 'The resources appear when the run starts.'));
  const busy = data.status === 'running';
  return section('Resources', table({
    label: 'Progress by resource',
    rows: data.resources,
    key: ({ name }) => name,
    columns: [
      { label: 'Resource', main: true, cell: ({ name }) => h('span', { class: 'break' }, name) },
      { label: 'Status', cell: ({ status }) => badge(status) },
      { label: 'Progress', wide: true, cell: (one) => [progressOf(one, busy)] },
      { label: 'Rows', numeric: true, cell: ({ rows }) => count(rows) },
      { label: 'Written', numeric: true, cell: (one) => bytes(one.bytes) },
      { label: 'Requests', numeric: true, cell: (one) => count(one.requests) },
      { label: 'Retries', numeric: true, cell: (one) => count(one.retries) },
      { label: '429s', numeric: true, cell: (one) => count(one.throttled) },
      { label: 'ETA', numeric: true, cell: ({ status, eta_s }) => (status === 'running' && busy ? duration(eta_s) : NONE) },
    ],
  }));
}

function progressOf({ name, rows, expected_rows: expected, status }, busy) {
  const known = expected !== null && expected !== undefined;
  const text = known ? `${percent(expected === 0 ? 1 : Math.min(1, rows / expected))} of ${count(expected)}` : status === 'waiting' ? 'not started' : 'total unknown';
  const total = known ? Math.max(expected, 0) || (status === 'done' ? 1 : 0) : null;
  const value = known && expected === 0 && status === 'done' ? 1 : rows;
  return h('div', { class: 'progress' }, known || (status === 'running' && busy) ? progress(`Progress of ${name}`, value, total, busy && status === 'running') : null, h('span', { class: 'muted' }, text));
}

function about(data) {
  return section('About this run', facts([
    ['Run', h('code', { class: 'break' }, data.id)],
    ['Pipeline', h('a', { class: 'break', href: pipelineLink(data.pipeline) }, data.pipeline)],
    ['Started', `${stamp(data.started_at, serverNow())} UTC`],
    ['Finished', data.finished_at ? `${stamp(data.finished_at, serverNow())} UTC` : null],
  ]));
}
