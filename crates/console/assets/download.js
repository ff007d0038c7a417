// Files that only a signed-in person may fetch: a link of the browser carries no token.

import { getBlob } from './api.js';
import { toast } from './parts.js';

/** Saves it under this name. */
export async function download(target, name) {
  try {
    const url = URL.createObjectURL(await getBlob(target, '*/*'));
    const anchor = document.createElement('a');
    anchor.href = url;
    anchor.download = name;
    anchor.click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  } catch (problem) {
    toast(`${name} was not saved: ${problem.message}`);
  }
}
