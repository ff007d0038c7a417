// The door without a network: the signed list of one event, the keys that sign tickets, and the scans that wait to be sent.
// A ticket's code is `T1.` and base64url of id (16 bytes), serial (4, big endian) and an Ed25519 signature (64).

import { get, path } from '../api.js';

const PREFIX = 'T1.';
const CONTEXT = new TextEncoder().encode('tessera-ticket:1');
const CODE_BYTES = 84;
const ID_BYTES = 16;
const SIGNED_BYTES = 20;
const STORED = 'tessera.door';
/** A list grows by who buys late, so it is fetched again this often while there is a network. */
export const LIST_FRESH_MS = 60_000;

export class DoorList {
  constructor(event) {
    this.event = event;
    this.at = null;
    this.serials = new Map();
    this.used = new Map();
    this.keys = null;
    /** Scans that the server has not heard of: `{ticket_id, serial, gate, at}`. */
    this.waiting = recallScans(event);
    for (const scan of this.waiting) this.used.set(scan.ticket_id, scan);
  }

  get ready() {
    return this.at !== null;
  }

  async load(signal) {
    const [list, keys] = await Promise.all([get(path('event', this.event, 'door-list'), signal), this.keys ?? loadKeys(signal)]);
    this.keys = keys;
    this.serials = new Map(list.entries.map((entry) => [entry.ticket_id, entry]));
    this.at = list.at;
    return this;
  }

  /** What the door may say by itself. The first scan counts, here as on the server. */
  async judge(code, gate, at) {
    const read = readCode(code);
    if (!read) return { result: 'forged', ticket: null, used_at: null, gate: null, offline: true };
    if (!(await signedBy(this.keys, read))) return { result: 'forged', ticket: null, used_at: null, gate: null, offline: true };
    const ticket = { id: read.ticket };
    const answer = (result, used = null) => ({ result, ticket: { ...ticket, ...entry }, used_at: used?.at ?? null, gate: used?.gate ?? null, offline: true });
    const entry = this.serials.get(read.ticket);
    if (!entry) return answer(read.ticket.slice(7, 31) === this.event.slice(6, 30) ? 'refunded' : 'wrong_event');
    if (entry.serial !== read.serial) return answer('replaced');
    const before = this.used.get(read.ticket) ?? (entry.used_at ? { at: entry.used_at, gate: entry.gate } : null);
    if (before) return answer('already_used', before);
    const scan = { ticket_id: read.ticket, serial: read.serial, gate, at };
    this.used.set(read.ticket, scan);
    this.waiting.push(scan);
    keepScans(this.event, this.waiting);
    return answer('valid');
  }

  /** Those scans have arrived. */
  sent(scans) {
    this.waiting = this.waiting.filter((scan) => !scans.includes(scan));
    keepScans(this.event, this.waiting);
  }
}

/** `{ticket, serial, signed, signature}` of a code, or null where it is none of ours. */
export function readCode(code) {
  const text = code.trim();
  if (!text.startsWith(PREFIX)) return null;
  let bytes;
  try {
    bytes = Uint8Array.from(atob(text.slice(PREFIX.length).replaceAll('-', '+').replaceAll('_', '/')), (letter) => letter.charCodeAt(0));
  } catch {
    return null;
  }
  if (bytes.length !== CODE_BYTES) return null;
  const id = Array.from(bytes.subarray(0, ID_BYTES), (byte) => byte.toString(16).padStart(2, '0')).join('');
  return {
    ticket: `ticket_${id}`,
    serial: new DataView(bytes.buffer).getUint32(ID_BYTES),
    signed: bytes.subarray(0, SIGNED_BYTES),
    signature: bytes.subarray(SIGNED_BYTES),
  };
}

/** The public keys, as the browser's own cryptography takes them; it has Ed25519 over HTTPS and on this machine only. */
async function loadKeys(signal) {
  const { keys } = await get('/tickets/keys', signal);
  if (!crypto.subtle) throw new Error('This browser checks signatures only over HTTPS or on this machine, so it cannot stand at a door without network.');
  const wanted = keys.filter(({ alg }) => alg === 'Ed25519');
  return Promise.all(wanted.map(({ x }) => crypto.subtle.importKey('jwk', { kty: 'OKP', crv: 'Ed25519', x }, { name: 'Ed25519' }, false, ['verify'])));
}

async function signedBy(keys, { signed, signature }) {
  const message = new Uint8Array(CONTEXT.length + signed.length);
  message.set(CONTEXT);
  message.set(signed, CONTEXT.length);
  for (const key of keys) if (await crypto.subtle.verify({ name: 'Ed25519' }, key, signature, message)) return true;
  return false;
}

function recallScans(event) {
  try {
    return JSON.parse(localStorage.getItem(`${STORED}.${event}`)) ?? [];
  } catch {
    return [];
  }
}

/** Scans outlive a reload: they are the only record of who went in. */
function keepScans(event, scans) {
  try {
    localStorage.setItem(`${STORED}.${event}`, JSON.stringify(scans));
  } catch {
    // Kept until the page is left.
  }
}
