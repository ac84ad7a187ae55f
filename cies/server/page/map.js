// The map: all pictures as points, drawn by WebGL. Drag to move, wheel to zoom, select by a lasso.

import { request, thumbnailOf } from "/page/search.js";
import { $, make, say } from "/page/elements.js";

// Colours that people with common colour blindness tell apart too (Paul Tol's muted scheme and two
// more), and the colour of other values.
const COLORS = ["#cc6677", "#4477cc", "#ddaa33", "#117733", "#88ccee", "#882255", "#44aa99",
  "#999933", "#aa4499", "#ee7733", "#6655bb"];
const OTHERS = "#9a9aa2";

// The side of a cell in which the nearest point is looked for, in units of the map.
const CELLS = 128;

// Milliseconds that drawing may take at each move; and how far a picture that takes longer is moved,
// as a share of the map.
const QUICK = 12;
const FAR = 0.5;

let view = null; // position and zoom, kept while the map stays the same

export async function drawMap(container, signal, asked) {
  const { condition, gallery, open, pick } = asked;
  say("");
  const state = await ready(condition, signal);
  const { points, keys } = await load(condition, state, signal);
  const map = make("div", { id: "map" }, make("canvas", { tabindex: "0", role: "img",
    "aria-label": `${state.pictures} pictures laid out by ${condition}` }),
  make("canvas", { class: "lasso", "aria-hidden": "true" }),
  make("div", { id: "map-tip", hidden: "" }));
  const select = make("button", { type: "button", text: "Select by drawing", "aria-pressed": "false" });
  const by = make("select", { "aria-label": "Colour of the points" },
    make("option", { value: "", text: `the word for ${condition}` }),
    ...Object.keys(gallery.columns).map((value) => make("option", { value, text: value })));
  const how = state.kind === "umap" ? "UMAP" : "their two main directions (PCA)";
  container.replaceChildren(
    make("div", { id: "map-bar" }, make("label", {}, "Coloured by ", by), select,
      make("span", { text: `All pictures by ${condition}, laid out by ${how}. Drag to move, turn ` +
        "the wheel to zoom, click a point to see its picture." })),
    map, make("div", { id: "map-legend" }));
  if (view?.version !== state.version) view = { version: state.version, x: 0, y: 0, zoom: 0.94 };
  const drawing = new Drawing(map, points, keys, { open, signal,
    pick: (chosen) => pickPoints(chosen, keys, pick), select });
  const recolor = async () => {
    const given = new URLSearchParams({ version: state.version });
    if (by.value) given.set("column", by.value);
    try {
      const found = await request(`maps/${encodeURIComponent(condition)}/colors?${given}`, { signal });
      drawing.color(Uint8Array.from(atob(found.codes), (one) => one.charCodeAt(0)));
      $("map-legend").replaceChildren(...found.values.map((one, n) => entry(COLORS[n],
        `${one.value} (${one.pictures.toLocaleString()})`)), entry(OTHERS, "others"));
    } catch (error) {
      if (error.name !== "AbortError") say(error.message, true);
    }
  };
  by.addEventListener("change", recolor);
  await recolor();
  if (!state.final) replaceWhenFinal(container, signal, asked, state.version);
}

// A map that is only the first one, or that of fewer pictures, gives way to the final one.
async function replaceWhenFinal(container, signal, asked, version) {
  const address = "maps/" + encodeURIComponent(asked.condition);
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, 3000));
    if (signal.aborted) return;
    const state = await request(address, { signal }).catch(() => null);
    if (signal.aborted) return;
    if (state?.final) {
      if (state.version !== version) await drawMap(container, signal, asked);
      return;
    }
  }
}

function entry(color, text) {
  const dot = make("i");
  dot.style.background = color;
  return make("span", {}, dot, text);
}

async function ready(condition, signal) {
  for (;;) {
    const state = await request("maps/" + encodeURIComponent(condition), { signal });
    if (state.state === "ready") return state;
    say(`The map of ${state.pictures.toLocaleString()} pictures is being worked out ...`);
    await new Promise((resolve) => setTimeout(resolve, 700));
    if (signal.aborted) throw new DOMException("", "AbortError");
  }
}

async function load(condition, state, signal) {
  const address = `/api/v1/maps/${encodeURIComponent(condition)}/points?version=${state.version}`;
  const data = await (await fetch(address, { signal })).arrayBuffer();
  const count = data.byteLength / 40;
  say("");
  return { points: new Float32Array(data, 0, 2 * count), keys: new Uint8Array(data, 8 * count) };
}

const keyAt = (keys, n) =>
  Array.from(keys.subarray(32 * n, 32 * n + 32), (b) => b.toString(16).padStart(2, "0")).join("");

async function pickPoints(chosen, keys, pick) {
  const found = chosen.map((n) => keyAt(keys, n));
  // Names are asked for while there are few; a collection needs the keys only.
  const names = found.length > 50 ? found : await Promise.all(found.map(async (key) =>
    (await request(`pictures/${key}/about`).catch(() => ({ path: key }))).path));
  pick(found.map((key, n) => ({ key, path: names[n] })));
  say(`${found.length.toLocaleString()} pictures were selected.`);
}

const VERTEX = `attribute vec2 place; attribute vec3 color; uniform vec2 middle; uniform vec2 scale;
uniform float size; varying vec3 shade;
void main() { gl_Position = vec4((place - middle) * scale, 0.0, 1.0); gl_PointSize = size;
  shade = color; }`;
const FRAGMENT = `precision mediump float; varying vec3 shade;
void main() { vec2 away = gl_PointCoord - 0.5; if (dot(away, away) > 0.25) discard;
  gl_FragColor = vec4(shade, 1.0); }`;

class Drawing {
  constructor(map, points, keys, { open, pick, select, signal }) {
    [this.canvas, this.lasso] = map.querySelectorAll("canvas");
    Object.assign(this, { map, points, keys, open, pick, select, waiting: false,
      drawn: { ...view } });
    this.count = points.length / 2;
    this.gl = this.canvas.getContext("webgl", { antialias: false, alpha: true });
    if (!this.gl) throw new Error("This browser draws no WebGL, which the map needs.");
    this.program();
    this.grid();
    this.listen();
    const sized = new ResizeObserver(() => this.resize());
    sized.observe(map);
    signal.addEventListener("abort", () => sized.disconnect());
    this.resize();
  }

  program() {
    const { gl } = this;
    const program = gl.createProgram();
    for (const [kind, text] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    gl.useProgram(program);
    this.at = (name) => gl.getUniformLocation(program, name);
    const buffer = (name, size, kind, normalized, data) => {
      gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
      gl.bufferData(gl.ARRAY_BUFFER, data, gl.STATIC_DRAW);
      const place = gl.getAttribLocation(program, name);
      gl.enableVertexAttribArray(place);
      gl.vertexAttribPointer(place, size, kind, normalized, 0, 0);
    };
    this.setColors = (data) => buffer("color", 3, gl.UNSIGNED_BYTE, true, data);
    buffer("place", 2, gl.FLOAT, false, this.points);
    this.color(new Uint8Array(this.count).fill(255));
  }

  color(codes) {
    const rgb = (text) => [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16));
    const table = [...COLORS.map(rgb)];
    const others = rgb(OTHERS);
    const data = new Uint8Array(3 * this.count);
    for (let n = 0; n < this.count; n += 1) data.set(table[codes[n]] || others, 3 * n);
    this.setColors(data);
    this.redraw();
  }

  // The points of each cell, in one array, so that the nearest one is found without a look at all.
  grid() {
    const cell = (n) => Math.min(CELLS - 1, Math.floor((this.points[n] + 1) / 2 * CELLS));
    this.cellOf = (x, y) => [x, y].map((one) =>
      Math.min(CELLS - 1, Math.max(0, Math.floor((one + 1) / 2 * CELLS))));
    const starts = new Uint32Array(CELLS * CELLS + 1);
    const cells = new Uint32Array(this.count);
    for (let n = 0; n < this.count; n += 1) {
      cells[n] = cell(2 * n + 1) * CELLS + cell(2 * n);
      starts[cells[n] + 1] += 1;
    }
    for (let n = 0; n < CELLS * CELLS; n += 1) starts[n + 1] += starts[n];
    const next = starts.slice();
    this.inCells = new Uint32Array(this.count);
    for (let n = 0; n < this.count; n += 1) this.inCells[next[cells[n]]++] = n;
    this.starts = starts;
  }

  nearest(x, y, within) {
    const [left, low] = this.cellOf(x - within, y - within);
    const [right, high] = this.cellOf(x + within, y + within);
    let best = -1;
    let least = within * within;
    for (let row = low; row <= high; row += 1) {
      for (let at = this.starts[row * CELLS + left]; at < this.starts[row * CELLS + right + 1];
        at += 1) {
        const n = this.inCells[at];
        const away = (this.points[2 * n] - x) ** 2 + (this.points[2 * n + 1] - y) ** 2;
        if (away < least) [best, least] = [n, away];
      }
    }
    return best;
  }

  resize() {
    const ratio = Math.min(devicePixelRatio, 2);
    for (const canvas of [this.canvas, this.lasso]) {
      canvas.width = Math.max(1, Math.round(this.map.clientWidth * ratio));
      canvas.height = Math.max(1, Math.round(this.map.clientHeight * ratio));
    }
    this.ratio = ratio;
    this.redraw();
  }

  // Units of the map per half of the shorter side give the scale of both axes.
  scale() {
    const { clientWidth: width, clientHeight: height } = this.map;
    const side = Math.min(width, height);
    return [view.zoom * side / width, view.zoom * side / height];
  }

  toMap(event) {
    const bounds = this.map.getBoundingClientRect();
    const [across, up] = this.scale();
    return [((event.clientX - bounds.left) / bounds.width * 2 - 1) / across + view.x,
      (1 - (event.clientY - bounds.top) / bounds.height * 2) / up + view.y];
  }

  // Without a GPU, drawing many points takes long. The picture that is there is then moved instead,
  // and the points are drawn again when the view rests, or is far away.
  move() {
    if (!this.isSlow) {
      this.redraw();
      return;
    }
    clearTimeout(this.resting);
    this.resting = setTimeout(() => this.redraw(), 120);
    const { clientWidth: width, clientHeight: height } = this.map;
    const [across, up] = this.scale();
    const grown = view.zoom / this.drawn.zoom;
    const dx = (this.drawn.x - view.x) * across * width / 2;
    const dy = (view.y - this.drawn.y) * up * height / 2;
    if (Math.abs(dx) > FAR * width || Math.abs(dy) > FAR * height || grown > 3) this.redraw();
    else this.canvas.style.transform = `translate(${dx}px, ${dy}px) scale(${grown})`;
  }

  redraw() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      const { gl, canvas } = this;
      this.drawn = { ...view };
      canvas.style.transform = "";
      gl.viewport(0, 0, canvas.width, canvas.height);
      gl.clearColor(0, 0, 0, 0);
      gl.clear(gl.COLOR_BUFFER_BIT);
      gl.uniform2f(this.at("middle"), view.x, view.y);
      gl.uniform2f(this.at("scale"), ...this.scale());
      const dense = this.count > 20000 ? 2.5 : this.count > 2000 ? 5 : 9;
      gl.uniform1f(this.at("size"), Math.min(16, dense * Math.sqrt(view.zoom)) * this.ratio);
      const began = performance.now();
      gl.drawArrays(gl.POINTS, 0, this.count);
      if (this.isSlow === undefined) {
        gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(4)); // waits
        this.isSlow = performance.now() - began > QUICK;
      }
    });
  }

  zoom(factor, [x, y]) {
    const zoom = Math.min(200, Math.max(0.3, view.zoom * factor));
    view.x = x - (x - view.x) * view.zoom / zoom;
    view.y = y - (y - view.y) * view.zoom / zoom;
    view.zoom = zoom;
    this.move();
  }

  listen() {
    const { canvas, map } = this;
    let start = null; // where the pointer went down, and what is drawn
    const selecting = (event) => event.shiftKey || this.select.getAttribute("aria-pressed") === "true";
    this.select.addEventListener("click", () => this.select.setAttribute("aria-pressed",
      this.select.getAttribute("aria-pressed") !== "true"));
    map.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom(Math.exp(-event.deltaY / 400), this.toMap(event));
    }, { passive: false });
    map.addEventListener("pointerdown", (event) => {
      map.setPointerCapture(event.pointerId);
      start = { x: event.clientX, y: event.clientY, view: { ...view }, moved: false,
        path: selecting(event) ? [this.toMap(event)] : null };
      $("map-tip").hidden = true;
    });
    map.addEventListener("pointermove", (event) => {
      if (!start) {
        this.tip(event);
        return;
      }
      const [dx, dy] = [event.clientX - start.x, event.clientY - start.y];
      start.moved ||= Math.abs(dx) + Math.abs(dy) > 4;
      if (start.path) {
        start.path.push(this.toMap(event));
        this.drawLasso(start.path);
        return;
      }
      const [across, up] = this.scale();
      view.x = start.view.x - dx / map.clientWidth * 2 / across;
      view.y = start.view.y + dy / map.clientHeight * 2 / up;
      this.move();
    });
    map.addEventListener("pointerup", (event) => {
      const was = start;
      start = null;
      if (was?.path && was.moved) {
        this.pick(this.inside(was.path));
        this.drawLasso([]);
      } else if (was && !was.moved) {
        const found = this.under(event);
        if (found >= 0) this.show(keyAt(this.keys, found));
      }
    });
    map.addEventListener("pointerleave", () => { $("map-tip").hidden = true; });
    canvas.addEventListener("keydown", (event) => {
      const step = 0.2 / view.zoom;
      const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, step],
        ArrowDown: [0, -step] };
      if (event.key in moves) {
        view.x += moves[event.key][0];
        view.y += moves[event.key][1];
      } else if (event.key === "+" || event.key === "-") {
        view.zoom *= event.key === "+" ? 1.3 : 1 / 1.3;
      } else return;
      event.preventDefault();
      event.stopPropagation();
      this.redraw();
    });
  }

  under(event) {
    const [across] = this.scale();
    const pixels = 12 / this.map.clientWidth * 2 / across;
    return this.nearest(...this.toMap(event), pixels);
  }

  tip(event) {
    const found = this.under(event);
    const tip = $("map-tip");
    tip.hidden = found < 0;
    if (found < 0) return;
    const key = keyAt(this.keys, found);
    if (tip.dataset.key !== key) {
      tip.dataset.key = key;
      tip.replaceChildren(make("img", { src: thumbnailOf(key), alt: "" }));
    }
    const bounds = this.map.getBoundingClientRect();
    const [x, y] = [event.clientX - bounds.left, event.clientY - bounds.top];
    tip.style.left = `${x > bounds.width - 160 ? x - 150 : x + 14}px`;
    tip.style.top = `${y > bounds.height - 160 ? y - 150 : y + 14}px`;
  }

  async show(key) {
    try {
      const about = await request(`pictures/${key}/about`);
      this.open({ key, path: about.path, word: Object.values(about.words).join(", ") });
    } catch (error) {
      say(error.message, true);
    }
  }

  drawLasso(path) {
    const context = this.lasso.getContext("2d");
    const [across, up] = this.scale();
    const { width, height } = this.lasso;
    context.clearRect(0, 0, width, height);
    context.strokeStyle = getComputedStyle(this.map).getPropertyValue("--accent");
    context.lineWidth = 2 * this.ratio;
    context.beginPath();
    for (const [x, y] of path) {
      context.lineTo(((x - view.x) * across + 1) / 2 * width, (1 - (y - view.y) * up) / 2 * height);
    }
    context.stroke();
  }

  // The points inside a closed path, by the number of its sides to the left of each.
  inside(path) {
    const found = [];
    const xs = path.map((one) => one[0]);
    const ys = path.map((one) => one[1]);
    const [left, right, low, high] = [Math.min(...xs), Math.max(...xs), Math.min(...ys),
      Math.max(...ys)];
    for (let n = 0; n < this.count; n += 1) {
      const [x, y] = [this.points[2 * n], this.points[2 * n + 1]];
      if (x < left || x > right || y < low || y > high) continue;
      let odd = false;
      for (let i = 0, j = xs.length - 1; i < xs.length; j = i, i += 1) {
        if ((ys[i] > y) !== (ys[j] > y) &&
          x < (xs[j] - xs[i]) * (y - ys[i]) / (ys[j] - ys[i]) + xs[i]) odd = !odd;
      }
      if (odd) found.push(n);
    }
    return found;
  }
}
