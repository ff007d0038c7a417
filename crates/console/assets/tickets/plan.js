// The seats of an event as the map needs them: positions in typed arrays, sections with their outlines, an index by place.

/** Cells of the index hold about this many seats: few enough to search, many enough to be few. */
const CELL_SPACINGS = 5;
const FALLBACK_COLORS = ['#1b7f7a', '#3f6fb5', '#a9760f', '#a3478f', '#c4553b', '#5b7d2a'];

/** Geometry from `GET /event/{id}/plan`; it does not change while the page is open. */
export class Plan {
  constructor(answer) {
    this.event = answer.event;
    this.total = answer.seats;
    this.levels = answer.price_levels.map((level, index) => ({ ...level, price: priceOf(level.price), color: colorOf(level.color, index) }));
    this.level = Int16Array.from(answer.level);
    this.x = Float32Array.from(answer.x);
    this.y = Float32Array.from(answer.y);
    /** Numbered seats; places of general admission have higher numbers and no position. */
    this.seated = this.x.length;
    this.areas = answer.areas ?? [];
    this.shapes = answer.shapes ?? [];
    this.rows = [];
    /** Runs of rows of one section that cost the same. */
    this.blocks = [];
    this.sections = answer.sections.map((section, index) => this.readSection(section, index, answer.labels));
    this.starts = Uint32Array.from(this.rows, (row) => row.first);
    this.sectionOf = new Uint16Array(this.seated);
    this.blockOf = new Uint16Array(this.seated);
    for (const row of this.rows) {
      this.sectionOf.fill(row.section, row.first, row.first + row.count);
      this.blockOf.fill(row.block, row.first, row.first + row.count);
    }
    this.spacing = this.measureSpacing();
    this.box = boxOf(this.x, this.y, 0, this.seated);
    // Room for the names of rows at both ends.
    this.box.left -= this.spacing * 1.6;
    this.box.right += this.spacing * 1.6;
    for (const shape of this.shapes) widen(this.box, shapeBox(shape));
    for (const part of [...this.sections, ...this.blocks]) part.outline = outline(this, part.rows);
    this.index();
  }

  /** The currency of all prices. */
  inCurrency(currency) {
    for (const { price } of this.levels) if (price) price.currency ??= currency;
  }

  readSection({ name, rows }, index, labels) {
    const from = this.rows.length;
    for (const { label, first, count } of rows) {
      this.rows.push({ section: index, label, first, count, seats: labels.slice(first, first + count) });
    }
    const own = this.rows.slice(from);
    const seats = own.reduce((sum, row) => sum + row.count, 0);
    const first = own[0]?.first ?? 0;
    return { index, name, rows: own, seats, first, box: boxOf(this.x, this.y, first, seats), blocks: this.readBlocks(own) };
  }

  readBlocks(rows) {
    const from = this.blocks.length;
    for (const row of rows) {
      const level = commonest(this.level, row.first, row.count);
      let block = this.blocks.length > from ? this.blocks[this.blocks.length - 1] : null;
      if (block?.level !== level) {
        block = { index: this.blocks.length, level, rows: [], seats: 0, box: null };
        this.blocks.push(block);
      }
      row.block = block.index;
      block.rows.push(row);
      block.seats += row.count;
    }
    for (const block of this.blocks.slice(from)) block.box = boxOf(this.x, this.y, block.rows[0].first, block.seats);
    return this.blocks.slice(from);
  }

  /** The distance between neighbours in a row: the median of a sample. */
  measureSpacing() {
    const gaps = [];
    const stride = Math.max(1, Math.floor(this.rows.length / 200));
    for (let at = 0; at < this.rows.length; at += stride) {
      const { first, count } = this.rows[at];
      for (let seat = first; seat < first + Math.min(count - 1, 4); seat += 1) {
        const gap = Math.hypot(this.x[seat + 1] - this.x[seat], this.y[seat + 1] - this.y[seat]);
        if (gap > 0) gaps.push(gap);
      }
    }
    gaps.sort((a, b) => a - b);
    return gaps[gaps.length >> 1] ?? 1;
  }

  /** A grid over the plan: the seats of cell `c` are `cellSeats[cellStart[c]..cellStart[c + 1]]`. */
  index() {
    const { box, x, y } = this;
    this.cell = this.spacing * CELL_SPACINGS;
    this.columns = Math.max(1, Math.min(2000, Math.ceil((box.right - box.left) / this.cell) || 1));
    this.lines = Math.max(1, Math.min(2000, Math.ceil((box.bottom - box.top) / this.cell) || 1));
    const starts = new Uint32Array(this.columns * this.lines + 1);
    const cells = new Uint32Array(this.seated);
    for (let seat = 0; seat < this.seated; seat += 1) {
      cells[seat] = this.line(y[seat]) * this.columns + this.column(x[seat]);
      starts[cells[seat] + 1] += 1;
    }
    for (let cell = 1; cell < starts.length; cell += 1) starts[cell] += starts[cell - 1];
    const next = starts.slice();
    this.cellSeats = new Uint32Array(this.seated);
    for (let seat = 0; seat < this.seated; seat += 1) this.cellSeats[next[cells[seat]]++] = seat;
    this.cellStart = starts;
  }

  column(x) {
    return Math.min(this.columns - 1, Math.max(0, Math.floor((x - this.box.left) / this.cell)));
  }

  line(y) {
    return Math.min(this.lines - 1, Math.max(0, Math.floor((y - this.box.top) / this.cell)));
  }

  /** Calls `visit` with each run of seats in the cells that a rectangle touches: `(seats, from, to)`. */
  within(left, top, right, bottom, visit) {
    const [fromColumn, toColumn] = [this.column(left), this.column(right)];
    for (let line = this.line(top); line <= this.line(bottom); line += 1) {
      const row = line * this.columns;
      visit(this.cellSeats, this.cellStart[row + fromColumn], this.cellStart[row + toColumn + 1]);
    }
  }

  /** The seat nearest to a point, no farther than `reach`; -1 where there is none. */
  nearest(x, y, reach) {
    let best = -1;
    let least = reach * reach;
    this.within(x - reach, y - reach, x + reach, y + reach, (seats, from, to) => {
      for (let at = from; at < to; at += 1) {
        const seat = seats[at];
        const far = (this.x[seat] - x) ** 2 + (this.y[seat] - y) ** 2;
        if (far < least) [best, least] = [seat, far];
      }
    });
    return best;
  }

  /** The section at a point, by its outline; null where there is none. */
  sectionAt(x, y) {
    return this.sections.find(({ box, outline: points }) =>
      x >= box.left - this.spacing && x <= box.right + this.spacing && y >= box.top - this.spacing && y <= box.bottom + this.spacing && contains(points, x, y)) ?? null;
  }

  rowOf(seat) {
    let [low, high] = [0, this.starts.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.starts[middle] <= seat) low = middle + 1;
      else high = middle;
    }
    return this.rows[low - 1];
  }

  areaOf(number) {
    return this.areas.find(({ blocks }) => blocks.some(([first, count]) => number >= first && number < first + count)) ?? null;
  }

  /** `{section, row, seat, area}` of a number, as on a ticket. */
  placeOf(number) {
    if (number >= this.seated) return { area: this.areaOf(number)?.name ?? 'General admission' };
    const row = this.rowOf(number);
    return { section: this.sections[row.section].name, row: row.label, seat: row.seats[number - row.first] ?? String(number - row.first + 1) };
  }

  priceOf(number) {
    return this.levels[this.level[number]]?.price ?? null;
  }
}

/** Prices in the geometry are bare minor units; `Plan.inCurrency` says of what. */
function priceOf(price) {
  return typeof price === 'number' ? { amount: price, currency: null } : price;
}

/** A ticket's id holds its event's id and its number + 1 in the last eight digits. */
export function ticketId(event, number) {
  return `ticket_${event.slice('event_'.length, -8)}${(number + 1).toString(16).padStart(8, '0')}`;
}

export function numberOf(ticket) {
  return parseInt(ticket.slice(-8), 16) - 1;
}

/** Only a plain colour is taken from data; anything else gets one of ours. */
function colorOf(text, index) {
  return /^#[0-9a-f]{6}$/i.test(text ?? '') ? text : FALLBACK_COLORS[index % FALLBACK_COLORS.length];
}

function boxOf(x, y, first, count) {
  const box = { left: Infinity, top: Infinity, right: -Infinity, bottom: -Infinity };
  for (let at = first; at < first + count; at += 1) {
    if (x[at] < box.left) box.left = x[at];
    if (x[at] > box.right) box.right = x[at];
    if (y[at] < box.top) box.top = y[at];
    if (y[at] > box.bottom) box.bottom = y[at];
  }
  return Number.isFinite(box.left) ? box : { left: 0, top: 0, right: 1, bottom: 1 };
}

function widen(box, other) {
  box.left = Math.min(box.left, other.left);
  box.top = Math.min(box.top, other.top);
  box.right = Math.max(box.right, other.right);
  box.bottom = Math.max(box.bottom, other.bottom);
}

export function shapeBox({ shape, x = 0, y = 0, width = 0, height = 0, radius, points = [] }) {
  if (shape === 'polygon' && points.length > 0) return boxOf(points.map(([px]) => px + x), points.map(([, py]) => py + y), 0, points.length);
  if (radius) return { left: x - radius, top: y - radius, right: x + radius, bottom: y + radius };
  return { left: x, top: y, right: x + width, bottom: y + height };
}

function commonest(level, first, count) {
  const counts = new Map();
  for (let at = first; at < first + count; at += 1) counts.set(level[at], (counts.get(level[at]) ?? 0) + 1);
  counts.delete(-1);
  return [...counts].reduce((best, one) => (one[1] > best[1] ? one : best), [0, -1])[0];
}

/** Around the ends of the rows, which follows a curved stand; around everything (convex) where that would cross itself. */
function outline(plan, allRows) {
  const at = (seat) => [plan.x[seat], plan.y[seat]];
  const rows = allRows.filter(({ count }) => count > 0);
  const all = rows.flatMap(({ first, count }) => (count > 2 ? [first, first + (count >> 1), first + count - 1] : [first, first + count - 1])).map(at);
  const hull = convexHull(all);
  if (rows.length < 2) return hull;
  const along = ({ first, count }) => {
    const steps = Math.min(count, 12);
    return Array.from({ length: steps }, (_, step) => at(first + Math.round((step * (count - 1)) / Math.max(1, steps - 1))));
  };
  const ends = rows.slice(1, -1);
  const ring = [
    ...along(rows[0]),
    ...ends.map(({ first, count }) => at(first + count - 1)),
    ...along(rows[rows.length - 1]).reverse(),
    ...ends.map(({ first }) => at(first)).reverse(),
  ];
  return crossesItself(ring) ? hull : ring;
}

/** Whether two sides of a polygon cross. Sides that only touch do not count. */
function crossesItself(points) {
  const side = (at) => [points[at], points[(at + 1) % points.length]];
  for (let one = 0; one < points.length; one += 1) {
    const [a, b] = side(one);
    for (let other = one + 2; other < points.length; other += 1) {
      const [c, d] = side(other);
      if (turn(a, b, c) * turn(a, b, d) < 0 && turn(c, d, a) * turn(c, d, b) < 0) return true;
    }
  }
  return false;
}

function area(points) {
  let sum = 0;
  for (let at = 0; at < points.length; at += 1) {
    const [x1, y1] = points[at];
    const [x2, y2] = points[(at + 1) % points.length];
    sum += x1 * y2 - x2 * y1;
  }
  return sum / 2;
}

/** The middle of a polygon by area; of its corners where it has none. */
export function centroid(points) {
  const whole = area(points);
  let [x, y] = [0, 0];
  for (let at = 0; at < points.length; at += 1) {
    const [x1, y1] = points[at];
    const [x2, y2] = points[(at + 1) % points.length];
    const cross = Math.abs(whole) > 1e-9 ? (x1 * y2 - x2 * y1) / (6 * whole) : 1 / (2 * points.length);
    x += (x1 + x2) * cross;
    y += (y1 + y2) * cross;
  }
  return [x, y];
}

/** Andrew's monotone chain. */
function convexHull(points) {
  const sorted = [...points].sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  if (sorted.length < 3) return sorted;
  const half = (list) => {
    const chain = [];
    for (const point of list) {
      while (chain.length > 1 && turn(chain[chain.length - 2], chain[chain.length - 1], point) <= 0) chain.pop();
      chain.push(point);
    }
    chain.pop();
    return chain;
  };
  return [...half(sorted), ...half(sorted.reverse())];
}

function turn([ax, ay], [bx, by], [cx, cy]) {
  return (bx - ax) * (cy - ay) - (by - ay) * (cx - ax);
}

/** Whether a polygon holds a point. */
export function contains(points, x, y) {
  let within = false;
  for (let at = 0, before = points.length - 1; at < points.length; before = at, at += 1) {
    const [xa, ya] = points[at];
    const [xb, yb] = points[before];
    if (ya > y !== yb > y && x < ((xb - xa) * (y - ya)) / (yb - ya) + xa) within = !within;
  }
  return within;
}
