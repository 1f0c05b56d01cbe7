// What an explorer knows: reads the numbers that tmrn_edu/viz/explorer_pack.py packed (the layout is described there),
// and answers from them. No picture, no page. explorer.py joins this file, explorer_paint.js and explorer.js to one script.

const VIRIDIS = [[68, 1, 84], [71, 45, 123], [59, 82, 139], [44, 114, 142], [33, 145, 140], [40, 174, 128], [94, 201, 98], [173, 220, 48], [253, 231, 37]];

function colour(value) { // 0..1 -> red, green, blue
  const place = Math.min(Math.max(value, 0), 1) * (VIRIDIS.length - 1), i = Math.min(Math.floor(place), VIRIDIS.length - 2);
  return VIRIDIS[i].map((low, c) => low + (place - i) * (VIRIDIS[i + 1][c] - low));
}

async function inflate(packed) {
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

function unpack(about, buffer) {
  const q = about.grid[0] * about.grid[1], k = about.k;
  let start = 0;
  const bytes = (count) => new Uint8Array(buffer, (start += count) - count, count);
  const words = (count) => { // low bytes, then high bytes
    const low = bytes(count), high = bytes(count);
    return Uint16Array.from(low, (value, i) => value + 256 * high[i]);
  };
  const places = (t, part, unit) => { // steps from one query cell to the next -> (y, x) of every cell, t yx q; `unit`: what a cell is
    const steps = words(2 * t * q), result = new Float32Array(2 * t * q);
    for (let i = 0, sum = 0; i < steps.length; i++) {
      if (i % q === 0) sum = 0;
      sum += steps[i] & 1 ? -(steps[i] + 1) / 2 : steps[i] / 2;
      const cell = i % q, own = Math.floor(i / q) % 2 ? cell % about.grid[1] : Math.floor(cell / about.grid[1]);
      result[i] = sum / part + unit * own;
    }
    return result;
  };
  return {
    views: about.views.map(({ memory }) => {
      const t = memory.length, n = t * q;
      const readers = about.readers.map(() => ({ peaks: bytes(n), weights: bytes(n), paths: places(t, 8, 1), levels: bytes(n * k), low: bytes(n * k), high: bytes(n * k) }));
      const truth = about.truth ? { places: places(t, 4, about.cell), visible: bytes(n) } : null;
      const agents = about.agents.map((count) => (count ? { winner: bytes(n), share: bytes(n) } : null)); // of the query frame
      return { readers, truth, agents };
    }),
    stored: about.agents.map((count) => (count ? about.stored.map(() => ({ winner: bytes(q), share: bytes(q) })) : null)), // of memory frames
  };
}

// The middle of a (fractional) grid cell, in pixels.
function middle(about, place) { return place.map((value, axis) => (value + 0.5) * about.cell - 0.5 - about.offset[axis]); }

function strongestOf(heat) { return heat.reduce((a, b) => (a && a[2] >= b[2] ? a : b), null); }

// What one query cell sees in memory frame number t of a view: its best cells, temporal weight, expected and true position (pixels), agent.
function answer(about, data, { view, reader }, cell, t) {
  const [h, w] = about.grid, q = cell[0] * w + cell[1], n = t * h * w + q;
  const { readers, truth, agents } = data.views[view], part = readers[reader], peak = (part.peaks[n] / 255) ** 2, heat = [];
  for (let i = n * about.k, m = 0; i < (n + 1) * about.k && part.levels[i]; i++) {
    m += 256 * part.high[i] + part.low[i];
    heat.push([Math.floor(m / w), m % w, (part.levels[i] / about.levels) ** 2 * peak]);
  }
  const place = (of) => [of[2 * t * h * w + q], of[(2 * t + 1) * h * w + q]];
  const expected = middle(about, place(part.paths)), true_ = truth && truth.visible[n] ? place(truth.places) : null;
  return {
    heat, peak, weight: (part.weights[n] / 255) ** 2, expected, truth: true_,
    best: strongestOf(heat), // null where nothing of this frame is among the network's own top k
    error: true_ && Math.hypot(expected[0] - true_[0], expected[1] - true_[1]),
    agent: agents[reader] && [agents[reader].winner[n], agents[reader].share[n] / 255],
  };
}

// Backwards: every query cell that has this memory cell among its best, and with which affinity; times its temporal weight if `weighted`.
function voters(about, data, { view, reader }, [y, x], t, weighted) {
  const [h, w] = about.grid, part = data.views[view].readers[reader], asked = y * w + x, heat = [];
  for (let q = 0; q < h * w; q++) {
    const n = t * h * w + q;
    for (let i = n * about.k, m = 0; i < (n + 1) * about.k && part.levels[i]; i++) {
      m += 256 * part.high[i] + part.low[i];
      if (m < asked) continue;
      if (m === asked) {
        const affinity = (part.levels[i] / about.levels * part.peaks[n] / 255) ** 2;
        heat.push([Math.floor(q / w), q % w, weighted ? affinity * (part.weights[n] / 255) ** 2 : affinity]);
      }
      break; // positions rise
    }
  }
  return heat;
}

// Agents are directions and then their opposites: +1, +2, ..., -1, -2, ...
function agentName(count, agent) { return agent < count / 2 ? `+${agent + 1}` : `-${agent + 1 - count / 2}`; }
