// Runs in a page of the console and returns the names of the checks that do not hold.
const failed = [];
const same = (name, found, wanted) => {
  const [a, b] = [JSON.stringify(found), JSON.stringify(wanted)];
  if (a !== b) failed.push(`${name}: found ${a}, wanted ${b}`);
};
const module = (name) => import(`/console/${name}`);

/** Two sections of 3 rows with 10 seats, and 5 places of general admission; the first row costs more. */
function answer() {
  const made = { event: 'event_0123456789abcdef0123456700000000', seats: 65, price_levels: [{ key: 'a', name: 'A', price: 5000, color: '#112233' }, { key: 'b', name: 'B', price: 2000, color: 'red' }], sections: [], labels: [], x: [], y: [], level: [], areas: [{ key: 'ga', name: 'Standing', blocks: [[60, 5]], level: 1 }] };
  for (let section = 0; section < 2; section += 1) {
    const rows = [];
    for (let row = 0; row < 3; row += 1) {
      rows.push({ label: 'ABC'[row], first: made.x.length, count: 10 });
      for (let seat = 0; seat < 10; seat += 1) {
        made.x.push(section * 100 + seat * 2);
        made.y.push(row * 3);
        made.labels.push(String(seat + 1));
        made.level.push(row === 0 ? 0 : 1);
      }
    }
    made.sections.push({ name: `Block ${section + 1}`, rows });
  }
  made.level.push(1, 1, 1, 1, 1);
  return made;
}

function snapshot(seq, states) {
  const bytes = new Uint8Array(13 + Math.ceil(states.length / 4));
  const view = new DataView(bytes.buffer);
  view.setUint8(0, 1);
  view.setBigUint64(1, BigInt(seq));
  view.setUint32(9, states.length);
  states.forEach((state, seat) => { bytes[13 + (seat >> 2)] |= state << ((seat & 3) * 2); });
  return bytes.buffer;
}

async function plans() {
  const { Plan, ticketId, numberOf } = await module('tickets/plan.js');
  const plan = new Plan(answer());
  plan.inCurrency('EUR');
  same('a seat by its place', plan.nearest(106.3, 3.2, 1), 43);
  same('no seat where none is', plan.nearest(50, 3, 1.5), -1);
  same('what stands on a ticket', plan.placeOf(43), { section: 'Block 2', row: 'B', seat: '4' });
  same('general admission', plan.placeOf(64), { area: 'Standing' });
  same('its price', plan.priceOf(43), { amount: 2000, currency: 'EUR' });
  same('a section by a point', plan.sectionAt(110, 4)?.name, 'Block 2');
  same('no section beside it', plan.sectionAt(60, 4), null);
  same('blocks by price', plan.blocks.map(({ seats, level }) => [seats, level]), [[10, 0], [20, 1], [10, 0], [20, 1]]);
  same('a colour that is none of ours', plan.levels[1].color.length, 7);
  same('the distance of neighbours', plan.spacing, 2);
  let seen = 0;
  plan.within(-5, -5, 30, 20, (seats, from, to) => { seen += to - from; });
  same('the seats of a rectangle', seen, 30);
  same('a ticket has its event and number', ticketId(plan.event, 43), 'ticket_0123456789abcdef012345670000002c');
  same('and back', numberOf(ticketId(plan.event, 59_999)), 59_999);
}

async function seats() {
  const { Plan } = await module('tickets/plan.js');
  const { SeatStates, FREE, HELD, BOOKED } = await module('tickets/seats.js');
  const states = new SeatStates(new Plan(answer()));
  const all = Array(65).fill(FREE);
  all[3] = BOOKED;
  all[61] = HELD;
  states.read(snapshot(7, all));
  same('a snapshot', [states.seq, states.state[3], states.state[61], [...states.free], [...states.freeOfBlock], [...states.freeOfLevel], states.freeOfArea.get('ga')], [7, BOOKED, HELD, [29, 30], [9, 20, 10, 20], [19, 44], 4]);
  same('a change', states.apply({ seq: 9, free: [61], held: [[40, 1e12], [3, 1e12]], booked: [41] }), [61, 40, 3, 41]);
  same('after it', [states.seq, [...states.free], [...states.freeOfLevel], states.freeOfArea.get('ga'), states.until.get(40)], [9, [29, 28], [19, 43], 5, 1e12]);
  same('an old change changes nothing', [states.apply({ seq: 9, free: [40] }), states.state[40]], [[], HELD]);
  same('numbers that are not there', states.apply({ seq: 10, booked: [65, 4e9] }), []);
  states.read(snapshot(11, Array(65).fill(FREE)));
  same('all free again', [[...states.free], states.freeOfArea.get('ga'), states.until.size], [[30, 30], 5, 0]);
}

async function words() {
  const { countdown, fromField, minorUnits, majorUnits, money, onClock, toField } = await module('tickets/words.js');
  same('summer on the venue’s clock', fromField('2026-07-01T20:00', 'Europe/Lisbon'), '2026-07-01T19:00:00Z');
  same('winter on the venue’s clock', fromField('2026-12-01T20:00', 'America/Chicago'), '2026-12-02T02:00:00Z');
  same('the day the clocks change', fromField('2026-03-29T12:00', 'Europe/Berlin'), '2026-03-29T10:00:00Z');
  same('there and back', toField(fromField('2026-10-25T18:30', 'Europe/Berlin'), 'Europe/Berlin'), '2026-10-25T18:30');
  same('money', [money({ amount: 4500, currency: 'EUR' }), money({ amount: 4550, currency: 'EUR' }), money({ amount: 4500, currency: 'JPY' })], ['€45', '€45.50', '¥4,500']);
  same('what was typed', [minorUnits('45', 'EUR'), minorUnits('45,5', 'EUR'), minorUnits('45.55', 'EUR'), minorUnits('45.555', 'EUR'), minorUnits('45.5', 'JPY'), minorUnits('a', 'EUR')], [4500, 4550, 4555, null, null, null]);
  same('for the form', [majorUnits(4500, 'EUR'), majorUnits(4550, 'EUR'), majorUnits(4500, 'JPY')], ['45', '45.50', '4500']);
  same('a countdown', [countdown(599_001), countdown(1), countdown(-5)], ['10:00', '0:01', '0:00']);
  same('moments in messages', onClock('kept until 2026-07-01T19:04:10.123Z, pick', 'Europe/Lisbon').replace(/ [A-Z+0-9:]+,/, ','), 'kept until 20:04,'.concat(' pick'));
}

async function cameras() {
  const { Camera } = await module('camera.js');
  const camera = new Camera(() => {});
  camera.frame(800, 600, { left: 0, top: 0, right: 100, bottom: 50 }, 40);
  same('all of it is in view', [camera.toPlan(0, 0)[0] < 0, camera.toPlan(800, 600)[0] > 100], [true, true]);
  const before = camera.toPlan(200, 300);
  camera.zoom(2, 200, 300);
  same('what is under the pointer stays there', camera.toPlan(200, 300).map(Math.round), before.map(Math.round));
  camera.zoom(1000);
  same('no nearer than allowed', camera.scale, 40);
  camera.pan(1e6, 1e6);
  same('the plan cannot be lost', camera.toPlan(800, 600).every((value) => value > 0), true);
  camera.zoom(1e-6);
  same('no farther than all of it', camera.scale, camera.fitScale);
}

async function doors() {
  const { readCode } = await module('tickets/doorlist.js');
  const bytes = new Uint8Array(84).fill(255);
  bytes.set([1, 35, 69, 103, 137, 171, 205, 239, 1, 35, 69, 103, 0, 0, 0, 44, 0, 0, 0, 7]);
  const code = `T1.${btoa(String.fromCharCode(...bytes)).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '')}`;
  const { ticket, serial, signed, signature } = readCode(code);
  same('a code', [ticket, serial, signed.length, signature.length], ['ticket_0123456789abcdef012345670000002c', 7, 20, 64]);
  same('what is no code', [readCode('T1.abc'), readCode('T2.' + code.slice(3)), readCode(code.slice(0, -4)), readCode('T1.!!!'), readCode('')], [null, null, null, null, null]);
}

async function text() {
  const { draw, h } = await module('dom.js');
  const host = document.createElementNS('http://www.w3.org/1999/xhtml', 'div');
  const name = '<img src=x onerror="throw 1"><script>throw 2</' + 'script>';
  draw(host, h('p', { title: name }, name));
  same('a script in a name is text', [host.textContent, host.querySelectorAll('img, script').length], [name, 0]);
  let kept = null;
  const view = (words) => h('div', null, h('input', { key: 'field', ref: (field) => { kept = [...(kept ?? []), field]; } }), words);
  draw(host, view('one'));
  draw(host, view('two'));
  same('an element is told of once', kept.length, 1);
}

/** What pages say about places in a line, and messages of the API as sentences. */
async function sayings() {
  const { peopleBefore } = await module('tickets/waiting-room.js');
  same('who is before whom', [peopleBefore(454, 450), peopleBefore(451, 450), peopleBefore(450, 450), peopleBefore(12, 450)], [3, 0, 0, 0]);
  const { sentence } = await module('parts.js');
  same('sentences', ['the payment was declined: no funds', 'seat `B12` is held', '`barcelona` is no number', 'pm_1 is no card', 'Paid'].map(sentence), ['The payment was declined: no funds', 'Seat `B12` is held', '`barcelona` is no number', 'pm_1 is no card', 'Paid']);
}

/** Drawings of a plan file in both forms of its schema, and rows that go on beyond the edge of the screen. */
async function drawings() {
  const { geometryOf } = await module('tickets/organiser/preview.js');
  const seat = (x, y) => ({ seat_number: String(x), position: { x, y }, category: 'a' });
  const row = (name, y) => ({ row_number: name, seats: Array.from({ length: 40 }, (_, at) => seat(at * 10, y)) });
  const file = { name: 'Hall', categories: [{ name: 'a', color: '#112233' }], size: { width: 500, height: 200 }, zones: [{ name: 'Stalls', position: { x: 20, y: 90 }, rows: [row('A', 0), row('B', 10)], areas: [
    { shape: 'rectangle', position: { x: 0, y: -80 }, rectangle: { width: 390, height: 60 }, text: { text: 'Stage' } },
    { position: { x: 0, y: 40 }, width: 50, height: 20, text: 'Bar' },
    { shape: 'circle', position: { x: 100, y: 50 }, circle: { radius: 8 } },
  ] }] };
  const plan = geometryOf(file);
  same('a stage and a bar', plan.shapes.map(({ x, y, width, text }) => [x, y, width ?? null, text ?? null]), [[20, 10, 390, 'Stage'], [20, 130, 50, 'Bar'], [120, 140, null, null]]);
  same('they are in the picture', plan.box.top, 10);
  const { SeatMap } = await module('tickets/seatmap.js');
  const none = new Set();
  const map = new SeatMap(plan, { states: null, picked: () => none, mine: () => none, only: () => null, choose: () => {} });
  Object.assign(map.camera, { scale: 3, left: -300, top: -100, width: 400, height: 300, nearest: 50 });
  same('a row that goes on to the left', [map.crossing(plan.rows[0]), map.crossing(plan.rows[1])], [170, 200]);
  Object.assign(map.camera, { left: 30 });
  same('a row that begins on the screen', map.crossing(plan.rows[0]), null);
}

/** What a map on a canvas listens to while it is there, and what it says beside the pointer. */
async function frames() {
  const { CanvasFrame } = await module('canvasframe.js');
  const real = window.matchMedia;
  const listeners = new Set();
  window.matchMedia = () => ({ addEventListener: (_, act) => listeners.add(act), removeEventListener: (_, act) => listeners.delete(act) });
  try {
    const map = new CanvasFrame({ role: 'img', label: 'A map.', whole: 'All', sharpest: 2 });
    map.tip = document.createElementNS('http://www.w3.org/1999/xhtml', 'div');
    map.tell(10, 60, ['Row 3', null, 'free']);
    same('a tip', [map.tip.hidden, [...map.tip.children].map((line) => line.textContent)], [false, ['Row 3', 'free']]);
    map.tell(10, 60, []);
    same('no tip', map.tip.hidden, true);
    same('it follows the theme', listeners.size, 1);
    map.close();
    same('and no longer when it is closed', [listeners.size, map.host], [0, null]);
  } finally {
    window.matchMedia = real;
  }
}

/** Places, lines and ways of the rides' maps. */
async function ways() {
  const { HAPPENED } = await module('rides/words.js');
  const kinds = ['estimated', 'requested', 'offered', 'denied', 'lapsed', 'accepted', 'arrived', 'wrong_code', 'picked_up_rider', 'completed', 'expired', 'nobody_yet', 'no_driver'];
  same('each step has its words', kinds.filter((kind) => !HAPPENED[kind]), []);
  const { Plane, Walk, decodeLine, distance, headingTo, metresBetween, parsePlace } = await module('rides/geo.js');
  // The example of the format's description.
  same('an encoded line', decodeLine('_p~iF~ps|U_ulLnnqC_mqNvxq`@'), [{ lat: 38.5, lng: -120.2 }, { lat: 40.7, lng: -120.95 }, { lat: 43.252, lng: -126.453 }]);
  same('what is no line', [decodeLine(''), decodeLine(null), decodeLine(undefined), decodeLine('_p~iF').length], [[], [], [], 0]);
  const porto = { lat: 41.15, lng: -8.61 };
  const plane = new Plane(porto);
  same('a plane there and back', plane.place(...plane.flat({ lat: 41.1612345, lng: -8.5998765 })), { lat: 41.1612345, lng: -8.5998765 });
  same('metres on it', plane.flat({ lat: 41.14, lng: -8.61 }).map(Math.round), [0, 1112]);
  same('metres on the earth', Math.round(metresBetween(porto, { lat: 41.15, lng: -8.6 })), 837);
  same('headings', [headingTo(porto, { lat: 41.16, lng: -8.61 }), headingTo(porto, { lat: 41.15, lng: -8.6 }), headingTo(porto, { lat: 41.14, lng: -8.61 }), headingTo(porto, { lat: 41.15, lng: -8.62 })], [0, 90, 180, 270]);
  const walk = new Walk([porto, { lat: 41.151, lng: -8.61 }, { lat: 41.151, lng: -8.609 }]);
  same('half of a leg', [walk.step(55.6).lat.toFixed(4), walk.heading, walk.done], ['41.1505', 0, false]);
  same('around the corner', [walk.step(75).lng > -8.61, walk.heading, walk.done], [true, 90, false]);
  same('its end', [walk.step(1e6), walk.done, walk.step(5)], [{ lat: 41.151, lng: -8.609 }, true, { lat: 41.151, lng: -8.609 }]);
  same('places as people write them', ['41.15, -8.61', ' 41.15;-8.61', '91, 0', '41.15', 'here', ''].map(parsePlace), [porto, porto, null, null, null, null]);
  same('distances', [distance(423), distance(940), distance(3449), distance(null)], ['420 m', '940 m', '3.4 km', '–']);
}

/** A list that is read on from where it was read last. */
async function lists() {
  const { withQuery } = await module('api.js');
  same('a query after a query', [withQuery('/a?b=1', { c: 2 }), withQuery('/a', { c: 2, d: null }), withQuery('/a?b=1', {})], ['/a?b=1&c=2', '/a?c=2', '/a?b=1']);
  const { Growing } = await module('rides/growing.js');
  const list = new Growing('/rides', ({ id }) => id);
  for (const [id, state] of [['a', 1], ['b', 1], ['a', 2]]) list.take({ id, state });
  same('what changed last is at the end', [...list.items.values()], [{ id: 'b', state: 1 }, { id: 'a', state: 2 }]);
}

/** Tokens are replaced in time and not in a storm. */
async function renewals() {
  const { lasting, renewalMs } = await module('renewal.js');
  const minute = 60_000;
  const had = lasting(600, 1000 * minute);
  same('a minute before its end', renewalMs(had, had.since, true), 9 * minute);
  same('what is over at once', [renewalMs(had, had.until, false), renewalMs(had, had.until + minute, false)], [0, 0]);
  same('not again at once', [renewalMs(had, had.until + minute, true), renewalMs(lasting(0, 5), 5, true), renewalMs(lasting(8, 5), 5, true)], [5000, 5000, 5000]);
  same('half of a short one', renewalMs(lasting(40, 5), 5, true), 20_000);
  same('a clock that was set back', [renewalMs(had, had.since - minute, false), renewalMs(had, had.since - minute, true)], [0, 5000]);
  same('no timer is that long', renewalMs(lasting(1e9, 0), 0, true), 2 ** 31 - 1);
}

/** Who is signed in by a server whose clock is hours away. */
async function sessions() {
  const real = { fetch: window.fetch, log: [] };
  try {
    const answer = { access_token: 'a', expires_in: 600, expires_at: '2020-01-01T00:00:00Z', user: { id: 'user_1', roles: ['fan'], name: 'Ada' } };
    let down = false;
    window.fetch = async (target) => {
      real.log.push(target);
      if (down) throw new TypeError('down');
      return new Response(JSON.stringify(target.endsWith('sign-in') ? answer : {}), { headers: { date: 'Wed, 01 Jan 2020 00:00:00 GMT' } });
    };
    const { signInAccount, signInWith, signOut, whoami } = await module('session.js');
    await signInAccount('ada', 'x');
    same('a clock that is wrong', whoami()?.name, 'Ada');
    down = true;
    const refused = await signOut().catch(({ status }) => status);
    same('who cannot be signed out', [refused, whoami()?.name], [0, 'Ada']);
    same('nor be somebody else', [await signInWith(`a.${btoa('{"sub":"eve","roles":[]}')}.c`).catch(({ status }) => status), whoami()?.name], [0, 'Ada']);
    down = false;
    await signInWith(`a.${btoa('{"sub":"eve","roles":[]}')}.c`);
    same('somebody else', [whoami()?.name, real.log.at(-1)], ['eve', '/accounts/sign-out']);
    await signOut();
    same('nobody', [whoami(), real.log.filter((target) => target === '/accounts/refresh')], [null, []]);
  } finally {
    window.fetch = real.fetch;
    localStorage.removeItem('tessera.session');
  }
}

/** Events of a stream, however they are cut into pieces. */
async function streams() {
  const { getEvents, Problem } = await module('api.js');
  const real = window.fetch;
  const pieces = [': still here\n\nevent: ri', 'de\ndata: {"a"', ':1}\n\nevent: position\ndata: {"é":2}\n', '\nevent: broken\ndata: {\n\n'];
  const body = () => new ReadableStream({ start(to) { for (const piece of pieces) to.enqueue(new TextEncoder().encode(piece)); to.close(); } });
  try {
    window.fetch = async () => new Response(body(), { headers: { 'content-type': 'text/event-stream' } });
    const told = [];
    await getEvents('/x', new AbortController().signal, () => told.push('open'), (name, data) => told.push([name, data]));
    same('events', told, ['open', ['ride', { a: 1 }], ['position', { 'é': 2 }]]);
    window.fetch = async () => new Response('{"title":"Not found","code":"rides.not_found","detail":"there is no ride"}', { status: 404 });
    const refused = await getEvents('/x', new AbortController().signal, () => {}, () => {}).catch((problem) => problem);
    same('a refused stream', [refused instanceof Problem, refused.status, refused.code], [true, 404, 'rides.not_found']);
  } finally {
    window.fetch = real;
  }
}

for (const part of [plans, seats, words, cameras, doors, text, sayings, drawings, frames, ways, lists, renewals, sessions, streams]) {
  try {
    await part();
  } catch (cause) {
    failed.push(`${part.name}: ${cause.stack}`);
  }
}
return failed;
