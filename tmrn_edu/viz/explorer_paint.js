// How an explorer looks: a canvas with, for each reader shown, the query frame and its memory frames.

const GAP = 8, NARROW = 560, LEAST = 140; // CSS pixels: between panels; a phone; the panels of a row at least
const MUTED = [34, 0.52, 0.35], VISIBLE = 0.45; // of a muted frame: black, contrast, colour; the power of a share that is its opacity
const INK = "#1a1a1a", BLUE = "#0072b2", TRUE = "#f0e442";

// Pixels of letters on a canvas `width` wide: 16 at 1500, to be read from the last row of a class, and not below 13.
function letters(width) { return Math.min(Math.max(10 + width / 250, 13), 17); }

// Where everything stands on a canvas `width` wide and, where there is room beside each other, about `tall` high at most:
// rows of {reader, title, large, small: [...]}, the height, and the letters' size. Text and signs grow with the width.
function arrange(about, { view, shown }, width, tall) {
  const [H, W] = about.size, count = about.views[view].memory.length, two = shown.length > 1, narrow = width < NARROW;
  const font = letters(width), small = 8 * font, title = two ? Math.round(1.5 * font) : 0, head = Math.round(1.4 * font), foot = Math.round(0.6 * font) + 5;
  const room = Math.max(tall / shown.length - title - head - foot, LEAST); // for the panels of a row; `small`: how wide words above a panel are
  const plan = (share) => { // memory panels beside a query panel of this share of the width, as large as they can be
    const left = narrow ? Math.min(width, 300) : Math.min(share * width, room * W / H), right = narrow ? width : width - left - GAP;
    const fit = (columns) => {
      const lines = Math.ceil(count / columns);
      return Math.min((right - GAP * (columns - 1)) / columns, (room - (lines - 1) * (head + foot)) / lines * W / H);
    };
    let columns = Array.from({ length: count }, (_, i) => i + 1).reduce((best, c) => (fit(c) > fit(best) ? c : best));
    if (!narrow && fit(columns) >= small) return { left, columns, side: fit(columns) };
    columns = Math.max(1, Math.min(count, narrow ? 3 : Math.floor((right + GAP) / (small + GAP)))); // rows grow
    return { left, columns, side: narrow ? (width - GAP * (columns - 1)) / columns : small };
  };
  const plans = (two ? [0.27, 0.23, 0.19] : [0.32]).map(plan), largest = Math.max(...plans.map(({ side }) => side));
  const { left, columns, side } = plans.find((each) => each.side > 0.97 * largest), step = side * H / W + head + foot;
  let top = 0;
  const rows = shown.map((reader) => {
    const y = top + title + head, large = { x: 0, y, width: left, height: left * H / W };
    const [x0, y0] = narrow ? [0, large.y + large.height + head + GAP] : [left + GAP, y];
    const panels = about.views[view].memory.map((_, i) => ({ x: x0 + (i % columns) * (side + GAP), y: y0 + Math.floor(i / columns) * step, width: side, height: side * H / W }));
    const row = { reader, title: two ? top + title - Math.round(0.4 * font) : null, large, small: panels };
    top = Math.max(large.y + large.height, panels.at(-1).y + panels.at(-1).height) + foot;
    return row;
  });
  return { rows, width, height: top, font };
}

// A picture paler and with little of its colour, so that heat stands out and things can still be told apart; as `muted` in affinity.py.
function muted(image) {
  const own = Object.assign(document.createElement("canvas"), { width: image.width, height: image.height }), ink = own.getContext("2d", { willReadFrequently: true });
  ink.drawImage(image, 0, 0);
  const pixels = ink.getImageData(0, 0, own.width, own.height), { data } = pixels;
  for (let i = 0; i < data.length; i += 4) {
    const light = (data[i] + data[i + 1] + data[i + 2]) / 3;
    for (let c = i; c < i + 3; c++) data[c] = MUTED[0] + MUTED[1] * light + MUTED[2] * (data[c] - light);
  }
  ink.putImageData(pixels, 0, 0);
  return own;
}

function makePainter(canvas, about, data, pictures) {
  const [H, W] = about.size, [h, w] = about.grid, pen = canvas.getContext("2d");
  const mask = Object.assign(document.createElement("canvas"), { width: w, height: h });
  const scale = Math.max(1, Math.min(2, window.devicePixelRatio || 1));
  const grounds = new Map([...pictures.frames].map(([number, image]) => [number, muted(image)]));
  let layout = null, unit = 1, dim = new Map(); // `unit`: how much larger than on a narrow page text and signs are

  const at = (panel, [y, x]) => [panel.x + (x + 0.5) / W * panel.width, panel.y + (y + 0.5) / H * panel.height];
  const square = (panel, [y, x]) => { // a grid cell on a panel
    const [left, top] = at(panel, [y * about.cell - about.offset[0] - 0.5, x * about.cell - about.offset[1] - 0.5]);
    return [left, top, about.cell / W * panel.width, about.cell / H * panel.height];
  };
  const stroke = (ink, thick, path) => { // twice, the first time darker and thicker, to show on any ground
    for (const [style, extra] of [["rgba(0,0,0,.75)", 2], [ink, 0]]) {
      pen.strokeStyle = style; pen.lineWidth = unit * (thick + extra); pen.beginPath(); path(); pen.stroke();
    }
  };
  const ring = (panel, place, weight) => { // an expected position; hollow, not to hide what it stands on
    const [x, y] = at(panel, place), r = unit * (3 + 7 * Math.sqrt(weight));
    stroke("white", 1.6, () => { pen.moveTo(x + r, y); pen.arc(x, y, r, 0, 2 * Math.PI); });
  };
  const cross = (panel, place) => {
    const [x, y] = at(panel, place), r = 5 * unit;
    stroke(TRUE, 2, () => { pen.moveTo(x - r, y - r); pen.lineTo(x + r, y + r); pen.moveTo(x - r, y + r); pen.lineTo(x + r, y - r); });
  };
  const box = (panel, cell, thick) => { // around a cell, so that its colour stays to be seen
    const [x, y, width, height] = square(panel, cell), grow = unit * thick / 2 + 1;
    stroke("white", thick, () => pen.rect(x - grow, y - grow, width + 2 * grow, height + 2 * grow));
  };
  const within = (panel, paint) => { pen.save(); pen.beginPath(); pen.rect(panel.x, panel.y, panel.width, panel.height); pen.clip(); paint(); pen.restore(); };
  const typeface = (share = 1, style = "") => { pen.font = `${style} ${share * layout.font}px system-ui, sans-serif`; };
  const write = (text, x, y, style) => { pen.fillStyle = INK; typeface(1, style); pen.fillText(text, x, y); };
  const above = (panel) => panel.y - 0.35 * layout.font; // where words over a panel stand
  const tag = (panel, text) => { // words inside a panel, on their own ground
    typeface(0.92);
    const high = 1.25 * layout.font;
    pen.fillStyle = "rgba(0,0,0,.7)"; pen.fillRect(panel.x, panel.y + panel.height - high, pen.measureText(text).width + 8, high);
    pen.fillStyle = "white"; pen.fillText(text, panel.x + 4, panel.y + panel.height - 0.3 * layout.font);
  };

  function cells(panel, colours) { // [y, x, red, green, blue, alpha] of grid cells, over a panel
    const ink = mask.getContext("2d"), pixels = ink.createImageData(w, h);
    for (const [y, x, ...rgba] of colours) pixels.data.set(rgba, 4 * (y * w + x));
    ink.putImageData(pixels, 0, 0);
    const [left, top] = square(panel, [0, 0]), [right, bottom] = square(panel, [h, w]);
    pen.imageSmoothingEnabled = false;
    pen.drawImage(mask, left, top, right - left, bottom - top);
  }
  const heatMap = (panel, heat, top) => cells(panel, heat.map(([y, x, value]) => [y, x, ...colour(value / top), 255 * (value / top) ** VISIBLE]));
  const agentMap = (panel, { winner, share }, from, chosen) => cells(panel, Array.from({ length: h * w }, (_, m) => {
    const agent = winner[from + m], full = agent === chosen ? 255 : 110; // the others step back
    return [Math.floor(m / w), m % w, ...about.agentColours[agent], full * (0.35 + 0.65 * share[from + m] / 255)];
  }));

  function ground(number, panel) { // a muted frame with its masks' rims, painted once for every size
    const key = `${number} ${panel.width}`;
    if (!dim.has(key)) {
      const own = Object.assign(document.createElement("canvas"), { width: Math.round(panel.width * scale), height: Math.round(panel.height * scale) });
      const ink = own.getContext("2d");
      ink.drawImage(grounds.get(number), 0, 0, own.width, own.height);
      ink.imageSmoothingEnabled = false;
      if (pictures.outlines.has(number)) ink.drawImage(pictures.outlines.get(number), 0, 0, own.width, own.height);
      dim.set(key, own);
    }
    pen.drawImage(dim.get(key), panel.x, panel.y, panel.width, panel.height);
  }

  function memoryPanels(row, state, answers) {
    const { memory } = about.views[state.view], agents = about.agents[row.reader], back = state.asked;
    const strongest = Math.max(...answers.map((a) => a.peak * a.weight), 1e-12);
    row.small.forEach((panel, t) => {
      const { heat, peak, weight, best, expected, truth, error, agent } = answers[t];
      within(panel, () => {
        ground(memory[t], panel);
        if (state.colour === "agents" && agents) {
          agentMap(panel, data.stored[row.reader][about.stored.indexOf(memory[t])], 0, agent[0]);
          if (!back) tag(panel, `agent ${agentName(agents, agent[0])}, ${Math.round(100 * agent[1])} %`);
        } else if (!back) {
          const weighted = state.colour === "W u";
          heatMap(panel, weighted ? heat.map(([y, x, a]) => [y, x, a * weight]) : heat, weighted ? strongest : peak || 1);
        }
        if (back) {
          if (back.t === t) box(panel, back.cell, 2);
          return;
        }
        if (best) box(panel, best, 1);
        if (truth) {
          stroke(TRUE, 1, () => { pen.setLineDash([4, 3]); pen.moveTo(...at(panel, truth)); pen.lineTo(...at(panel, expected)); }); // the error
          pen.setLineDash([]);
          cross(panel, truth);
        }
        ring(panel, expected, weight);
        if (state.colour === "agents" && agents) return;
        const notes = [about.truth ? (error === null ? "hidden" : `${error.toFixed(1)} px`) : null, best ? null : "not read"];
        if (notes.some(Boolean)) tag(panel, notes.filter(Boolean).join(", "));
      });
      write(`frame ${memory[t]}`, panel.x, above(panel));
      if (back) return;
      pen.textAlign = "right"; write(`u ${weight.toFixed(2)}`, panel.x + panel.width, above(panel)); pen.textAlign = "left";
      pen.fillStyle = "#ddd"; pen.fillRect(panel.x, panel.y + panel.height + 2, panel.width, 4 * unit);
      pen.fillStyle = BLUE; pen.fillRect(panel.x, panel.y + panel.height + 2, panel.width * weight, 4 * unit);
    });
  }

  function queryPanel(row, state, answers, votes) {
    const panel = row.large, { query } = about.views[state.view], back = state.asked;
    const join = (places) => { places.forEach((place, i) => (i ? pen.lineTo : pen.moveTo).apply(pen, at(panel, place))); };
    within(panel, () => {
      if (back) {
        const top = Math.max(...votes.map((vote) => vote[2]), 1e-12);
        ground(query, panel);
        heatMap(panel, votes, top);
        if (votes.length) box(panel, strongestOf(votes), 2);
        return;
      }
      pen.imageSmoothingEnabled = true;
      pen.drawImage(pictures.frames.get(query), panel.x, panel.y, panel.width, panel.height);
      if (state.colour === "agents" && about.agents[row.reader]) {
        const t = answers.length - 1; // the newest memory frame's agents
        agentMap(panel, data.views[state.view].agents[row.reader], t * h * w, answers[t].agent[0]);
      } else {
        pen.imageSmoothingEnabled = false;
        pen.drawImage(pictures.predicted[row.reader][state.view], panel.x, panel.y, panel.width, panel.height);
      }
      const start = middle(about, state.query), seen = [...answers].reverse().map((a) => a.truth).filter(Boolean); // back in time
      if (seen.length) {
        pen.setLineDash([5, 4]); stroke(TRUE, 1.2, () => join([start, ...seen])); pen.setLineDash([]);
      }
      let from = start;
      for (const { expected, weight } of [...answers].reverse()) {
        const begin = from;
        stroke("white", 0.6 + 5 * weight, () => join([begin, expected]));
        from = expected;
      }
      for (const place of seen) cross(panel, place);
      for (const { expected, weight } of answers) ring(panel, expected, weight);
      box(panel, state.query, 2);
    });
    write(back ? `query frame ${query}: who looks there` : `query frame ${query}`, panel.x, above(panel));
  }

  return {
    // Draws `state` on a canvas `width` wide and about `tall` high at most; `answers` and `votes` by row.
    draw(state, width, tall, answers, votes) {
      const next = arrange(about, state, width, tall);
      if (!layout || layout.width !== next.width || layout.height !== next.height) {
        [canvas.width, canvas.height] = [Math.round(next.width * scale), Math.round(next.height * scale)];
        canvas.style.height = `${next.height}px`;
        dim = new Map();
      }
      [layout, unit] = [next, next.font / 13];
      pen.setTransform(scale, 0, 0, scale, 0, 0);
      pen.clearRect(0, 0, layout.width, layout.height);
      layout.rows.forEach((row, i) => {
        if (row.title !== null) write(about.readers[row.reader], 0, row.title, "bold");
        memoryPanels(row, state, answers[i]);
        queryPanel(row, state, answers[i], votes[i]);
      });
    },
    layout: () => layout,
    // What lies at a point of the canvas: {t: null for the query frame, else a memory frame's place; cell}; or null.
    hit(x, y) {
      for (const row of layout.rows) {
        for (const [t, panel] of [[null, row.large], ...row.small.entries()]) {
          const [left, top] = [x - panel.x, y - panel.y];
          if (left < 0 || top < 0 || left >= panel.width || top >= panel.height) continue;
          const pixel = [top / panel.height * H, left / panel.width * W];
          return { t, cell: pixel.map((value, axis) => Math.min(Math.max(Math.floor((value + about.offset[axis]) / about.cell), 0), about.grid[axis] - 1)) };
        }
      }
      return null;
    },
    middleOf: (panel, cell) => at(panel, middle(about, cell)), // for tests: where a cell is on the canvas
  };
}
