// What a person can set going in ingest: an incremental run, a backfill, a cancel.

import { path } from './api.js';
import { openDialog } from './dialog.js';
import { h } from './dom.js';
import { send } from './intents.js';
import { button, codes, prose, toast } from './parts.js';

export const runLink = (id) => `#${path('ingest', 'runs', id)}`;
export const pipelineLink = (name, ...tab) => `#${path('ingest', 'pipelines', name, ...tab)}`;

/** The buttons of one pipeline. `started(run)` is called when the server has taken a run. */
export function runButtons(pipeline, page, started, kind = '') {
  const busy = page.busy.has(pipeline.name);
  return [
    button(busy ? 'Starting…' : 'Run now', () => runNow(pipeline, page, started), {
      shape: 'play', kind, disabled: busy, name: 'run', label: `Run ${pipeline.name} now, incremental`,
    }),
    button('Backfill', () => backfillDialog(pipeline, started), { shape: 'history', kind, name: 'backfill', label: `Backfill ${pipeline.name}…` }),
  ];
}

async function runNow(pipeline, page, started) {
  page.busy.add(pipeline.name);
  page.refused = null;
  page.render();
  try {
    const run = await send(path('ingest', 'pipelines', pipeline.name, 'runs'), { run_type: 'incremental' });
    toast(`${pipeline.name}: incremental run accepted.`, ['Watch it', runLink(run.id)]);
    started(run);
  } catch (problem) {
    page.refused = { about: `${pipeline.name} was not started`, problem };
  }
  page.busy.delete(pipeline.name);
  page.render();
}

export function backfillDialog(pipeline, started) {
  const form = { from: '', to: '', resources: new Set(pipeline.resources.map(({ name }) => name)) };
  const all = pipeline.resources.length;
  openDialog({
    title: `Backfill ${pipeline.name}`,
    confirm: 'Start backfill',
    check: () => {
      if (form.from && form.to && form.from >= form.to) return 'The end must be after the start.';
      if (all > 0 && form.resources.size === 0) return 'Choose at least one resource.';
      return null;
    },
    submit: async () => {
      const body = { run_type: 'backfill' };
      if (form.from) body.from = utc(form.from);
      if (form.to) body.to = utc(form.to);
      if (form.resources.size < all) body.resources = [...form.resources];
      const run = await send(path('ingest', 'pipelines', pipeline.name, 'runs'), body);
      toast(`${pipeline.name}: backfill accepted.`, ['Watch it', runLink(run.id)]);
      started(run);
    },
    view: (redraw) => [
      h('p', null, 'Reads everything again between two times, in UTC. Without a start it begins where the pipeline says; without an end it goes up to now.'),
      h('div', { class: 'fields' },
        timeField('From', 'backfill-from', (value) => { form.from = value; redraw(); }),
        timeField('To', 'backfill-to', (value) => { form.to = value; redraw(); })),
      all > 0 && h('fieldset', { class: 'checks' },
        h('legend', null, `Resources (${form.resources.size} of ${all})`),
        pipeline.resources.map(({ name }) => h('label', { class: 'check', key: name },
          h('input', {
            type: 'checkbox',
            checked: form.resources.has(name),
            onchange: (event) => {
              if (event.target.checked) form.resources.add(name);
              else form.resources.delete(name);
              redraw();
            },
          }),
          h('span', null, name)))),
    ],
  });
}

function timeField(text, id, oninput) {
  return h('div', { class: 'field' },
    h('label', { for: id }, text, h('small', null, ' UTC, optional')),
    h('input', { id, name: id, type: 'datetime-local', max: '9999-12-31T23:59', oninput: (event) => oninput(event.target.value) }));
}

function utc(local) {
  return new Date(`${local}Z`).toISOString().replace('.000Z', 'Z');
}

export function cancelDialog(run, cancelled) {
  openDialog({
    title: 'Cancel this run?',
    confirm: 'Cancel run',
    dismiss: 'Keep running',
    danger: true,
    check: () => null,
    submit: async () => cancelled(await send(path('ingest', 'runs', run.id, 'cancel'), undefined)),
    view: () => h('p', null, `${run.pipeline} stops after the pages in flight, and keeps what it has committed. The next run goes on from there.`),
  });
}

/** The answer to a refused "run now", as a banner's parts. */
export function refusal(page) {
  if (!page.refused) return null;
  const { about, problem } = page.refused;
  return h('div', { class: 'banner tone-bad', role: 'alert' },
    h('div', { class: 'banner-body' }, h('p', { class: 'banner-title' }, about), h('p', null, prose(problem.message)), codes(problem)),
    h('div', { class: 'banner-action' }, button('Dismiss', () => { page.refused = null; page.render(); }, { kind: 'small' })));
}
