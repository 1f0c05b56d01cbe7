// An explorer in a page: what is pointed at, by pointer, touch and keys, and the words around the canvas. `mount` puts one into any element;
// `render` is the notebook widget's side, which shares the state with Python. No library, nothing loaded.

const COLOURS = { W: "affinity in each frame", "W u": "affinity × frame's weight", agents: "agents" };

function element(kind, parent, properties = {}) { return parent.appendChild(Object.assign(document.createElement(kind), properties)); }

function say(node, text) { if (node.textContent !== text) node.textContent = text; } // what stays is not laid out again

async function picture(uri) {
  const image = Object.assign(new Image(), { src: uri });
  await image.decode();
  return createImageBitmap(image); // keeps it decoded: the first pointer need not wait for that
}

// Puts an explorer into `root`. `state`: {about, query, frame, reader, beside, memory_cell, colour}, as the traits of the widget;
// `hooks.changed(state)` is called after whatever the reader of the page did.
async function mount(root, state, packed, hooks = {}) {
  if (!window.DecompressionStream) { root.textContent = "This picture needs a newer browser."; return { show() {} }; }
  const { about } = state, [h, w] = about.grid;
  const byNumber = async (numbers, uris) => new Map(await Promise.all(uris.map(async (uri, i) => [numbers[i], await picture(uri)])));
  const [buffer, frames, outlines, predicted] = await Promise.all([
    inflate(packed), byNumber(about.numbers, about.frames), byNumber(about.stored, about.outlines),
    Promise.all(about.predicted.map((uris) => Promise.all(uris.map(picture)))),
  ]);
  const data = unpack(about, buffer);

  // The state: `view` and readers are numbers here, names and frame numbers outside.
  let now;
  const read = (from) => {
    const view = Math.max(0, about.views.findIndex(({ query }) => query === from.frame));
    const reader = Math.max(0, about.readers.indexOf(from.reader)), beside = about.readers.indexOf(from.beside);
    const t = from.memory_cell?.length ? about.views[view].memory.indexOf(from.memory_cell[0]) : -1;
    const asked = t < 0 ? null : { t, cell: from.memory_cell.slice(1) };
    now = { view, reader, beside: beside === reader ? -1 : beside, query: [...from.query], asked, colour: from.colour ?? "W" };
  };
  const told = () => ({
    query: [...now.query], frame: about.views[now.view].query, reader: about.readers[now.reader], beside: about.readers[now.beside] ?? "",
    memory_cell: now.asked ? [about.views[now.view].memory[now.asked.t], ...now.asked.cell] : [], colour: now.colour,
  });
  read({ frame: about.query, ...state });

  root.className = "tmrn-explorer";
  root.dataset.lmSuppressShortcuts = "true"; // JupyterLab leaves the keys to us
  const bar = element("div", root, { className: "bar" });
  const button = (text, title, act) => element("button", bar, { type: "button", textContent: text, title, onclick: act });
  const buttons = about.readers.map((name, index) => button(name, `show what ${name} does`, () => choose(index)));
  const label = (text, parent = bar) => element("label", parent, { textContent: text });
  const select = (text, options, act) => {
    const box = element("select", label(text));
    for (const [value, words] of options) element("option", box, { value, textContent: words });
    box.onchange = () => { act(box.value); changed(); };
    return box;
  };
  const several = about.readers.length > 1, hasAgents = about.agents.some(Boolean);
  const beside = several ? select("beside it ", [["", "nothing"], ...about.readers.map((name) => [name, name])], (name) => { now.beside = about.readers.indexOf(name); }) : null;
  const colourBox = select("colours ", Object.entries(COLOURS).filter(([key]) => key !== "agents" || hasAgents), (key) => { now.colour = key; });
  let range = null;
  if (about.views.length > 1) {
    const scrub = element("div", root, { className: "bar" });
    range = element("input", label("query frame ", scrub), { type: "range", min: 0, max: about.views.length - 1, step: 1 });
    range.setAttribute("aria-label", "query frame");
    range.oninput = () => scrubTo(Number(range.value));
    range.output = element("output", scrub);
  }
  const brief = element("div", root, { className: "brief" });
  const canvas = element("canvas", root, { tabIndex: 0 });
  canvas.setAttribute("role", "application");
  const line = element("div", root, { className: "line" });
  line.setAttribute("aria-live", "polite");
  const legend = element("div", root, { className: "legend" });
  const scale = element("div", legend, { className: "scale" });
  scale.innerHTML = "<span>0</span><i></i>";
  const largest = element("span", scale);
  scale.children[1].style.background = `linear-gradient(to right, ${VIRIDIS.map((c) => `rgb(${c})`).join()})`;
  const meaning = element("p", legend), marks = element("p", legend), keys = element("p", legend);
  keys.textContent = "Click or drag on the query frame; click on a memory frame to ask backwards. Keys: arrows move (with shift by 4 cells)"
    + (range ? ", comma and point change the query frame" : "") + (several ? ", r changes the reader, s what stands beside it" : "") + ", c the colours, m asks from memory frames, Escape goes back.";

  const painter = makePainter(canvas, about, data, { frames, outlines, predicted });

  function words(reader, answers, votes) {
    const { query, memory } = about.views[now.view];
    if (now.asked) {
      const where = `cell (${now.asked.cell.join(", ")}) of memory frame ${memory[now.asked.t]}`;
      if (!votes.length) return `${about.readers[reader]}: no cell of query frame ${query} has ${where} among its ${about.k} best`;
      const most = strongestOf(votes);
      return `${about.readers[reader]}: ${votes.length} cells of query frame ${query} have ${where} among their ${about.k} best; most of all (${most.slice(0, 2).join(", ")}), with ${most[2].toPrecision(2)}`;
    }
    const [y, x] = middle(about, now.query).map(Math.round), errors = answers.map((a) => a.error).filter((error) => error !== null);
    const mean = errors.reduce((a, b) => a + b, 0) / errors.length;
    const error = !about.truth ? "" : errors.length ? `; mean error of the trajectory ${mean.toFixed(1)} pixels, over ${errors.length} of ${memory.length} frames in which the point is to be seen` : "; hidden in all memory frames";
    return `${about.readers[reader]}, query cell (${now.query.join(", ")}), pixel (${y}, ${x})${error}`;
  }

  function explain() {
    const share = Math.round(100 * about.share[now.reader]), kept = `Only the ${about.k} best cells of each frame are kept, ${share} % of W on average.`;
    const readers = now.beside < 0 ? [now.reader] : [now.reader, now.beside], without = readers.filter((reader) => !about.agents[reader]);
    const shown = now.colour === "agents" && without.length === readers.length ? "W" : now.colour; // of readers without agents
    const what = now.colour !== "agents" || !without.length ? "" : ` ${without.map((reader) => about.readers[reader]).join(" and ")}: no agents, colours are affinities W, as shares of the largest in their frame.`;
    if (now.asked) {
      say(meaning, `Colours in the query frame: ${shown === "W u" ? "W times u" : "W"} of the cell asked for (square), as a share of the largest. W sums to one over a memory frame, not over the query cells that are coloured here. ${kept}`);
      say(marks, "□ in the query frame: the cell that looks there most.");
    } else if (shown === "agents") {
      say(meaning, "Colours: the agent that answers for a cell, paler where it is less sure; each cell's shares sum to one over the agents of that memory frame. Full colour: the agent of the query cell that asks. "
        + "The query frame is seen by the agents of the newest memory frame. Agents of different frames are different ones, whatever their colour; +1 and -1 are opposite directions." + what);
    } else {
      say(meaning, (shown === "W u"
        ? "Colours: affinity W times the frame's temporal weight u, as a share of the largest in any frame. W u sums to one over all cells of all memory frames."
        : "Colours: affinity W, as a share of the largest in its frame. W sums to one over the cells of each memory frame.") + ` ${kept}${what}`);
    }
    say(largest, shown === "W u" && !now.asked ? "largest in any frame" : now.asked ? "largest" : "largest in its frame");
    scale.hidden = shown === "agents" && !now.asked;
    if (!now.asked) say(marks, "□ best cell. ○ expected position, the mean of all cells by W; larger when the frame counts more. White line: the trajectory, back in time from the square that asks; thick where the frame counts more. "
      + "u and the bar: temporal weight of the frame; u sums to one over the memory frames." + (about.empty ? " Not read: nothing of the frame is among the best that this network reads with." : "") + (about.truth ? " ✕ and dashed line: the true path, where the point is to be seen; numbers in pixels: error." : ""));
  }

  // Room for the canvas, so that controls, all rows and the line of words fit into a window; in a frame of its own, whose height follows the page's, the screen's.
  function tallest() {
    const inner = window === window.top ? window.innerHeight : Math.max(window.innerHeight, 0.75 * screen.availHeight);
    return 0.85 * inner - (canvas.getBoundingClientRect().top - root.getBoundingClientRect().top);
  }

  function draw() {
    const shown = now.beside < 0 ? [now.reader] : [now.reader, now.beside], of = (reader) => ({ view: now.view, reader });
    const answers = shown.map((reader) => about.views[now.view].memory.map((_, t) => answer(about, data, of(reader), now.query, t)));
    const votes = shown.map((reader) => (now.asked ? voters(about, data, of(reader), now.asked.cell, now.asked.t, now.colour === "W u") : []));
    const width = root.clientWidth ? Math.max(280, root.clientWidth - 12) : 856;
    root.style.setProperty("--letters", `${letters(width)}px`);
    say(brief, width < NARROW ? `□ best ○ expected${about.truth ? " ✕ true" : ""} · yellow: looks most`
      : `□ best cell   ○ expected position${about.truth ? "   ✕ true position" : ""}   bright yellow: where the pixel looks most   u: weight of the frame`);
    painter.draw({ ...now, shown }, width, tallest(), answers, votes);
    buttons.forEach((each, index) => each.setAttribute("aria-pressed", index === now.reader));
    if (beside) [...(beside.value = about.readers[now.beside] ?? "", beside.options)].forEach((option) => { option.disabled = option.value === about.readers[now.reader]; });
    colourBox.value = now.colour;
    if (range) [range.value, range.output.textContent] = [now.view, about.views[now.view].query];
    const { query, memory } = about.views[now.view];
    canvas.setAttribute("aria-label", `Query frame ${query} and memory frames ${memory.join(", ")}; arrow keys move the cell that asks`);
    root.dataset.matches = JSON.stringify(answers[0].map((a) => a.best && a.best.slice(0, 2)));
    root.dataset.state = JSON.stringify(told());
    line.replaceChildren(...shown.flatMap((reader, i) => [words(reader, answers[i], votes[i]), document.createElement("br")]));
    explain();
  }

  function changed() { draw(); hooks.changed?.(told()); }
  const clamp = ([y, x]) => [Math.min(Math.max(y, 0), h - 1), Math.min(Math.max(x, 0), w - 1)];
  function choose(index) {
    if (index === now.reader) return;
    if (index === now.beside) now.beside = now.reader; // they change places
    now.reader = index;
    changed();
  }
  function scrubTo(view) {
    const number = now.asked && about.views[now.view].memory[now.asked.t];
    now.view = Math.min(Math.max(view, 0), about.views.length - 1);
    if (now.asked) { // the same memory frame, if this query frame reads it
      const t = about.views[now.view].memory.indexOf(number);
      now.asked = t < 0 ? null : { ...now.asked, t };
    }
    changed();
  }
  function go(t, cell) { // asks: from the query frame (t null), or backwards from a memory frame
    const before = JSON.stringify([now.asked, now.query]);
    if (t === null) [now.query, now.asked] = [clamp(cell), null];
    else now.asked = { t, cell: clamp(cell) };
    if (JSON.stringify([now.asked, now.query]) !== before) changed();
  }
  function spot(event) {
    const frame = canvas.getBoundingClientRect(), ratio = painter.layout().width / frame.width;
    return painter.hit((event.clientX - frame.left) * ratio, (event.clientY - frame.top) * ratio);
  }
  let dragged; // which panel the pointer went down on: a drag stays within it
  canvas.onpointerdown = (event) => {
    canvas.focus({ preventScroll: true });
    const hit = spot(event);
    if (!hit) return;
    canvas.setPointerCapture(event.pointerId);
    dragged = hit.t;
    go(hit.t, hit.cell);
  };
  canvas.onpointermove = (event) => {
    if (!(event.buttons & 1) || dragged === undefined) return;
    const hit = spot(event);
    if (hit && hit.t === dragged) go(hit.t, hit.cell);
  };
  canvas.onpointerup = canvas.onpointercancel = () => { dragged = undefined; };
  canvas.addEventListener("touchstart", (event) => { // a finger on the query frame points; elsewhere it may scroll the page
    if (spot(event.touches[0])?.t === null) event.preventDefault();
  }, { passive: false });
  canvas.onkeydown = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key], far = event.shiftKey ? 4 : 1;
    const turn = (list, item) => list[(list.indexOf(item) + 1) % list.length];
    const act = step ? () => (now.asked ? go(now.asked.t, now.asked.cell.map((c, i) => c + far * step[i])) : go(null, now.query.map((c, i) => c + far * step[i]))) : {
      ",": () => scrubTo(now.view - 1), ".": () => scrubTo(now.view + 1),
      r: () => choose((now.reader + 1) % about.readers.length),
      s: () => { now.beside = turn([-1, ...about.readers.keys()].filter((i) => i !== now.reader), now.beside); changed(); },
      c: () => { now.colour = turn([...colourBox.options].map((option) => option.value), now.colour); changed(); },
      m: () => { // newest memory frame first, then back in time; where it is looked at most
        const count = about.views[now.view].memory.length, t = now.asked ? (now.asked.t + count - 1) % count : count - 1;
        go(t, (answer(about, data, now, now.query, t).best ?? now.query).slice(0, 2));
      },
      Escape: () => go(null, now.query),
    }[event.key];
    if (!act || (event.key === "Escape" && !now.asked)) return;
    event.preventDefault(); event.stopPropagation();
    act();
  };
  let drawn = root.clientWidth;
  draw();
  performance.mark("tmrn-explorer"); // first picture; benchmarks/explorer.py reads it
  const tall = () => { if (!root.isConnected) window.removeEventListener("resize", tall); else if (root.clientWidth >= NARROW) draw(); };
  window.addEventListener("resize", tall);
  new ResizeObserver(() => { if (root.clientWidth && Math.abs(root.clientWidth - drawn) > 1) { drawn = root.clientWidth; draw(); } }).observe(root);
  const view = { show(next) { read(next); draw(); }, state: told, layout: painter.layout, middleOf: painter.middleOf };
  root.explorer = view; // for a page's own scripts
  return view;
}

// The widget's side: the same view, its state shared with Python.
const TRAITS = ["query", "frame", "reader", "beside", "memory_cell", "colour"];

async function render({ model, el }) {
  const state = () => Object.fromEntries(["about", ...TRAITS].map((name) => [name, model.get(name)]));
  let waiting, ours = false; // what is set here is on the canvas already
  const view = await mount(element("div", el), state(), model.get("packed"), {
    changed(next) { // the picture first: Python hears of it once it is painted, of many quick changes only the last
      clearTimeout(waiting);
      waiting = setTimeout(() => {
        ours = true;
        for (const name of TRAITS) model.set(name, next[name]);
        ours = false;
        model.save_changes();
      }, 20);
    },
  });
  const show = () => { if (!ours) view.show(state()); };
  for (const name of TRAITS) model.on(`change:${name}`, show);
  return () => { for (const name of TRAITS) model.off(`change:${name}`, show); };
}

export { mount };
export default { render };
