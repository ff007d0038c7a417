// Reed-Solomon codes over GF(256) as QR codes have them: finds and mends wrong bytes (Berlekamp-Massey, Chien, Forney).

const EXP = new Uint8Array(510);
const LOG = new Uint8Array(256);
for (let power = 0, value = 1; power < 255; power += 1) {
  EXP[power] = value;
  EXP[power + 255] = value;
  LOG[value] = power;
  value <<= 1;
  if (value & 256) value ^= 0x11d;
}

const multiply = (a, b) => (a === 0 || b === 0 ? 0 : EXP[LOG[a] + LOG[b]]);
const divide = (a, b) => (a === 0 ? 0 : EXP[LOG[a] + 255 - LOG[b]]);

/** The value of a polynomial, lowest coefficient first. */
const valueAt = (polynomial, x) => polynomial.reduceRight((sum, coefficient) => multiply(sum, x) ^ coefficient, 0);

/** Mends `block`, whose last `checks` bytes are its check bytes, in place; false where too much of it is wrong. */
export function correct(block, checks) {
  const syndromes = Array.from({ length: checks }, (_, power) => block.reduce((sum, byte) => multiply(sum, EXP[power]) ^ byte, 0));
  if (syndromes.every((syndrome) => syndrome === 0)) return true;
  const locator = locatorOf(syndromes);
  const wrong = locator.length - 1;
  if (wrong * 2 > checks) return false;
  const places = block.map((_, index) => block.length - 1 - index).filter((place) => valueAt(locator, EXP[(255 - place) % 255]) === 0);
  if (places.length !== wrong) return false;
  // The evaluator: syndromes times locator, as far as there are check bytes.
  const evaluator = Array.from({ length: checks }, (_, power) => locator.slice(0, power + 1).reduce((sum, coefficient, index) => sum ^ multiply(coefficient, syndromes[power - index]), 0));
  const slope = locator.map((coefficient, power) => (power % 2 === 1 ? coefficient : 0)).slice(1);
  for (const place of places) {
    const inverse = EXP[(255 - place) % 255];
    const steepness = valueAt(slope, inverse);
    if (steepness === 0) return false;
    block[block.length - 1 - place] ^= multiply(EXP[place], divide(valueAt(evaluator, inverse), steepness));
  }
  return true;
}

/** The polynomial whose roots say which bytes are wrong, lowest coefficient first. */
function locatorOf(syndromes) {
  let [locator, before] = [[1], [1]];
  let [length, since, last] = [0, 1, 1];
  for (let step = 0; step < syndromes.length; step += 1) {
    let gap = syndromes[step];
    for (let index = 1; index <= length; index += 1) gap ^= multiply(locator[index] ?? 0, syndromes[step - index]);
    if (gap === 0) {
      since += 1;
      continue;
    }
    const factor = divide(gap, last);
    const next = locator.slice();
    before.forEach((coefficient, index) => { next[index + since] = (next[index + since] ?? 0) ^ multiply(factor, coefficient); });
    for (let index = 0; index < next.length; index += 1) next[index] ??= 0;
    if (2 * length <= step) [before, last, length, since] = [locator, gap, step + 1 - length, 1];
    else since += 1;
    locator = next;
  }
  while (locator.length > 1 && locator[locator.length - 1] === 0) locator.pop();
  return locator;
}
