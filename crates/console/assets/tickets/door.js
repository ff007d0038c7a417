// Tickets › Door: scan or type a code, see green or red. Without a network it judges by the signed list, and tells the
// server later.

import { get, path, serverNow, withQuery } from '../api.js';
import { h } from '../dom.js';
import { counted } from '../format.js';
import { icon } from '../icons.js';
import { send } from '../intents.js';
import { banner, button, empty, heading, loading, moment, section, troubles } from '../parts.js';
import { signInFirst } from '../pages/sign-in.js';
import { DoorList, LIST_FRESH_MS } from './doorlist.js';
import { readQr } from './qrcode.js';
import { clockTime, place, when } from './words.js';

const VERDICTS = {
  valid: ['Come in', 'good', 'check'],
  already_used: ['Already used', 'bad', 'cross'],
  wrong_event: ['Not for this event', 'bad', 'cross'],
  cancelled: ['Event cancelled', 'bad', 'cross'],
  refunded: ['Given back', 'bad', 'cross'],
  replaced: ['Old code', 'warn', 'warning'],
  forged: ['Not a ticket', 'bad', 'cross'],
};
const ADVICE = {
  wrong_event: 'This ticket is for another event.',
  cancelled: 'The event was cancelled: the money goes back by itself.',
  refunded: 'This ticket was refunded and opens no door.',
  replaced: 'The ticket was passed on: only its new owner’s code counts.',
  forged: 'The code is not signed by this house.',
};
const SCANS_SHOWN = 8;
const EVENTS_SHOWN = 50;
const TYPING_MS = 200;
/** The same code in front of the camera is one scan. */
const SAME_CODE_MS = 3000;
const LOOK_MS = 150;
/** Pictures are read at this width: enough for a code that fills a quarter of it. */
const LOOK_PX = 800;
const SEND_MS = 5000;

export function door(page) {
  page.title('Door');
  page.view = () => [heading({ title: 'Door' }), signInFirst('door', 'Only the door may check tickets in.')];
  if (signInFirst('door', '')) return;
  const state = { ...blank(), event: page.query.get('event'), gate: page.query.get('gate') ?? 'A' };
  const events = page.feed((signal) => get(withQuery('/search', { term: state.term, from: dayBefore(), sort: 'date', limit: EVENTS_SHOWN, facets: 'false' }), signal), 60_000);
  const chosenFeed = page.feed((signal) => (state.event ? get(path('event', state.event), signal) : Promise.resolve(null)), 60_000);
  state.reload = () => chosenFeed.refresh();
  state.find = () => { clearTimeout(state.typing); state.typing = setTimeout(() => events.refresh(), TYPING_MS); };
  page.closing(() => stopCamera(state));
  const timer = setInterval(() => deliver(page, state), SEND_MS);
  page.closing(() => clearInterval(timer));
  page.view = () => {
    const chosen = chosenFeed.data?.id === state.event ? chosenFeed.data : null;
    return [
      heading({ title: 'Door', under: chosen && `${chosen.name} · ${when(chosen.starts_at, chosen.venue?.timezone)}` }),
      troubles(events),
      events.waiting && loading(3),
      events.data && settings(page, state, events.data.items, chosen),
      state.event && standing(page, state, chosen),
      events.data && !state.event && empty('Which event?', 'Choose it above; then scan or type codes.'),
    ];
  };
  if (state.event) openList(page, state);
}

function blank() {
  return { term: '', code: '', busy: false, last: null, scans: [], problem: null, camera: null, list: null, listProblem: null };
}

/** The door works on the day itself, and after midnight. */
function dayBefore() {
  return new Date(serverNow() - 86_400_000).toISOString().slice(0, 10);
}

function settings(page, state, items, chosen) {
  const choose = (id) => {
    state.event = id || null;
    Object.assign(state, { last: null, scans: [], problem: null });
    page.choose('event', id);
    state.reload();
    if (id) openList(page, state);
  };
  const offered = chosen && !items.some(({ id }) => id === chosen.id) ? [chosen, ...items] : items;
  return h('div', { class: 'filter-row' },
    h('label', { class: 'field' }, h('span', null, 'Find an event'), h('input', { type: 'search', value: state.term, placeholder: 'Name or venue', autocomplete: 'off', oninput: (event) => { state.term = event.target.value; page.render(); state.find(); } })),
    h('label', { class: 'field grow' }, h('span', null, 'Event'), h('select', { onchange: (event) => choose(event.target.value) },
      h('option', { value: '', selected: !state.event }, 'Choose…'),
      offered.map((one) => h('option', { key: one.id, value: one.id, selected: one.id === state.event }, `${one.name}, ${when(one.starts_at, one.venue?.timezone)}`)))),
    h('label', { class: 'field field-short' }, h('span', null, 'Gate'), h('input', { value: state.gate, maxlength: '20', oninput: (event) => { state.gate = event.target.value; page.choose('gate', event.target.value); } })));
}

function standing(page, state, chosen) {
  return [
    h('div', { class: 'door' },
      h('div', { class: 'stack-small' },
        camera(page, state),
        h('form', {
          class: 'code-form',
          onsubmit: (event) => {
            event.preventDefault();
            const code = state.code.trim();
            state.code = '';
            if (code) check(page, state, code);
            page.render();
          },
        },
        h('label', { class: 'hidden', for: 'code' }, 'Code'),
        h('input', { id: 'code', value: state.code, placeholder: 'Type or scan a code', autocomplete: 'off', autocapitalize: 'off', spellcheck: 'false', oninput: (event) => { state.code = event.target.value; page.render(); } }),
        h('button', { type: 'submit', class: 'button primary', disabled: state.busy }, 'Check')),
        h('p', { class: 'muted' }, 'Handheld scanners type the code and press Enter: click into the field first.')),
      h('div', { class: 'door-result', role: 'status', 'aria-live': 'assertive' }, verdict(state, chosen))),
    state.problem && banner({ title: 'Not checked', text: state.problem.message, code: state.problem }),
    offline(state),
    state.scans.length > 0 && section('Last scans', h('ul', { class: 'scans' }, state.scans.map((scan) => h('li', { key: scan.key },
      h('span', { class: `mark tone-${VERDICTS[scan.result][1]}` }, icon(VERDICTS[scan.result][2])),
      h('span', { class: 'break' }, `${VERDICTS[scan.result][0]}${scan.ticket ? `: ${nameOf(scan.ticket)}` : ''}`),
      h('span', { class: 'muted nowrap' }, moment(scan.at)))))),
  ];
}

function nameOf(ticket) {
  return place(ticket) || `ticket …${String(ticket.id ?? '').slice(-8)}`;
}

function verdict({ last, busy }, chosen) {
  if (!last) return h('div', { class: 'verdict verdict-none' }, h('p', null, busy ? 'Checking…' : 'Ready for the first ticket'));
  const [word, tone, shape] = VERDICTS[last.result];
  const zone = chosen?.venue?.timezone;
  return h('div', { class: `verdict verdict-${tone}`, key: last.key },
    icon(shape),
    h('p', { class: 'verdict-word' }, word),
    last.ticket && h('p', { class: 'verdict-place' }, nameOf(last.ticket)),
    last.result === 'already_used' && h('p', null, `First used ${last.used_at ? clockTime(last.used_at, zone) : 'before'}${last.gate ? `, gate ${last.gate}` : ''}`),
    ADVICE[last.result] && h('p', null, ADVICE[last.result]),
    last.offline && h('p', null, 'Checked without network'));
}

function offline({ list, listProblem }) {
  if (listProblem && !list?.ready) return banner({ tone: 'warn', title: 'No list for times without network', text: listProblem.message });
  if (!list?.ready) return null;
  return h('p', { class: 'muted' }, `Ready for times without network: ${counted(list.serials.size, 'ticket')} on the signed list, fetched `, moment(list.at), '.',
    list.waiting.length > 0 && h('strong', null, ` ${counted(list.waiting.length, 'scan')} still to be sent.`));
}

async function check(page, state, code) {
  if (state.busy) return;
  Object.assign(state, { busy: true, problem: null });
  const at = new Date(serverNow()).toISOString();
  // A ticket's id is what is printed under the code, for when the code cannot be read.
  const what = code.startsWith('ticket_') ? { ticket_id: code } : { qr: code };
  try {
    show(page, state, await send('/tickets/check-in', { ...what, event: state.event, gate: state.gate.trim() || null }), at);
  } catch (problem) {
    if (problem.status === 0 && state.list?.ready && what.qr) show(page, state, await state.list.judge(code, state.gate, at), at);
    else Object.assign(state, { problem, last: null });
  }
  state.busy = false;
  page.render();
}

function show(page, state, answer, at) {
  const result = VERDICTS[answer.result] ? answer.result : 'forged';
  const scan = { ...answer, result, at, key: `${at} ${state.scans.length}` };
  state.last = scan;
  state.scans = [scan, ...state.scans].slice(0, SCANS_SHOWN);
  if (navigator.userActivation?.hasBeenActive) navigator.vibrate?.(result === 'valid' ? 60 : [120, 80, 120]);
  page.render();
}

/** The list, fetched again now and then; scans from before are still in it. */
async function openList(page, state) {
  const list = new DoorList(state.event);
  state.list = list;
  state.listProblem = null;
  const again = async () => {
    if (page.closed || state.list !== list) return;
    try {
      await list.load();
      state.listProblem = null;
    } catch (problem) {
      state.listProblem = problem;
    }
    page.render();
    setTimeout(again, LIST_FRESH_MS);
  };
  again();
}

/** What was scanned without network is told as soon as there is one. */
async function deliver(page, state) {
  const { list } = state;
  if (!list || list.waiting.length === 0 || state.delivering) return;
  state.delivering = true;
  const scans = list.waiting.slice(0, 500);
  try {
    await send('/tickets/check-in/batch', { event: list.event, scans });
    list.sent(scans);
  } catch {
    // They stay, and are sent at the next turn.
  }
  state.delivering = false;
  page.render();
}

function camera(page, state) {
  if (!navigator.mediaDevices?.getUserMedia) {
    return banner({ tone: 'warn', title: 'No scanning by camera here', text: 'Browsers give the camera only to pages on HTTPS. Type the code, or use a handheld scanner.' });
  }
  if (!state.camera) {
    return h('div', null, button('Scan with the camera', () => startCamera(page, state), { kind: 'primary large', shape: 'camera', name: 'camera' }));
  }
  return [
    h('div', { key: 'viewfinder', class: 'viewfinder' }, h('video', { ref: (video) => watch(page, state, video), playsinline: true, muted: true, 'aria-label': 'What the camera sees' })),
    h('div', null, button('Stop the camera', () => { stopCamera(state); page.render(); }, { kind: 'small', shape: 'stop' })),
  ];
}

async function startCamera(page, state) {
  try {
    state.camera = await navigator.mediaDevices.getUserMedia({ video: { facingMode: 'environment' }, audio: false });
    if (page.closed) stopCamera(state);
  } catch (cause) {
    state.problem = { message: `The camera cannot be used: ${cause.message}. Type the code instead.` };
  }
  page.render();
}

function stopCamera(state) {
  state.camera?.getTracks().forEach((track) => track.stop());
  state.camera = null;
}

/** Reads the code in a video's picture: by the browser where it can, else by ourselves. */
function codeReader() {
  if ('BarcodeDetector' in window) {
    const detector = new window.BarcodeDetector({ formats: ['qr_code'] });
    return async (video) => (await detector.detect(video))[0]?.rawValue ?? null;
  }
  const canvas = document.createElement('canvas');
  const pen = canvas.getContext('2d', { willReadFrequently: true });
  return (video) => {
    const share = Math.min(1, LOOK_PX / Math.max(1, video.videoWidth));
    canvas.width = Math.round(video.videoWidth * share);
    canvas.height = Math.round(video.videoHeight * share);
    if (canvas.width === 0 || canvas.height === 0) return null;
    pen.drawImage(video, 0, 0, canvas.width, canvas.height);
    return readQr(pen.getImageData(0, 0, canvas.width, canvas.height));
  };
}

function watch(page, state, video) {
  const stream = state.camera;
  const read = codeReader();
  let seen = { code: null, at: 0 };
  // The attribute alone comes too late for a video that is already there; one with sound would not play by itself.
  video.muted = true;
  video.srcObject = stream;
  video.play().catch(() => {});
  const look = async () => {
    if (state.camera !== stream || page.closed) return;
    try {
      const code = video.readyState >= 2 ? await read(video) : null;
      const now = Date.now();
      if (code && (code !== seen.code || now - seen.at > SAME_CODE_MS)) {
        seen = { code, at: now };
        check(page, state, code);
      } else if (code) {
        seen.at = now;
      }
    } catch {
      // A frame that cannot be read is followed by another.
    }
    setTimeout(look, LOOK_MS);
  };
  look();
}
