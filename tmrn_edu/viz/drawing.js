// Drawing outlines on a frame, for tmrn_edu/viz/drawing.py: clicks, touch or keys make polygons; the mask they fill is shown
// at once. Points are [x, y] in pixels of the frame, whole numbers in the middle of pixels. No library, nothing loaded.

const WIDE = 860, TALL = 560, NEAR = 9; // CSS pixels: the canvas at most, and how close to a point counts as on it
const ERASE = 0; // the id that takes away

async function inflate(packed) {
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// The pixels inside the outlines by the even-odd rule, or on them: `fill` of data/polygons.py, word for word.
function fill(outlines, H, W) {
  const odd = new Uint8Array(H * W), rim = new Uint8Array(H * W);
  for (const outline of outlines) {
    outline.forEach(([x0, y0], i) => {
      const [x1, y1] = outline[(i + 1) % outline.length];
      const top = Math.max(Math.ceil(Math.min(y0, y1)), 0), bottom = Math.min(Math.floor(Math.max(y0, y1)), H - 1);
      const left = Math.max(Math.ceil(Math.min(x0, x1)), 0), right = Math.min(Math.floor(Math.max(x0, x1)), W - 1);
      for (let y = top; y <= bottom; y++) {
        const crosses = (y0 <= y) !== (y1 <= y), at = x0 + (y - y0) * (x1 - x0) / (y1 - y0);
        if (crosses) for (let x = 0; x <= right && x < at; x++) odd[y * W + x] ^= 1;
        for (let x = left; x <= right; x++) if ((x1 - x0) * (y - y0) === (y1 - y0) * (x - x0)) rim[y * W + x] = 1;
      }
    });
  }
  return odd.map((value, i) => value | rim[i]);
}

// Puts a drawing into `root`. `state`: {about, polygons: [[id, [[x, y], ...]], ...], object}; `base`: labels H W, deflated, or empty.
// `hooks.changed({polygons, object})` is called after every change made here.
export async function mount(root, state, base, hooks = {}) {
  if (!window.DecompressionStream) { root.textContent = "This picture needs a newer browser."; return { show() {} }; }
  const { about } = state, [H, W] = about.size;
  const below = base.byteLength ? await inflate(base) : new Uint8Array(H * W);
  const picture = Object.assign(new Image(), { src: about.picture });
  await picture.decode();

  let shapes = JSON.parse(JSON.stringify(state.polygons)), open = [], object = state.object;
  let cursor = [Math.floor(W / 2), Math.floor(H / 2)], zoom = 1, corner = [0, 0]; // what is seen begins at `corner`, in pixels
  let keys = false; // the cross of the arrow keys is shown once one was pressed
  const past = [];

  root.className = "tmrn-drawing";
  root.dataset.lmSuppressShortcuts = "true"; // JupyterLab leaves the keys to us
  const make = (parent, tag, name) => Object.assign(parent.appendChild(document.createElement(tag)), { className: name });
  const bar = make(root, "div", "bar"), objects = make(bar, "span", "group"), tools = make(bar, "span", "group");
  const button = (parent, text, title, act) => {
    const made = make(parent, "button", "");
    Object.assign(made, { type: "button", textContent: text, title, onclick: () => { act(); canvas.focus({ preventScroll: true }); } });
    return made;
  };
  button(tools, "close outline", "Enter, or a click on its first point", () => close());
  button(tools, "undo", "Backspace", () => undo());
  button(tools, "clear", "takes all outlines of the chosen object away", () => clear());
  button(tools, "\u2212", "see more (key \u2212)", () => magnify(0.5));
  button(tools, "+", "see larger (key +)", () => magnify(2));
  const canvas = make(root, "canvas", "");
  canvas.tabIndex = 0;
  canvas.setAttribute("role", "application");
  canvas.setAttribute("aria-label", `Frame ${about.frame}: arrow keys move a cross, space sets a point, Enter closes the outline, Backspace takes back, digits choose the object, 0 takes away`);
  const line = make(root, "div", "line"), words = make(root, "code", "words");
  line.setAttribute("aria-live", "polite");
  const scale = Math.min(WIDE / W, TALL / H); // CSS pixels per pixel of the frame
  const width = W * scale, height = H * scale, dense = Math.max(1, Math.min(2, window.devicePixelRatio || 1));
  [canvas.width, canvas.height] = [Math.round(width * dense), Math.round(height * dense)];
  canvas.style.maxWidth = `${width}px`;
  const pen = canvas.getContext("2d");
  const layer = Object.assign(document.createElement("canvas"), { width: W, height: H });
  const rgb = (id) => about.colours[(id - 1) % about.colours.length], css = (id) => (id === ERASE ? "#fff" : `rgb(${rgb(id).join()})`);
  const clamp = (value, most) => Math.min(Math.max(value, 0), most);

  // Outlines of one object are filled together; higher ids stand on top, and what takes away comes first, before all that is drawn.
  function labels() {
    const mask = below.slice(), ids = [...new Set(shapes.map(([id]) => id))].sort((a, b) => a - b);
    for (const id of ids) fill(shapes.filter(([i]) => i === id).map(([, points]) => points), H, W).forEach((inside, i) => { if (inside) mask[i] = id; });
    return mask;
  }

  function paint() { // the mask, in the colours of its objects
    const mask = labels(), ink = layer.getContext("2d"), pixels = ink.createImageData(W, H), counts = {};
    let sum = 0;
    mask.forEach((id, i) => {
      if (!id || id === 255) return;
      counts[id] = (counts[id] || 0) + 1;
      sum = (sum + id * (i + 1)) % 1000000007;
      const x = i % W, rim = x && mask[i - 1] !== id || x < W - 1 && mask[i + 1] !== id || mask[i - W] !== id || mask[i + W] !== id;
      pixels.data.set([...rgb(id), rim ? 255 : 115], 4 * i);
    });
    ink.putImageData(pixels, 0, 0);
    root.dataset.pixels = JSON.stringify(counts);
    root.dataset.sum = sum;
    const known = [...new Set([...Object.keys(counts).map(Number), ...shapes.map(([id]) => id), object])].filter((id) => id !== ERASE).sort((a, b) => a - b);
    objects.replaceChildren();
    for (const id of [...known, ERASE]) {
      const chosen = button(objects, id === ERASE ? "take away" : `object ${id}`, `key ${id}`, () => choose(id));
      chosen.setAttribute("aria-pressed", id === object);
      chosen.style.setProperty("--own", css(id));
    }
    button(objects, "+ object", "key n", () => choose(Math.max(0, ...known) + 1));
    words.textContent = shapes.map(([id, points]) => `--polygon "${about.frame ? `${about.frame}=` : ""}${id}:${points.map((p) => p.join()).join(" ")}"`).join(" ");
    return counts;
  }

  const place = ([x, y]) => [(x + 0.5 - corner[0]) * scale * zoom, (y + 0.5 - corner[1]) * scale * zoom]; // on the canvas
  const trace = (points, whole) => { pen.beginPath(); points.forEach((p) => pen.lineTo(...place(p))); if (whole) pen.closePath(); };
  function outline(points, id, whole) {
    for (const [style, extra] of [["rgba(0,0,0,.75)", 2], [css(id), 0]]) {
      pen.setLineDash(id === ERASE ? [6, 4] : []);
      pen.strokeStyle = style; pen.lineWidth = 2 + extra; trace(points, whole); pen.stroke();
    }
    pen.setLineDash([]);
    points.forEach((p, i) => {
      const [x, y] = place(p), first = !whole && i === 0;
      pen.beginPath(); pen.arc(x, y, first ? 6 : 3.5, 0, 2 * Math.PI);
      pen.fillStyle = first ? css(id) : "#fff"; pen.fill(); pen.strokeStyle = "#000"; pen.lineWidth = 1; pen.stroke();
    });
  }

  function draw() {
    pen.setTransform(dense, 0, 0, dense, 0, 0);
    pen.clearRect(0, 0, width, height);
    const seen = [-corner[0] * scale * zoom, -corner[1] * scale * zoom, width * zoom, height * zoom];
    pen.imageSmoothingEnabled = zoom < 4;
    pen.drawImage(picture, ...seen);
    pen.imageSmoothingEnabled = false;
    pen.drawImage(layer, ...seen);
    shapes.forEach(([id, points]) => outline(points, id, true));
    if (open.length) outline(open, object, false);
    if (keys) {
      const [x, y] = place(cursor);
      for (const [style, thick] of [["#000", 3], ["#fff", 1]]) {
        pen.strokeStyle = style; pen.lineWidth = thick; pen.beginPath();
        pen.moveTo(x - 10, y); pen.lineTo(x + 10, y); pen.moveTo(x, y - 10); pen.lineTo(x, y + 10); pen.stroke();
      }
    }
    const what = object === ERASE ? "what is outlined is taken away from the mask below" : `object ${object}`;
    const next = open.length === 0 ? "click to begin an outline" : open.length < 3 ? `${open.length} of at least 3 points` : `${open.length} points: click the first one, or press Enter, to close`;
    line.textContent = `frame ${about.frame}, ${what}: ${next}${keys ? `; cross at x ${cursor[0]}, y ${cursor[1]}` : ""}`;
    root.dataset.open = JSON.stringify(open);
    root.dataset.polygons = JSON.stringify(shapes);
  }

  function changed() { paint(); draw(); hooks.changed?.({ polygons: JSON.parse(JSON.stringify(shapes)), object }); }
  function keep() { past.push(JSON.stringify([shapes, open])); if (past.length > 500) past.shift(); }
  function undo() { if (past.length) { [shapes, open] = JSON.parse(past.pop()); changed(); } }
  function clear() { keep(); shapes = shapes.filter(([id]) => id !== object); open = []; changed(); }
  function choose(id) { if (id < 0 || id > 254) return; if (open.length) { keep(); open = []; } object = id; changed(); }
  function add(point) {
    const last = open.at(-1);
    if (last && last[0] === point[0] && last[1] === point[1]) return;
    keep(); open.push(point); draw();
  }
  function close() {
    if (open.length < 3) { draw(); return; }
    keep(); shapes.push([object, open]); shapes.sort((a, b) => a[0] - b[0]); open = []; changed(); // as Python keeps them
  }
  function look(x, y) { corner = [clamp(x, W - W / zoom), clamp(y, H - H / zoom)]; }
  function magnify(factor, point = cursor) {
    const next = Math.min(Math.max(zoom * factor, 1), 16), [x, y] = place(point);
    zoom = next;
    look(point[0] + 0.5 - x / scale / zoom, point[1] + 0.5 - y / scale / zoom);
    draw();
  }

  // Pointers: a click sets a point, a drag from a point moves it, a drag from elsewhere moves what is seen.
  const onCanvas = (event) => {
    const frame = canvas.getBoundingClientRect(), ratio = width / frame.width;
    return [(event.clientX - frame.left) * ratio, (event.clientY - frame.top) * ratio];
  };
  const pixel = ([left, top]) => [clamp(Math.round(left / scale / zoom + corner[0] - 0.5), W - 1), clamp(Math.round(top / scale / zoom + corner[1] - 0.5), H - 1)];
  const near = (p, [left, top], event) => { const [x, y] = place(p); return Math.hypot(x - left, y - top) < NEAR * (event.pointerType === "touch" ? 2 : 1); };
  let held = null; // {from, corner, points, index, moved}
  canvas.onpointerdown = (event) => {
    if (event.button) return;
    canvas.focus({ preventScroll: true });
    const from = onCanvas(event), lists = [open, ...shapes.filter(([id]) => id === object).map(([, points]) => points)];
    const points = lists.find((list) => list.some((p) => near(p, from, event)));
    held = { from, corner: [...corner], points, index: points?.findIndex((p) => near(p, from, event)), moved: false };
    keys = false;
    try { canvas.setPointerCapture(event.pointerId); } catch { /* a pointer that is gone, or made by a test */ }
  };
  canvas.onpointermove = (event) => {
    cursor = pixel(onCanvas(event));
    if (!held) return;
    const [left, top] = onCanvas(event);
    if (!held.moved && Math.hypot(left - held.from[0], top - held.from[1]) < 5) return;
    if (!held.moved && held.points) keep();
    held.moved = true;
    if (held.points) { held.points[held.index] = cursor; if (held.points !== open) paint(); } else look(held.corner[0] - (left - held.from[0]) / scale / zoom, held.corner[1] - (top - held.from[1]) / scale / zoom);
    draw();
  };
  canvas.onpointerup = (event) => {
    const was = held;
    held = null;
    if (!was) return;
    if (was.moved) { if (was.points) changed(); return; }
    cursor = pixel(was.from);
    if (was.points !== open) add(cursor);
    else if (was.index === 0) close();
  };
  canvas.onpointercancel = () => { held = null; };
  canvas.ondblclick = () => close();
  canvas.onwheel = (event) => { if (event.ctrlKey || event.metaKey) { event.preventDefault(); magnify(event.deltaY < 0 ? 2 : 0.5, pixel(onCanvas(event))); } };
  canvas.onkeydown = (event) => {
    const step = { ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] }[event.key];
    const stride = event.shiftKey ? 10 : 1, command = event.ctrlKey || event.metaKey;
    if (step) {
      cursor = [clamp(cursor[0] + stride * step[0], W - 1), clamp(cursor[1] + stride * step[1], H - 1)];
      look(Math.min(Math.max(corner[0], cursor[0] + 1 - W / zoom), cursor[0]), Math.min(Math.max(corner[1], cursor[1] + 1 - H / zoom), cursor[1]));
      keys = true; draw();
    } else if (event.key === " ") { keys = true; add([...cursor]); }
    else if (event.key === "Enter") close();
    else if (event.key === "Escape") { if (open.length) { keep(); open = []; draw(); } }
    else if (event.key === "Backspace" || (command && event.key === "z")) undo();
    else if (command) return;
    else if (event.key === "n") choose(Math.max(0, object, ...Object.keys(JSON.parse(root.dataset.pixels)).map(Number)) + 1);
    else if (/^[0-9]$/.test(event.key)) choose(Number(event.key));
    else if (event.key === "+" || event.key === "=") magnify(2);
    else if (event.key === "-") magnify(0.5);
    else return;
    event.preventDefault(); event.stopPropagation();
  };
  paint(); draw();
  return {
    show(next) { // set from outside; what comes back from our own change is what is here
      if (next.object !== object) { object = next.object; open = []; }
      if (JSON.stringify(next.polygons) !== JSON.stringify(shapes)) { keep(); shapes = JSON.parse(JSON.stringify(next.polygons)); open = []; }
      paint(); draw();
    },
  };
}

// The widget's side: the same drawing, with polygons and the chosen object shared with Python.
async function render({ model, el }) {
  const state = () => ({ about: model.get("about"), polygons: model.get("polygons"), object: model.get("object") });
  const view = await mount(el.appendChild(document.createElement("div")), state(), model.get("base"), {
    changed({ polygons, object }) { model.set("polygons", polygons); model.set("object", object); model.save_changes(); },
  });
  const show = () => view.show(state());
  model.on("change:polygons", show);
  model.on("change:object", show);
  return () => { model.off("change:polygons", show); model.off("change:object", show); };
}

export default { render };
