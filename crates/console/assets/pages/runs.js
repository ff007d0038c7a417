// Ingest › Runs: the runs of all pipelines, newest first. The table is also a part of the pipeline page.

import { get, withQuery } from '../api.js';
import { pipelineLink, runLink } from '../actions.js';
import { h } from '../dom.js';
import { bytes, count } from '../format.js';
import { Pages } from '../live.js';
import { badge, choices, empty, heading, loading, moment, morePages, table, troubles } from '../parts.js';
import { took } from './pipelines.js';

const PER_PAGE = 25;
const STATUSES = [['', 'All'], ['running', 'Running'], ['succeeded', 'Succeeded'], ['failed', 'Failed'], ['gate_failed', 'Gate failed'], ['stopped', 'Stopped']];

/** A polled list of runs; `query()` gives the filters of the moment. */
export function runList(page, query) {
  const load = (cursor, signal) => get(withQuery('/ingest/runs', { ...query(), limit: PER_PAGE, cursor }), signal);
  const first = page.feed((signal) => load(null, signal), 2000);
  return new Pages(first, ({ id }) => id, (cursor) => load(cursor), () => page.render());
}

export function runs(page) {
  page.title('Runs');
  const status = () => {
    const wanted = page.query.get('status') ?? '';
    return STATUSES.some(([value]) => value === wanted) ? wanted : '';
  };
  let list = runList(page, () => ({ status: status() }));
  const filter = (value) => {
    list.first.stop();
    page.choose('status', value);
    list = runList(page, () => ({ status: value }));
    page.render();
  };
  page.view = () => [
    heading({ title: 'Runs', crumbs: [['Ingest', '#/ingest/pipelines']] }),
    h('div', { class: 'toolbar' }, choices('Status', STATUSES, status(), filter)),
    troubles(list.first),
    list.first.waiting && loading(6),
    list.first.data && (list.items.length === 0
      ? empty('No runs', status() ? 'No run has this status.' : 'Start one from the list of pipelines.', h('a', { class: 'button', href: '#/ingest/pipelines' }, 'To the pipelines'))
      : [runTable(list.items, { pipeline: true }), morePages(list)]),
  ];
}

export function runTable(rows, { pipeline = false } = {}) {
  return table({
    label: 'Runs',
    rows,
    key: ({ id }) => id,
    columns: [
      { label: 'Started', main: true, cell: (run) => h('a', { href: runLink(run.id) }, moment(run.started_at, { exact: true })) },
      { label: 'Pipeline', hide: !pipeline, cell: (run) => h('a', { class: 'break', href: pipelineLink(run.pipeline) }, run.pipeline) },
      { label: 'Status', cell: ({ status }) => badge(status) },
      { label: 'Type', cell: ({ run_type, trigger }) => [run_type, h('span', { class: 'muted' }, ` by ${trigger}`)] },
      { label: 'Rows', numeric: true, cell: (run) => count(run.rows) },
      { label: 'Bytes', numeric: true, cell: (run) => bytes(run.bytes) },
      { label: 'Files', numeric: true, cell: (run) => count(run.files) },
      { label: 'Requests', numeric: true, cell: (run) => count(run.requests) },
      { label: 'Took', numeric: true, cell: took },
    ],
  });
}
