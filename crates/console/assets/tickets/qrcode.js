// Reads QR codes (ISO/IEC 18004, versions 1 to 15) from pictures, for browsers without a reader of their own: the black
// and white of the picture, the three finder patterns, the grid between them, its bits, and Reed-Solomon against smudges.

import { correct } from './reedsolomon.js';

const LARGEST_VERSION = 15;
/** Blocks of the picture, in pixels, that are compared with their surroundings. */
const CELL = 8;
/** A block with less contrast is all of one colour. */
const LEAST_CONTRAST = 24;

/** By level (L, M, Q, H) and version: check codewords of a block, and how many blocks. */
const CHECKS = [
  [7, 10, 15, 20, 26, 18, 20, 24, 30, 18, 20, 24, 26, 30, 22],
  [10, 16, 26, 18, 24, 16, 18, 22, 22, 26, 30, 22, 22, 24, 24],
  [13, 22, 18, 26, 18, 24, 18, 22, 20, 24, 28, 26, 24, 20, 30],
  [17, 28, 22, 16, 22, 28, 26, 26, 24, 28, 24, 28, 22, 24, 24],
];
const BLOCKS = [
  [1, 1, 1, 1, 1, 2, 2, 2, 2, 4, 4, 4, 4, 4, 6],
  [1, 1, 1, 2, 2, 4, 4, 4, 5, 5, 5, 8, 9, 9, 10],
  [1, 1, 2, 2, 4, 4, 6, 6, 8, 8, 8, 10, 12, 16, 12],
  [1, 1, 2, 4, 4, 4, 5, 6, 8, 8, 11, 11, 16, 16, 18],
];
/** The two bits of the format name the levels in this order. */
const LEVELS = [1, 0, 3, 2];
const MASKS = [
  (x, y) => (x + y) % 2 === 0,
  (x, y) => y % 2 === 0,
  (x) => x % 3 === 0,
  (x, y) => (x + y) % 3 === 0,
  (x, y) => (Math.floor(y / 2) + Math.floor(x / 3)) % 2 === 0,
  (x, y) => ((x * y) % 2) + ((x * y) % 3) === 0,
  (x, y) => (((x * y) % 2) + ((x * y) % 3)) % 2 === 0,
  (x, y) => (((x + y) % 2) + ((x * y) % 3)) % 2 === 0,
];
const ALPHANUMERIC = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:';

/** The text of a code in `{data, width, height}` as a canvas gives it; null where none can be read. */
export function readQr(picture) {
  const bits = blackAndWhite(picture);
  for (const corners of triples(finders(bits))) {
    const text = readAt(bits, corners);
    if (text !== null) return text;
  }
  return null;
}

/** Each pixel against the mean of its surroundings, so that shadows do no harm. */
function blackAndWhite({ data, width, height }) {
  const light = new Uint8Array(width * height);
  for (let at = 0; at < light.length; at += 1) light[at] = (data[at * 4] * 77 + data[at * 4 + 1] * 151 + data[at * 4 + 2] * 28) >> 8;
  const [columns, lines] = [Math.ceil(width / CELL), Math.ceil(height / CELL)];
  const means = new Float32Array(columns * lines);
  for (let line = 0; line < lines; line += 1) {
    for (let column = 0; column < columns; column += 1) {
      let [sum, count, least, most] = [0, 0, 255, 0];
      for (let y = line * CELL; y < Math.min(height, (line + 1) * CELL); y += 1) {
        for (let x = column * CELL; x < Math.min(width, (column + 1) * CELL); x += 1) {
          const value = light[y * width + x];
          sum += value;
          count += 1;
          if (value < least) least = value;
          if (value > most) most = value;
        }
      }
      // Paper, unless what lies left and above is known to be darker.
      let mean = sum / count;
      if (most - least < LEAST_CONTRAST) {
        mean = least / 2;
        if (line > 0 && column > 0) {
          const around = (means[(line - 1) * columns + column] + 2 * means[line * columns + column - 1] + means[(line - 1) * columns + column - 1]) / 4;
          if (least < around) mean = around;
        }
      }
      means[line * columns + column] = mean;
    }
  }
  const black = new Uint8Array(width * height);
  for (let line = 0; line < lines; line += 1) {
    for (let column = 0; column < columns; column += 1) {
      const [top, left] = [Math.min(Math.max(line, 2), Math.max(2, lines - 3)), Math.min(Math.max(column, 2), Math.max(2, columns - 3))];
      let [sum, count] = [0, 0];
      for (let y = Math.max(0, top - 2); y <= Math.min(lines - 1, top + 2); y += 1) {
        for (let x = Math.max(0, left - 2); x <= Math.min(columns - 1, left + 2); x += 1) {
          sum += means[y * columns + x];
          count += 1;
        }
      }
      const limit = sum / count;
      for (let y = line * CELL; y < Math.min(height, (line + 1) * CELL); y += 1) {
        for (let x = column * CELL; x < Math.min(width, (column + 1) * CELL); x += 1) black[y * width + x] = light[y * width + x] <= limit ? 1 : 0;
      }
    }
  }
  return { black, width, height };
}

/** Whether five runs are 1 : 1 : 3 : 1 : 1. */
function isFinder(runs) {
  const total = runs[0] + runs[1] + runs[2] + runs[3] + runs[4];
  if (total < 7 || runs.includes(0)) return false;
  const module = total / 7;
  const slack = module * 0.7;
  return [1, 1, 3, 1, 1].every((wanted, at) => Math.abs(runs[at] - wanted * module) < slack * (wanted === 3 ? 2 : 1));
}

/** The runs through a point along (dx, dy), and where their middle is; null where it is no finder. */
function across({ black, width, height }, x, y, dx, dy, most) {
  const runs = [0, 0, 0, 0, 0];
  const inside = (px, py) => px >= 0 && py >= 0 && px < width && py < height;
  const walk = (sign, order) => {
    let [px, py] = sign > 0 ? [x + dx, y + dy] : [x, y];
    for (const [index, colour] of order) {
      while (inside(px, py) && black[py * width + px] === colour && runs[index] <= most) {
        runs[index] += 1;
        px += dx * sign;
        py += dy * sign;
      }
    }
    return dx === 0 ? py : px;
  };
  const low = walk(-1, [[2, 1], [1, 0], [0, 1]]);
  walk(1, [[2, 1], [3, 0], [4, 1]]);
  if (!isFinder(runs)) return null;
  const total = runs.reduce((sum, run) => sum + run, 0);
  return { middle: low + 1 + runs[0] + runs[1] + runs[2] / 2 - 0.5, total };
}

/** Middles of finder patterns with the size of a module and how often each was met. */
function finders(bits) {
  const { black, width, height } = bits;
  const found = [];
  for (let y = 0; y < height; y += 2) {
    const runs = [0, 0, 0, 0, 0];
    let colour = 0;
    for (let x = 0; x <= width; x += 1) {
      const now = x < width ? black[y * width + x] : 1 - colour;
      if (now === colour) {
        runs[4] += 1;
        continue;
      }
      // A black run has ended: its four predecessors and itself may be a finder.
      if (colour === 1 && isFinder(runs)) meet(bits, found, Math.round(x - runs[4] - runs[3] - runs[2] / 2 - 0.5), y, runs[2] * 2);
      runs.shift();
      runs.push(1);
      colour = now;
    }
  }
  return found;
}

function meet(bits, found, x, y, most) {
  const down = across(bits, x, y, 0, 1, most);
  if (!down) return;
  const along = across(bits, x, Math.round(down.middle), 1, 0, most);
  if (!along) return;
  const one = { x: along.middle, y: down.middle, module: (down.total + along.total) / 14, times: 1 };
  const known = found.find((other) => Math.hypot(other.x - one.x, other.y - one.y) < other.module * 2);
  if (!known) {
    found.push(one);
    return;
  }
  for (const name of ['x', 'y', 'module']) known[name] = (known[name] * known.times + one[name]) / (known.times + 1);
  known.times += 1;
}

/** Threes that may be the corners of a code, the likeliest first: `{corner, right, below, module}`. */
function triples(found) {
  const likely = found.sort((a, b) => b.times - a.times).slice(0, 12);
  const threes = [];
  for (let a = 0; a < likely.length; a += 1) {
    for (let b = a + 1; b < likely.length; b += 1) {
      for (let c = b + 1; c < likely.length; c += 1) {
        const three = corners(likely[a], likely[b], likely[c]);
        if (three) threes.push(three);
      }
    }
  }
  return threes.sort((a, b) => a.fault - b.fault).slice(0, 10);
}

function corners(a, b, c) {
  const far = (p, q) => Math.hypot(p.x - q.x, p.y - q.y);
  // The corner lies opposite the longest side.
  const [corner, one, other] = [[a, b, c], [b, a, c], [c, a, b]].reduce((best, three) => (far(three[1], three[2]) > far(best[1], best[2]) ? three : best));
  const [first, second, long] = [far(corner, one), far(corner, other), far(one, other)];
  const modules = [a.module, b.module, c.module];
  const module = (modules[0] + modules[1] + modules[2]) / 3;
  const uneven = (Math.max(...modules) - Math.min(...modules)) / module;
  const skew = Math.abs(first - second) / Math.max(first, second);
  const bent = Math.abs(Math.hypot(first, second) - long) / long;
  if (uneven > 0.9 || skew > 0.5 || bent > 0.3 || Math.min(first, second) < module * 10) return null;
  const turn = (one.x - corner.x) * (other.y - corner.y) - (one.y - corner.y) * (other.x - corner.x);
  const [right, below] = turn > 0 ? [one, other] : [other, one];
  return { corner, right, below, module, fault: uneven + skew + bent };
}

function readAt(bits, three) {
  const { corner, right, below, module } = three;
  const far = (p, q) => Math.hypot(p.x - q.x, p.y - q.y);
  const guess = Math.round(((far(corner, right) + far(corner, below)) / (2 * module) + 7 - 17) / 4);
  for (const version of [guess, guess + 1, guess - 1, guess + 2, guess - 2]) {
    if (version < 1 || version > LARGEST_VERSION) continue;
    const size = version * 4 + 17;
    for (const end of lastCorners(bits, three, size)) {
      const grid = sample(bits, three, end, size);
      const text = grid && decode(grid, size, version);
      if (text !== null && text !== false) return text;
    }
  }
  return null;
}

/** Where the fourth point of the grid may be: at the alignment pattern where it is found, else where the other three say. */
function lastCorners(bits, { corner, right, below, module }, size) {
  const flat = { x: right.x + below.x - corner.x, y: right.y + below.y - corner.y, grid: size - 3.5 };
  if (size < 25) return [flat];
  const share = (size - 10) / (size - 7);
  const at = (along, down) => ({ x: corner.x + (right.x - corner.x) * along + (below.x - corner.x) * down, y: corner.y + (right.y - corner.y) * along + (below.y - corner.y) * down });
  const near = at(share, share);
  const step = { ax: (right.x - corner.x) / (size - 7), ay: (right.y - corner.y) / (size - 7), dx: (below.x - corner.x) / (size - 7), dy: (below.y - corner.y) / (size - 7) };
  const { black, width, height } = bits;
  const fits = (x, y) => {
    let good = 0;
    for (let down = -2; down <= 2; down += 1) {
      for (let along = -2; along <= 2; along += 1) {
        const px = Math.round(x + along * step.ax + down * step.dx);
        const py = Math.round(y + along * step.ay + down * step.dy);
        if (px < 0 || py < 0 || px >= width || py >= height) return 0;
        const ring = Math.max(Math.abs(along), Math.abs(down));
        if (black[py * width + px] === (ring === 1 ? 0 : 1)) good += 1;
      }
    }
    return good;
  };
  const reach = Math.ceil(module * 5);
  let [best, sumX, sumY, count] = [20, 0, 0, 0];
  for (let y = -reach; y <= reach; y += 1) {
    for (let x = -reach; x <= reach; x += 1) {
      const good = fits(near.x + x, near.y + y);
      if (good < best) continue;
      if (good > best) [best, sumX, sumY, count] = [good, 0, 0, 0];
      sumX += near.x + x;
      sumY += near.y + y;
      count += 1;
    }
  }
  return count > 0 ? [{ x: sumX / count, y: sumY / count, grid: size - 6.5 }, flat] : [flat];
}

/** The modules of the grid between four points, row by row; null where it leaves the picture. */
function sample({ black, width, height }, { corner, right, below }, end, size) {
  const toSquare = squareTo([[3.5, 3.5], [size - 3.5, 3.5], [end.grid, end.grid], [3.5, size - 3.5]]);
  const fromSquare = squareTo([[corner.x, corner.y], [right.x, right.y], [end.x, end.y], [below.x, below.y]]);
  const map = times(fromSquare, adjugate(toSquare));
  const grid = new Uint8Array(size * size);
  for (let row = 0; row < size; row += 1) {
    for (let column = 0; column < size; column += 1) {
      const [u, v] = [column + 0.5, row + 0.5];
      const w = map[6] * u + map[7] * v + map[8];
      const x = Math.round((map[0] * u + map[1] * v + map[2]) / w);
      const y = Math.round((map[3] * u + map[4] * v + map[5]) / w);
      if (x < 0 || y < 0 || x >= width || y >= height) return null;
      grid[row * size + column] = black[y * width + x];
    }
  }
  return grid;
}

/** The projective map of the unit square to four points (P. Heckbert, "Fundamentals of Texture Mapping", 1989). */
function squareTo([[x0, y0], [x1, y1], [x2, y2], [x3, y3]]) {
  const [sx, sy] = [x0 - x1 + x2 - x3, y0 - y1 + y2 - y3];
  const [dx1, dx2, dy1, dy2] = [x1 - x2, x3 - x2, y1 - y2, y3 - y2];
  const whole = dx1 * dy2 - dx2 * dy1;
  const g = (sx * dy2 - dx2 * sy) / whole;
  const k = (dx1 * sy - sx * dy1) / whole;
  return [x1 - x0 + g * x1, x3 - x0 + k * x3, x0, y1 - y0 + g * y1, y3 - y0 + k * y3, y0, g, k, 1];
}

/** The inverse of a projective map, up to a factor, which does not matter. */
function adjugate([a, b, c, d, e, f, g, k, i]) {
  return [e * i - f * k, c * k - b * i, b * f - c * e, f * g - d * i, a * i - c * g, c * d - a * f, d * k - e * g, b * g - a * k, a * e - b * d];
}

function times(a, b) {
  return [0, 3, 6].flatMap((row) => [0, 1, 2].map((column) => a[row] * b[column] + a[row + 1] * b[column + 3] + a[row + 2] * b[column + 6]));
}

function decode(grid, size, version) {
  const format = formatOf(grid, size);
  if (!format) return null;
  const codewords = codewordsOf(grid, size, version, MASKS[format.mask]);
  const data = repaired(codewords, format.level, version);
  return data && textOf(data, version);
}

/** Level and mask: 15 bits that stand twice, of which up to three may be wrong. */
function formatOf(grid, size) {
  const at = (x, y) => grid[y * size + x];
  const [first, second] = [[], []];
  for (let x = 0; x < 9; x += 1) if (x !== 6) first.push(at(x, 8));
  for (let y = 7; y >= 0; y -= 1) if (y !== 6) first.push(at(8, y));
  for (let y = size - 1; y > size - 8; y -= 1) second.push(at(8, y));
  for (let x = size - 8; x < size; x += 1) second.push(at(x, 8));
  let best = { wrong: 4 };
  for (let data = 0; data < 32; data += 1) {
    let rest = data << 10;
    for (let bit = 14; bit >= 10; bit -= 1) if (rest & (1 << bit)) rest ^= 0x537 << (bit - 10);
    const wanted = ((data << 10) | rest) ^ 0x5412;
    for (const read of [first, second]) {
      const wrong = read.reduce((sum, bit, index) => sum + (bit === ((wanted >> (14 - index)) & 1) ? 0 : 1), 0);
      if (wrong < best.wrong) best = { wrong, level: LEVELS[data >> 3], mask: data & 7 };
    }
  }
  return best.wrong < 4 ? best : null;
}

/** Middles of the alignment patterns, in both directions. */
function alignments(version) {
  if (version === 1) return [];
  const size = version * 4 + 17;
  const count = Math.floor(version / 7) + 2;
  const step = Math.ceil((version * 4 + 4) / (count * 2 - 2)) * 2;
  return [6, ...Array.from({ length: count - 1 }, (_, index) => size - 7 - step * (count - 2 - index))];
}

/** Whether a module is part of a pattern, not of the data. */
function pattern(version) {
  const size = version * 4 + 17;
  const taken = new Uint8Array(size * size);
  const fill = (x, y, width, height) => { for (let row = y; row < y + height; row += 1) taken.fill(1, row * size + x, row * size + x + width); };
  fill(0, 0, 9, 9);
  fill(size - 8, 0, 8, 9);
  fill(0, size - 8, 9, 8);
  fill(6, 0, 1, size);
  fill(0, 6, size, 1);
  const middles = alignments(version);
  const last = size - 7;
  for (const x of middles) for (const y of middles) if (!((x === 6 && y === 6) || (x === 6 && y === last) || (x === last && y === 6))) fill(x - 2, y - 2, 5, 5);
  if (version >= 7) {
    fill(size - 11, 0, 3, 6);
    fill(0, size - 11, 6, 3);
  }
  return taken;
}

/** Two columns at a time from the right, up and down by turns. */
function codewordsOf(grid, size, version, mask) {
  const taken = pattern(version);
  const codewords = [];
  let [value, bits, up] = [0, 0, true];
  for (let right = size - 1; right > 0; right -= 2) {
    if (right === 6) right -= 1;
    for (let step = 0; step < size; step += 1) {
      const y = up ? size - 1 - step : step;
      for (const x of [right, right - 1]) {
        if (taken[y * size + x]) continue;
        value = (value << 1) | (grid[y * size + x] ^ (mask(x, y) ? 1 : 0));
        bits += 1;
        if (bits === 8) {
          codewords.push(value);
          [value, bits] = [0, 0];
        }
      }
    }
    up = !up;
  }
  return codewords;
}

/** The data of all blocks, one after the other; null where one cannot be repaired. */
function repaired(codewords, level, version) {
  const [checks, count] = [CHECKS[level][version - 1], BLOCKS[level][version - 1]];
  const short = Math.floor(codewords.length / count) - checks;
  const longs = codewords.length % count;
  const lengths = Array.from({ length: count }, (_, index) => short + (index >= count - longs ? 1 : 0));
  const blocks = lengths.map(() => []);
  let at = 0;
  for (let index = 0; index < short + 1; index += 1) for (let block = 0; block < count; block += 1) if (index < lengths[block]) blocks[block].push(codewords[at++]);
  for (let index = 0; index < checks; index += 1) for (let block = 0; block < count; block += 1) blocks[block].push(codewords[at++]);
  const data = [];
  for (const [index, block] of blocks.entries()) {
    if (!correct(block, checks)) return null;
    data.push(...block.slice(0, lengths[index]));
  }
  return data;
}

/** Numbers, letters and bytes (as UTF-8); null for what else there may be. */
function textOf(data, version) {
  let at = 0;
  const take = (count) => {
    let value = 0;
    for (let bit = 0; bit < count; bit += 1, at += 1) value = (value << 1) | ((data[at >> 3] >> (7 - (at & 7))) & 1);
    return value;
  };
  const large = version > 9;
  const bytes = [];
  const say = (text) => { for (const letter of text) bytes.push(letter.charCodeAt(0)); };
  while (data.length * 8 - at >= 4) {
    const mode = take(4);
    if (mode === 0) break;
    if (mode === 4) {
      for (let left = take(large ? 16 : 8); left > 0; left -= 1) bytes.push(take(8));
    } else if (mode === 2) {
      let left = take(large ? 11 : 9);
      for (; left > 1; left -= 2) {
        const pair = take(11);
        say(ALPHANUMERIC[Math.floor(pair / 45)] + ALPHANUMERIC[pair % 45]);
      }
      if (left === 1) say(ALPHANUMERIC[take(6)]);
    } else if (mode === 1) {
      let left = take(large ? 12 : 10);
      for (; left > 2; left -= 3) say(String(take(10)).padStart(3, '0'));
      if (left === 2) say(String(take(7)).padStart(2, '0'));
      if (left === 1) say(String(take(4)));
    } else {
      return null;
    }
    if (at > data.length * 8) return null;
  }
  return new TextDecoder().decode(Uint8Array.from(bytes));
}
