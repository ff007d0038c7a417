// The public API as any client sees it: JSON in and out, problem documents as errors, an idempotency key on every write.

const DEADLINE_MS = 10_000;
/** For large answers and for those that wait for somebody else. */
export const SLOW_MS = 45_000;

/** What went wrong with a request, in words for a person. `status` is 0 when no answer came; `members` is the whole document. */
export class Problem extends Error {
  constructor({ status, code, title, detail, requestId, members }) {
    super(detail || title);
    this.status = status;
    this.code = code ?? null;
    this.title = title;
    this.detail = detail ?? null;
    this.requestId = requestId ?? null;
    this.members = members ?? {};
  }
}

let skewMs = 0;

/** The server's idea of now, in milliseconds: "3 s ago" is right on a machine whose clock is not. */
export function serverNow() {
  return Date.now() + skewMs;
}

let bearer = null;

/** From now on requests carry this token; none when null. */
export function signAs(token) {
  bearer = token;
}

export function get(path, signal) {
  return request('GET', path, { signal });
}

/** Pages of a list that are read to their end; beyond that nobody scrolls. */
const PAGE_ITEMS = 500;
const MOST_PAGES = 10;

/** All items of a paged list as one page; `next_cursor` where there are more than 5,000. */
export async function getAll(target, signal) {
  const items = [];
  let cursor = null;
  for (let page = 0; page < MOST_PAGES && (page === 0 || cursor !== null); page += 1) {
    const answer = await get(withQuery(target, { limit: PAGE_ITEMS, cursor }), signal);
    items.push(...answer.items);
    cursor = answer.next_cursor ?? null;
  }
  return { items, next_cursor: cursor };
}

/** What never changes at its address may come from the browser's cache. */
export function getCached(path, signal) {
  return request('GET', path, { signal, cache: 'default', deadlineMs: SLOW_MS });
}

/** Bytes as they are: an ArrayBuffer, or a Blob of that type. */
export function getBytes(path, accept, signal) {
  return request('GET', path, { signal, accept, read: (response) => response.arrayBuffer(), deadlineMs: SLOW_MS });
}

export function getBlob(path, accept, signal) {
  return request('GET', path, { signal, accept, read: (response) => response.blob(), deadlineMs: SLOW_MS });
}

/** How long a stream may say nothing at all: the server speaks at least every ten seconds. */
const QUIET_MS = 30_000;

/**
 * Server-sent events as they come: `told(name, data)` with each, until the server ends it. `opened()` is called when it
 * begins. The browser's own reader of events carries no token.
 */
export async function getEvents(target, signal, opened, told) {
  const headers = { accept: 'text/event-stream, application/problem+json' };
  if (bearer) headers.authorization = `Bearer ${bearer}`;
  const quiet = new AbortController();
  let timer = null;
  const heard = () => { clearTimeout(timer); timer = setTimeout(() => quiet.abort(), QUIET_MS); };
  const lost = (cause) => (signal.aborted ? cause : new Problem({ status: 0, title: 'The connection was lost', detail: `Could not follow ${location.host}. Check that Tessera is running and that the network is up.` }));
  heard();
  try {
    const response = await fetch(target, { headers, cache: 'no-store', signal: AbortSignal.any([signal, quiet.signal]) }).catch((cause) => { throw lost(cause); });
    noteClock(response);
    if (!response.ok) throw problemFrom(response, parse(await response.text()));
    opened();
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = '';
    for (;;) {
      const { done, value } = await reader.read().catch((cause) => { throw lost(cause); });
      if (done) return;
      heard();
      const events = (rest + value).split('\n\n');
      rest = events.pop();
      for (const event of events) tell(event, told);
    }
  } finally {
    clearTimeout(timer);
  }
}

function tell(event, told) {
  let name = 'message';
  const data = [];
  for (const line of event.split('\n')) {
    if (line.startsWith('event:')) name = line.slice(6).trim();
    else if (line.startsWith('data:')) data.push(line.slice(5));
  }
  const value = data.length > 0 ? parse(data.join('\n')) : undefined;
  if (value !== undefined) told(name, value);
}

/** Writes once per `key`: repeat an unanswered request with the same key. Refused where the thing has another `version`. */
export function write(method, path, body, { key, deadlineMs, version } = {}) {
  return request(method, path, { body, key, deadlineMs, version });
}

/** A path from parts that may hold any character. */
export function path(...parts) {
  return '/' + parts.map(encodeURIComponent).join('/');
}

/** A path with the query parameters that have a value. */
export function withQuery(base, query) {
  const text = new URLSearchParams(
    Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== ''),
  ).toString();
  return text ? `${base}${base.includes('?') ? '&' : '?'}${text}` : base;
}

/** A fresh idempotency key. `randomUUID` exists only on HTTPS and localhost, so plain HTTP builds one from random bytes. */
export function newKey() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}

async function request(method, target, { body, key, version, signal, accept = 'application/json', cache = 'no-store', read, deadlineMs = DEADLINE_MS }) {
  const headers = { accept: `${accept}, application/problem+json` };
  if (body !== undefined) headers['content-type'] = 'application/json';
  if (key) headers['idempotency-key'] = key;
  if (version !== undefined) headers['if-match'] = `"${version}"`;
  if (bearer) headers.authorization = `Bearer ${bearer}`;
  const deadline = AbortSignal.timeout(deadlineMs);
  let response;
  let content;
  try {
    response = await fetch(target, {
      method,
      headers,
      // A text is sent as it is: a file whose faults the server is to name by line.
      body: body === undefined || typeof body === 'string' ? body : JSON.stringify(body),
      // The browser lets requests for one cacheable address wait for each other, also for one that hangs.
      cache,
      signal: signal ? AbortSignal.any([signal, deadline]) : deadline,
    });
    content = response.ok && read ? await read(response) : await response.text();
  } catch (cause) {
    if (signal?.aborted) throw cause;
    throw new Problem({
      status: 0,
      title: 'Tessera does not answer',
      detail: deadline.aborted
        ? `No answer from ${location.host} within ${deadlineMs / 1000} s. Check that it is running and not overloaded.`
        : `Could not reach ${location.host}. Check that Tessera is running and that the network is up.`,
    });
  }
  noteClock(response);
  if (response.ok && read) return content;
  const value = parse(content);
  if (response.ok && value !== undefined) return value;
  throw problemFrom(response, value);
}

function noteClock(response) {
  const sent = Date.parse(response.headers.get('date') ?? '');
  if (Number.isNaN(sent)) return;
  const difference = sent + 500 - Date.now();
  skewMs = Math.abs(difference) > 2000 ? difference : 0;
}

function parse(text) {
  try {
    return text === '' ? null : JSON.parse(text);
  } catch {
    return undefined;
  }
}

function problemFrom(response, value) {
  const { status } = response;
  if (response.ok) {
    return new Problem({ status, title: 'Unreadable answer', detail: `${location.host} answered with something that is not JSON. Is another program on this port?` });
  }
  const known = value !== null && typeof value === 'object' ? value : {};
  return new Problem({
    status,
    code: known.code,
    title: known.title ?? `HTTP ${status}`,
    detail: known.detail ?? (known.title ? null : `The server answered ${status} ${response.statusText}`.trim() + '.'),
    requestId: known.request_id ?? response.headers.get('x-request-id'),
    members: known,
  });
}
