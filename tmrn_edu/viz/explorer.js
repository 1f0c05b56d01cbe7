// Draws what tmrn_edu/viz/explorer.py packed (the layout is described there): a query frame that can be clicked, and
// for the cell that asks, heat maps over every memory frame and its trajectory. No library, nothing loaded.

const LEFT = 272, RIGHT = 584, GAP = 8, TALL = 420, HEAD = 18, FOOT = 14; // sizes in CSS pixels; the canvas is LEFT + RIGHT wide
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
  const t = about.memory.length, q = about.grid[0] * about.grid[1], k = about.k;
  let start = 0;
  const take = (Kind, count) => {
    const bytes = count * Kind.BYTES_PER_ELEMENT;
    start += bytes;
    return new Kind(buffer.slice(start - bytes, start));
  };
  const readers = about.readers.map(() => ({
    peaks: take(Uint8Array, t * q), weights: take(Uint16Array, t * q), paths: take(Uint16Array, t * q * 2),
    levels: take(Uint8Array, t * q * k), low: take(Uint8Array, t * q * k), high: take(Uint8Array, t * q * k),
  }));
  const truth = about.truth ? { places: take(Int16Array, t * q * 2), visible: take(Uint8Array, t * q) } : null;
  return { readers, truth };
}

async function picture(uri) {
  const image = Object.assign(new Image(), { src: uri });
  await image.decode();
  return image;
}

// What one query cell sees in memory frame t: its best cells, temporal weight, expected and true position (pixels).
function answer(about, data, reader, cell, t) {
  const [h, w] = about.grid, n = t * h * w + cell[0] * w + cell[1], part = data.readers[reader];
  const peak = (part.peaks[n] / 255) ** 2, heat = [];
  for (let i = n * about.k, m = 0; i < (n + 1) * about.k && part.levels[i]; i++) {
    m += 256 * part.high[i] + part.low[i];
    heat.push([Math.floor(m / w), m % w, (part.levels[i] / about.levels) ** 2 * peak]);
  }
  const middle = (value, axis) => (value + 0.5) * about.cell - 0.5 - about.offset[axis];
  return {
    heat, peak, weight: part.weights[n] / 10000,
    best: heat.reduce((a, b) => (b[2] > a[2] ? b : a)),
    expected: [0, 1].map((axis) => middle(part.paths[2 * n + axis] / 16, axis)),
    truth: data.truth && data.truth.visible[n] ? [0, 1].map((axis) => data.truth.places[2 * n + axis] / 4) : null,
  };
}

// Puts an explorer into `root`. `state`: {about, query, reader}; `hooks.changed({query, reader})` is called after clicks.
export async function mount(root, state, packed, hooks = {}) {
  if (!window.DecompressionStream) { root.textContent = "This picture needs a newer browser."; return { show() {} }; }
  const { about } = state, [H, W] = about.size, [h, w] = about.grid;
  const data = unpack(about, await inflate(packed));
  const [frames, outlines, predicted] = await Promise.all([about.frames, about.outlines, about.predicted].map((uris) => Promise.all(uris.map(picture))));
  let query = [...state.query], reader = Math.max(0, about.readers.indexOf(state.reader)), weighted = false;

  root.className = "tmrn-explorer";
  root.dataset.lmSuppressShortcuts = "true"; // JupyterLab leaves the arrow keys to us
  const bar = root.appendChild(document.createElement("div"));
  bar.className = "bar";
  const buttons = about.readers.map((name, index) => {
    const button = bar.appendChild(document.createElement("button"));
    button.textContent = name;
    button.type = "button";
    button.onclick = () => { reader = index; changed(); };
    return button;
  });
  const label = bar.appendChild(document.createElement("label"));
  const box = label.appendChild(document.createElement("input"));
  box.type = "checkbox";
  box.onchange = () => { weighted = box.checked; draw(); };
  label.append(" times temporal weight");
  const canvas = root.appendChild(document.createElement("canvas"));
  canvas.tabIndex = 0;
  canvas.setAttribute("role", "application");
  const line = root.appendChild(document.createElement("div"));
  line.className = "line";
  line.setAttribute("aria-live", "polite");
  const legend = root.appendChild(document.createElement("div"));
  legend.className = "legend";

  // The query frame on the left; memory frames in as many columns as let them be largest.
  const count = about.memory.length;
  const fit = (columns) => Math.min((RIGHT - GAP * columns) / columns, (TALL / Math.ceil(count / columns) - HEAD - FOOT) * W / H);
  const columns = about.memory.map((_, i) => i + 1).reduce((best, c) => (fit(c) > fit(best) ? c : best));
  const side = Math.max(fit(columns), 40);
  const large = { x: 0, y: HEAD, width: LEFT, height: LEFT * H / W };
  const small = about.memory.map((_, i) => ({
    x: LEFT + GAP + (i % columns) * (side + GAP), y: HEAD + Math.floor(i / columns) * (side * H / W + HEAD + FOOT), width: side, height: side * H / W,
  }));
  const width = LEFT + RIGHT, height = Math.max(large.y + large.height, small.at(-1).y + small.at(-1).height) + FOOT;
  const scale = Math.max(1, Math.min(2, window.devicePixelRatio || 1));
  [canvas.width, canvas.height] = [width * scale, height * scale];
  const pen = canvas.getContext("2d");
  const mask = Object.assign(document.createElement("canvas"), { width: w, height: h });

  const at = (panel, [y, x]) => [panel.x + (x + 0.5) / W * panel.width, panel.y + (y + 0.5) / H * panel.height];
  const square = (panel, [y, x]) => { // a grid cell on a panel
    const [left, top] = at(panel, [y * about.cell - about.offset[0] - 0.5, x * about.cell - about.offset[1] - 0.5]);
    return [left, top, about.cell / W * panel.width, about.cell / H * panel.height];
  };
  const stroke = (ink, thick, path) => { // twice, the first time darker and thicker, to show on any ground
    for (const [style, extra] of [["rgba(0,0,0,.75)", 2], [ink, 0]]) {
      pen.strokeStyle = style; pen.lineWidth = thick + extra; pen.beginPath(); path(); pen.stroke();
    }
  };
  const ring = (panel, place, weight) => { // an expected position; hollow, not to hide what it stands on
    const [x, y] = at(panel, place), r = 3 + 7 * Math.sqrt(weight);
    stroke("white", 1.6, () => { pen.moveTo(x + r, y); pen.arc(x, y, r, 0, 2 * Math.PI); });
  };
  const cross = (panel, place) => {
    const [x, y] = at(panel, place), r = 5;
    stroke("#f0e442", 2, () => { pen.moveTo(x - r, y - r); pen.lineTo(x + r, y + r); pen.moveTo(x - r, y + r); pen.lineTo(x + r, y - r); });
  };
  const within = (panel, paint) => { pen.save(); pen.beginPath(); pen.rect(panel.x, panel.y, panel.width, panel.height); pen.clip(); paint(); pen.restore(); };
  const write = (text, x, y) => { pen.fillStyle = "#1a1a1a"; pen.font = "12px system-ui, sans-serif"; pen.fillText(text, x, y); };

  function paintHeat(panel, heat, top) {
    const ink = mask.getContext("2d"), pixels = ink.createImageData(w, h);
    for (const [y, x, affinity] of heat) {
      const value = affinity / top;
      pixels.data.set([...colour(value), 255 * Math.sqrt(value)], 4 * (y * w + x));
    }
    ink.putImageData(pixels, 0, 0);
    const [left, top_] = square(panel, [0, 0]), [right, bottom] = square(panel, [h, w]);
    pen.imageSmoothingEnabled = false;
    pen.drawImage(mask, left, top_, right - left, bottom - top_);
  }

  function draw() {
    const answers = about.memory.map((_, t) => answer(about, data, reader, query, t));
    const strongest = Math.max(...answers.map((a) => a.peak * a.weight), 1e-12);
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, width, height);
    small.forEach((panel, t) => {
      const { heat, peak, weight, best, expected, truth } = answers[t];
      within(panel, () => {
        pen.filter = "grayscale(1) brightness(.6)"; // where a browser has no filters, the veil below does it alone
        pen.drawImage(frames[t], panel.x, panel.y, panel.width, panel.height);
        pen.filter = "none";
        pen.fillStyle = "rgba(30,30,30,.3)"; pen.fillRect(panel.x, panel.y, panel.width, panel.height);
        pen.imageSmoothingEnabled = false;
        pen.drawImage(outlines[t], panel.x, panel.y, panel.width, panel.height);
        paintHeat(panel, weighted ? heat.map(([y, x, a]) => [y, x, a * weight]) : heat, weighted ? strongest : peak || 1);
        stroke("white", 1, () => pen.rect(...square(panel, best)));
        if (truth) cross(panel, truth);
        ring(panel, expected, weight);
      });
      write(`frame ${about.memory[t]}`, panel.x, panel.y - 5);
      pen.textAlign = "right"; write(`u = ${weight.toFixed(2)}`, panel.x + panel.width, panel.y - 5); pen.textAlign = "left";
      pen.fillStyle = "#ddd"; pen.fillRect(panel.x, panel.y + panel.height + 2, panel.width, 4);
      pen.fillStyle = "#0072b2"; pen.fillRect(panel.x, panel.y + panel.height + 2, panel.width * weight, 4);
    });
    pen.imageSmoothingEnabled = true;
    pen.drawImage(frames[count], large.x, large.y, large.width, large.height);
    pen.imageSmoothingEnabled = false;
    pen.drawImage(predicted[reader], large.x, large.y, large.width, large.height);
    within(large, () => {
      let from = [0, 1].map((axis) => (query[axis] + 0.5) * about.cell - 0.5 - about.offset[axis]);
      for (const { expected, weight } of [...answers].reverse()) { // back in time
        const start = from;
        stroke("white", 0.6 + 5 * weight, () => { pen.moveTo(...at(large, start)); pen.lineTo(...at(large, expected)); });
        from = expected;
      }
      for (const { truth } of answers) if (truth) cross(large, truth);
      for (const { expected, weight } of answers) ring(large, expected, weight);
      stroke("white", 2, () => pen.rect(...square(large, query)));
    });
    write(`frame ${about.query}: click, drag, or arrow keys`, large.x, large.y - 5);
    buttons.forEach((button, index) => button.setAttribute("aria-pressed", index === reader));
    const [y, x] = [0, 1].map((axis) => Math.round((query[axis] + 0.5) * about.cell - 0.5 - about.offset[axis]));
    root.dataset.matches = JSON.stringify(answers.map((a) => a.best.slice(0, 2)));
    line.textContent = `${about.readers[reader]}, query cell (${query.join(", ")}), pixel (${y}, ${x})`;
    legend.textContent = (weighted ? "Colour: affinity times temporal weight u, as a share of the largest in any frame; the " : "Colour: affinity, as a share of the largest in its frame; the ")
      + `${about.k} best cells of each frame, which hold ${Math.round(100 * about.share[reader])} % of it on average. Square: best cell. Ring: expected position, larger with u.` + (about.truth ? " Cross: truth, where visible." : "");
  }

  function changed() { draw(); hooks.changed?.({ query: [...query], reader: about.readers[reader] }); }
  function move(y, x) {
    const next = [Math.min(Math.max(y, 0), h - 1), Math.min(Math.max(x, 0), w - 1)];
    if (next[0] !== query[0] || next[1] !== query[1]) { query = next; changed(); }
  }
  function point(event) {
    const frame = canvas.getBoundingClientRect(), ratio = width / frame.width;
    const left = (event.clientX - frame.left) * ratio - large.x, top = (event.clientY - frame.top) * ratio - large.y;
    if (left < 0 || top < 0 || left >= large.width || top >= large.height) return false;
    const pixel = [top / large.height * H - 0.5, left / large.width * W - 0.5];
    move(...pixel.map((value, axis) => Math.floor((value + 0.5 + about.offset[axis]) / about.cell)));
    return true;
  }
  canvas.onpointerdown = (event) => { canvas.focus({ preventScroll: true }); if (point(event)) canvas.setPointerCapture(event.pointerId); };
  canvas.onpointermove = (event) => { if (event.buttons & 1) point(event); };
  canvas.onkeydown = (event) => {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!step) return;
    event.preventDefault(); event.stopPropagation();
    move(query[0] + step[0], query[1] + step[1]);
  };
  canvas.setAttribute("aria-label", `Query frame ${about.query} and memory frames ${about.memory.join(", ")}; arrow keys move the query cell`);
  draw();
  return {
    show(next) { query = [...next.query]; reader = Math.max(0, about.readers.indexOf(next.reader)); draw(); },
  };
}

// The widget's side: the same view, with query and reader shared with Python.
async function render({ model, el }) {
  const state = () => ({ about: model.get("about"), query: model.get("query"), reader: model.get("reader") });
  const view = await mount(el.appendChild(document.createElement("div")), state(), model.get("packed"), {
    changed({ query, reader }) { model.set("query", query); model.set("reader", reader); model.save_changes(); },
  });
  const show = () => view.show(state());
  model.on("change:query", show);
  model.on("change:reader", show);
  return () => { model.off("change:query", show); model.off("change:reader", show); };
}

export default { render };
