// The page: what is clicked and typed changes the question, and the answer is shown.

import { PAGE_SIZE, completionPlace, emptyQuestion, fromAddress, isAsked, listOf, pictureOf, post,
  request, searchBody, thumbnailOf, toAddress, upload } from "/page/search.js";
import { $, make, nameOf, picture, previews, say } from "/page/elements.js";
import { checkbox, pick, showCollections, startPicks } from "/page/picks.js";

let question = fromAddress(location.search);
let gallery = null;
let asking = null; // aborts the running request
let shown = 0; // hits on the page
let complete = false; // whether all hits are on the page

const percent = (value) => `${Math.min(value, 99.9).toFixed(1)} %`;

// -- the question --------------------------------------------------------------------------------

function change(changes, delay = 0) {
  Object.assign(question, changes);
  history.pushState(null, "", toAddress(question));
  showQuestion();
  ask(delay);
}

function usedConditions() {
  return Object.entries(question.conditions).filter(([, weight]) => weight > 0).map(([n]) => n);
}

function withDefaultCondition() {
  const used = usedConditions().length || Object.keys(question.unlike).length;
  if (!used && gallery.conditions.length) {
    question.conditions = { [gallery.conditions[0]]: 1 };
  }
}

function likeThis(key, condition) {
  const conditions = condition ? { [condition]: 1 } : question.conditions;
  const unlike = condition ? {} : question.unlike;
  question = { ...emptyQuestion(), where: question.where, view: question.view,
    sort: question.sort, conditions, unlike, pictures: [key] };
  withDefaultCondition();
  change({});
  window.scrollTo({ top: 0 });
}

// Like or dislike a hit; a click on the other one, or a further one, takes it back.
function rate(key, kind) {
  const without = (name) => question[name].filter((one) => one !== key);
  const was = question[kind].includes(key);
  change({ like: without("like"), dislike: without("dislike"),
    ...(was ? {} : { [kind]: [...without(kind), key] }) });
}

function likeAll(names) {
  const { where, conditions, unlike, view } = question;
  question = { ...emptyQuestion(), where, conditions, unlike, like: names,
    view: view === "map" ? "list" : view };
  withDefaultCondition();
  change({});
}

async function addFiles(files) {
  for (const file of files) {
    try {
      say("Sending the picture ...");
      const sent = await upload(file);
      previews.set(sent.key, URL.createObjectURL(file));
      question.text = "";
      question.crop = null;
      if (!question.pictures.includes(sent.key)) question.pictures = [...question.pictures, sent.key];
      withDefaultCondition();
      change({});
    } catch (error) {
      say(error.message, true);
    }
  }
}

function showQuestion() {
  $("text").value = question.text;
  if (document.activeElement !== $("where")) $("where").value = question.where;
  if (document.activeElement !== $("change")) $("change").value = question.modify;
  $("sort").value = question.sort;
  $("combine").value = question.combine;
  $("combine").hidden = question.pictures.length < 2;
  const rated = question.like.length + question.dislike.length;
  $("query-panel").hidden = question.pictures.length + rated === 0;
  $("crop-help").hidden = question.pictures.length !== 1;
  $("change-panel").hidden = question.pictures.length !== 1;
  $("view-list").setAttribute("aria-pressed", question.view === "list");
  $("view-rows").setAttribute("aria-pressed", question.view === "rows");
  $("view-map").setAttribute("aria-pressed", question.view === "map");
  document.body.classList.toggle("mapping", question.view === "map");
  showExamples();
  showRated();
  showCollections(question.collection);
  showConditions();
}

function showExamples() {
  const wanted = question.pictures.join() + String(question.crop);
  if ($("examples").dataset.shows === wanted) return;
  $("examples").dataset.shows = wanted;
  $("examples").replaceChildren(...question.pictures.map((key) => {
    const image = make("img", { alt: "A picture of the question", draggable: "false",
      src: previews.get(key) || pictureOf(key) });
    const box = make("div", { class: "example" }, image, make("button", { type: "button",
      "aria-label": "Remove this picture", text: "×", onclick: () =>
        change({ pictures: question.pictures.filter((one) => one !== key), crop: null }) }));
    if (question.pictures.length === 1) makeCroppable(box, image);
    return box;
  }));
}

function showRated() {
  for (const [kind, text] of [["like", "More like"], ["dislike", "Less like"]]) {
    const names = question[kind];
    $(kind).hidden = names.length === 0;
    $(kind).replaceChildren(make("h3", { text }), ...names.map((key) => {
      const shown = key.startsWith("@") ? make("b", { text: key })
        : make("img", { alt: "", src: previews.get(key) || thumbnailOf(key) });
      return make("button", { type: "button", class: "rated", "aria-label": `Take back ${kind}`,
        title: "Take back", onclick: () => rate(key, kind) }, shown);
    }));
  }
}

function makeCroppable(box, image) {
  let frame = null;
  let start = null;
  const draw = ([x, y, w, h]) => {
    if (!frame) box.append(frame = make("div", { class: "crop" }));
    box.classList.add("cropped");
    const [width, height] = [image.clientWidth, image.clientHeight];
    Object.assign(frame.style, { left: `${x * width}px`, top: `${y * height}px`,
      width: `${w * width}px`, height: `${h * height}px` });
  };
  const region = (event) => {
    const bounds = image.getBoundingClientRect();
    const inside = (value) => Math.min(1, Math.max(0, value));
    const x = inside((event.clientX - bounds.left) / bounds.width);
    const y = inside((event.clientY - bounds.top) / bounds.height);
    if (!start) return [x, y, 0, 0];
    return [Math.min(x, start[0]), Math.min(y, start[1]), Math.abs(x - start[0]),
      Math.abs(y - start[1])];
  };
  if (question.crop) {
    image.complete ? draw(question.crop) : image.addEventListener("load", () => draw(question.crop));
  }
  image.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    image.setPointerCapture(event.pointerId);
    start = region(event);
  });
  image.addEventListener("pointermove", (event) => { if (start) draw(region(event)); });
  image.addEventListener("pointerup", (event) => {
    if (!start) return;
    const [x, y, w, h] = region(event);
    start = null;
    change({ crop: w > 0.03 && h > 0.03 ? [x, y, w, h] : null });
  });
}

function showConditions() {
  const names = [...new Set([...gallery.conditions, ...Object.keys(question.conditions),
    ...Object.keys(question.unlike)])];
  const wanted = names.join("\n");
  if ($("conditions").dataset.shows !== wanted) {
    $("conditions").dataset.shows = wanted;
    $("conditions").replaceChildren(...names.map(conditionChip));
  }
  for (const chip of $("conditions").children) {
    const name = chip.dataset.condition;
    const isNot = name in question.unlike;
    const weight = question.unlike[name] ?? question.conditions[name] ?? 0;
    chip.classList.toggle("on", !isNot && weight > 0);
    chip.classList.toggle("not", isNot);
    chip.querySelector(".use").setAttribute("aria-pressed", weight > 0);
    chip.querySelector(".unlike").setAttribute("aria-pressed", isNot);
    chip.querySelector("label").hidden = !(weight > 0);
    if (document.activeElement !== chip.querySelector("input")) {
      chip.querySelector("input").value = weight || 1;
    }
    chip.querySelector("output").textContent = `× ${weight}`;
  }
}

function conditionChip(name) {
  const chip = make("div", { class: "chip", "data-condition": name });
  const set = (conditions, unlike, delay = 0) => {
    const without = (weights) =>
      Object.fromEntries(Object.entries(weights).filter(([one]) => one !== name));
    change({ conditions: { ...without(question.conditions), ...conditions },
      unlike: { ...without(question.unlike), ...unlike } }, delay);
  };
  chip.append(
    make("button", { type: "button", class: "use", text: name, onclick: () => {
      const used = name in question.unlike || question.conditions[name] > 0;
      set(used ? {} : { [name]: 1 }, {});
    } }),
    make("button", { type: "button", class: "unlike", text: "not",
      "aria-label": `Different in ${name}`, title: "Show pictures that differ in this respect",
      onclick: () => set(name in question.unlike ? { [name]: 1 } : {},
        name in question.unlike ? {} : { [name]: 1 }) }),
    make("label", {}, make("input", { type: "range", min: "0.1", max: "3", step: "0.1",
      "aria-label": `Weight of ${name}`, oninput: (event) => {
        const weight = { [name]: Number(event.target.value) };
        set(name in question.unlike ? {} : weight, name in question.unlike ? weight : {}, 60);
      } }), make("output")));
  return chip;
}

// -- the answer ----------------------------------------------------------------------------------

let timer = 0;

function ask(delay = 0) {
  clearTimeout(timer);
  timer = setTimeout(answer, delay);
}

async function answer() {
  asking?.abort();
  asking = new AbortController();
  const signal = asking.signal;
  $("where-error").textContent = "";
  try {
    if (question.view === "map") {
      await showMap(signal);
    } else if (!isAsked(question)) {
      await showAll(signal);
    } else if (!usedConditions().length && !question.modify) {
      say("Choose a condition, in respect of which pictures shall be alike.");
    } else if (question.view === "rows") {
      await showRows(signal);
    } else {
      const found = await post("search", searchBody(question, 0), signal);
      showHits(found, true);
    }
  } catch (error) {
    if (error.name === "AbortError") return;
    if (error.kind === "UsageError" && question.where.trim() && /filter|--where/.test(error.message)) $("where-error").textContent = error.message;
    else say(error.message, true);
  }
}

async function showMap(signal) {
  complete = true;
  const { drawMap } = await import("/page/map.js");
  if (signal.aborted) return;
  await drawMap($("hits"), signal, { condition: usedConditions()[0] || gallery.conditions[0],
    gallery, open: openViewer, pick });
}

function requestAll(offset, signal) {
  if (question.collection) {
    const given = new URLSearchParams({ k: PAGE_SIZE, offset });
    return request(`collections/${encodeURIComponent(question.collection)}?${given}`, { signal });
  }
  const given = new URLSearchParams({ k: PAGE_SIZE, offset });
  if (question.where.trim()) given.set("where", question.where.trim());
  if (usedConditions().length) given.set("condition", usedConditions()[0]);
  return request(`pictures?${given}`, { signal });
}

async function showAll(signal) {
  const found = await requestAll(0, signal);
  say(question.collection
    ? `The collection ${question.collection}: ${found.total.toLocaleString()} pictures.`
    : found.pictures.length ? "Click a picture to find others like it, drop one here, or type words."
    : "No picture fits.");
  $("understanding").hidden = true;
  startGrid();
  appendTiles(found.pictures.map((one) => ({ ...one, word: "" })), found.total);
}

function startGrid() {
  $("hits").replaceChildren(make("div", { class: "grid" }));
  shown = 0;
  complete = false;
}

function appendTiles(hits, total = Infinity) {
  $("hits").firstChild.append(...hits.map((hit) => tile(hit)));
  shown += hits.length;
  complete = hits.length < PAGE_SIZE || shown >= total;
}

function showHits(found, isFirst) {
  if (isFirst) {
    const notes = [...found.notes];
    if (found.nothing_alike) notes.push("Nothing here is really alike.");
    const word = found.query.word ? ` The query: ${found.query.word}.` : "";
    say(found.hits.length ? notes.join(" ") + word : "No picture fits. " + notes.join(" "));
    showUnderstood(found.query.composed || {});
    startGrid();
  }
  appendTiles(found.hits);
}

// What the composer made of a change. What can be set is a field; what cannot is said.
const SETTABLE = { caption: "The picture shows", must: "It must show", must_not: "It must not show" };

function showUnderstood(composed) {
  $("understanding").hidden = !composed.composer;
  if (!composed.composer) return;
  $("composer").value = composed.composer;
  const lines = Object.entries(composed.conditions || {});
  if (composed.target) lines.unshift(["looks for", composed.target]);
  $("understood").replaceChildren(...lines.flatMap(([name, value]) =>
    [make("dt", { text: name }), make("dd", { text: value })]));
  // Composers over the gallery's conditions take no texts; their weights are the chips above.
  const byText = lines.length === 0 || !Object.keys(composed.conditions || {}).length;
  $("corrections").replaceChildren(...(byText ? Object.entries(SETTABLE) : []).map(([name, text]) =>
    make("label", { text }, make("input", { "data-part": name, autocomplete: "off",
      placeholder: name === "caption" ? "" : "nothing, or things separated by commas",
      value: [composed[name] || ""].flat().join(", "), onchange: (event) => change({
        [name]: name === "caption" ? event.target.value.trim() : listOf(event.target.value) }) }))));
}

// A corrected part is about the change that it was understood from.
const NOT_CORRECTED = { composer: "", caption: "", must: null, must_not: null };

async function showRows(signal) {
  complete = true;
  const conditions = usedConditions();
  const found = await Promise.all(conditions.map((name) => post("search",
    { ...searchBody(question, 0, 16), conditions: { [name]: 1 }, unlike: {} }, signal)));
  say("");
  $("hits").replaceChildren(...found.map((one, n) => make("section", { class: "row" },
    make("h2", { text: one.query.word ? `${conditions[n]}: ${one.query.word}` : conditions[n] }),
    make("div", { class: "grid" }, ...one.hits.map((hit) => tile(hit, conditions[n]))))));
}

function rating(hit, name) {
  const button = (kind, sign, what) => make("button", { type: "button", class: kind, text: sign,
    title: `${what} like this`, "aria-label": `${what} like ${name}`,
    onclick: () => rate(hit.key, kind) });
  return make("div", { class: "rate" }, button("like", "+", "More"), button("dislike", "−", "Less"));
}

function tile(hit, condition) {
  const name = nameOf(hit.path);
  const about = hit.percentile === undefined ? [] : [make("div", { class: "about" },
    make("b", { text: hit.word || "" }),
    make("span", { title: "More alike than this share of all pairs of pictures here",
      text: percent(hit.percentile) }))];
  return make("div", { class: "tile" },
    make("button", { type: "button", class: "open", "aria-label": `${name} ${hit.word}`.trim(),
      onclick: () => openViewer(hit) }, picture(hit.key, name)),
    make("button", { type: "button", class: "start", text: "Like this",
      "aria-label": `Pictures like ${name}`, onclick: () => likeThis(hit.key, condition) }),
    checkbox(hit),
    ...(hit.percentile === undefined ? [] : [rating(hit, name)]),
    ...about,
    make("div", { class: "file", text: name, title: hit.path }));
}

new IntersectionObserver(async ([entry]) => {
  if (!entry.isIntersecting || complete || !shown || question.view !== "list") return;
  const signal = asking?.signal;
  complete = true; // until this request has been answered
  try {
    if (isAsked(question)) {
      showHits(await post("search", searchBody(question, shown), signal), false);
    } else {
      const found = await requestAll(shown, signal);
      appendTiles(found.pictures.map((one) => ({ ...one, word: "" })), found.total);
    }
  } catch (error) {
    if (error.name !== "AbortError") say(error.message, true);
  }
}, { rootMargin: "600px" }).observe($("more"));

// -- one picture ---------------------------------------------------------------------------------

function openViewer(hit) {
  const small = $("viewer-small");
  const large = $("viewer-large");
  small.src = previews.get(hit.key) || thumbnailOf(hit.key);
  large.classList.remove("loaded");
  large.alt = hit.path;
  large.src = pictureOf(hit.key);
  const rows = [];
  if (hit.word) rows.push(["word", hit.word]);
  if (hit.percentile !== undefined) {
    rows.push(["more alike than", `${percent(hit.percentile)} of all pairs`]);
    rows.push(["score", hit.score.toFixed(3)]);
  }
  for (const part of hit.parts || []) {
    rows.push([part.weight < 0 ? `not ${part.condition}` : part.condition,
      `${part.word ? part.word + ", " : ""}${percent(part.percentile)}`]);
  }
  for (const [name, value] of Object.entries(hit.columns || {})) {
    if (value !== null) rows.push([name, String(value)]);
  }
  if (hit.duplicates?.length) rows.push(["duplicates", hit.duplicates.join(", ")]);
  $("viewer-about").replaceChildren(
    make("h2", { text: hit.path }),
    make("dl", {}, ...rows.flatMap(([name, value]) =>
      [make("dt", { text: name }), make("dd", { text: value })])),
    make("div", { class: "actions" }, ...gallery.conditions.map((name) =>
      make("button", { type: "button", text: `Like this in ${name}`, onclick: () => {
        $("viewer").close();
        likeThis(hit.key, name);
      } }))),
    make("div", { class: "actions" },
      make("a", { class: "button", href: `${pictureOf(hit.key)}/file`, text: "Download the file" }),
      make("button", { type: "button", text: "Copy the name", onclick: (event) => {
        navigator.clipboard.writeText(hit.path);
        event.target.textContent = "Copied";
      } })));
  $("viewer").showModal();
}

$("viewer-large").addEventListener("load", () => $("viewer-large").classList.add("loaded"));
$("viewer-close").addEventListener("click", () => $("viewer").close());
$("viewer").addEventListener("click", (event) => {
  if (event.target === $("viewer")) $("viewer").close();
});

// -- words and values ----------------------------------------------------------------------------

async function showFacets() {
  const chosen = $("facet-of").value;
  if (!chosen) return;
  const [kind, name] = [chosen.slice(0, 1), chosen.slice(1)];
  try {
    const entries = kind === "c"
      ? (await request("facets/" + encodeURIComponent(name))).facets.map((one) => ({
        text: one.word, pictures: one.pictures, words: one.words.map((w) => w.word) }))
      : (await request("columns/" + encodeURIComponent(name))).values.map((one) => ({
        text: one.value, pictures: one.pictures, words: [one.value] }));
    if ($("facet-of").value !== chosen) return;
    $("facets").replaceChildren(...entries.slice(0, 60).map((entry) => {
      const filter = filterOf(kind === "c" ? "word" : name, entry.words);
      return make("li", {}, make("button", { type: "button", text: entry.text,
        "aria-pressed": filter === question.where,
        onclick: () => useFacet(filter, kind === "c" ? name : "") },
      make("span", { text: entry.pictures.toLocaleString() })));
    }));
  } catch (error) {
    say(error.message, true);
  }
}

function filterOf(column, values) {
  const quoted = values.map((one) => `'${String(one).replaceAll("'", "''")}'`);
  return quoted.length === 1 ? `${column} = ${quoted[0]}` : `${column} IN (${quoted.join(", ")})`;
}

// A click on a word or value shows only these pictures; a second click shows all again.
function useFacet(filter, condition) {
  const where = question.where === filter ? "" : filter;
  // The filter `word` is about the word under the first condition.
  if (condition && where) question.conditions = { [condition]: 1 };
  $("where").value = where;
  change({ where });
  showFacets();
}

// -- the filter line -----------------------------------------------------------------------------

const valuesOf = new Map();

async function completeFilter(input) {
  const place = completionPlace(input.value, input.selectionStart);
  const list = $("completions");
  let options = [];
  if (place && !place.column && place.typed) {
    options = Object.keys(gallery.columns);
  } else if (place?.column in gallery.columns) {
    if (!valuesOf.has(place.column)) {
      const found = await request("columns/" + encodeURIComponent(place.column));
      valuesOf.set(place.column, found.values.map((one) => one.value));
    }
    options = valuesOf.get(place.column);
  }
  const typed = place ? place.typed.toLowerCase() : "";
  options = options.filter((one) =>
    one.toLowerCase().startsWith(typed) && one.toLowerCase() !== typed).slice(0, 12);
  list.hidden = options.length === 0;
  input.setAttribute("aria-expanded", options.length > 0);
  list.replaceChildren(...options.map((one) => make("li", { role: "option", text: one,
    "aria-selected": "false", onmousedown: (event) => {
      event.preventDefault();
      take(input, place, one);
    } })));
}

function take(input, place, chosen) {
  const rest = input.value.slice(input.selectionStart);
  const quoted = place.column ? chosen.replaceAll("'", "''") + (rest.startsWith("'") ? "" : "'")
    : chosen + " ";
  input.value = input.value.slice(0, place.start) + quoted + rest;
  const cursor = place.start + quoted.length;
  input.setSelectionRange(cursor, cursor);
  $("completions").hidden = true;
  input.dispatchEvent(new Event("input"));
}

function moveCompletion(step) {
  const items = [...$("completions").children];
  const at = items.findIndex((one) => one.getAttribute("aria-selected") === "true");
  items.forEach((one) => one.setAttribute("aria-selected", "false"));
  const next = items[(at + step + items.length) % items.length];
  next?.setAttribute("aria-selected", "true");
  next?.scrollIntoView({ block: "nearest" });
}

$("where").addEventListener("input", () => {
  completeFilter($("where")).catch(() => {});
  change({ where: $("where").value }, 350);
});
$("where").addEventListener("blur", () => { $("completions").hidden = true; });
$("where").addEventListener("keydown", (event) => {
  if ($("completions").hidden) return;
  if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    event.preventDefault();
    moveCompletion(event.key === "ArrowDown" ? 1 : -1);
  } else if (event.key === "Enter" || event.key === "Tab") {
    const chosen = $("completions").querySelector("[aria-selected=true]");
    if (chosen) {
      event.preventDefault();
      chosen.dispatchEvent(new MouseEvent("mousedown"));
    }
  } else if (event.key === "Escape") {
    event.stopPropagation();
    $("completions").hidden = true;
  }
});

// -- all else that is clicked, typed, dropped or pasted -------------------------------------------

$("text-form").addEventListener("submit", (event) => {
  event.preventDefault();
  withDefaultCondition();
  change({ text: $("text").value.trim(), pictures: [], like: [], dislike: [], crop: null,
    modify: "", collection: "" });
});
$("text").addEventListener("search", () => {
  if (!$("text").value && question.text) change({ text: "" });
});
$("file").addEventListener("change", () => addFiles([...$("file").files]));
$("clear").addEventListener("click", () =>
  change({ pictures: [], like: [], dislike: [], crop: null, modify: "", ...NOT_CORRECTED }));
$("combine").addEventListener("change", () => change({ combine: $("combine").value }));
$("sort").addEventListener("change", () => change({ sort: $("sort").value }));
$("change").addEventListener("input", () =>
  change({ modify: $("change").value, ...NOT_CORRECTED }, 500));
$("composer").addEventListener("change", () =>
  change({ ...NOT_CORRECTED, composer: $("composer").value }));
$("facet-of").addEventListener("change", showFacets);
for (const view of ["list", "rows", "map"]) {
  $(`view-${view}`).addEventListener("click", () => change({ view }));
}

let dragged = 0;
addEventListener("dragenter", (event) => {
  if ([...(event.dataTransfer?.types || [])].includes("Files")) {
    dragged += 1;
    $("drop").hidden = false;
  }
});
addEventListener("dragleave", () => {
  dragged = Math.max(0, dragged - 1);
  $("drop").hidden = dragged === 0;
});
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  dragged = 0;
  $("drop").hidden = true;
  addFiles([...event.dataTransfer.files]);
});
addEventListener("paste", (event) => {
  const files = [...(event.clipboardData?.files || [])];
  if (files.length) {
    event.preventDefault();
    addFiles(files);
  }
});
addEventListener("popstate", () => {
  question = fromAddress(location.search);
  showQuestion();
  ask();
});
addEventListener("keydown", (event) => {
  const typing = ["INPUT", "SELECT", "TEXTAREA"].includes(document.activeElement?.tagName);
  if (event.key === "/" && !typing) {
    event.preventDefault();
    $("text").focus();
  } else if (event.key === "Escape" && typing) {
    document.activeElement.blur();
  } else if (event.key.startsWith("Arrow") && !typing && !$("viewer").open) {
    moveFocus(event);
  }
});

function moveFocus(event) {
  const tiles = [...document.querySelectorAll(".tile .open")];
  const at = tiles.indexOf(document.activeElement);
  if (!tiles.length || (at < 0 && event.key !== "ArrowDown")) return;
  const top = tiles[0].getBoundingClientRect().top;
  const across = tiles.findIndex((one) => one.getBoundingClientRect().top > top + 5);
  const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -(across > 0 ? across : tiles.length),
    ArrowDown: across > 0 ? across : tiles.length };
  const next = at < 0 ? 0 : at + steps[event.key];
  if (tiles[next]) {
    event.preventDefault();
    tiles[next].focus();
  }
}

// -- start ---------------------------------------------------------------------------------------

async function loadGallery() {
  const found = await request("gallery");
  if (gallery && found.version === gallery.version) return;
  const isNew = gallery !== null;
  gallery = found;
  document.title = `${gallery.name} - CIES`;
  $("name").textContent = gallery.name;
  $("count").textContent = `${gallery.pictures.toLocaleString()} pictures`;
  const options = [...gallery.conditions.map((name) => ["c" + name, name]),
    ...Object.keys(gallery.columns).map((name) => ["v" + name, name])];
  const chosen = $("facet-of").value;
  $("facet-of").replaceChildren(...options.map(([value, text]) => make("option", { value, text })));
  if (chosen) $("facet-of").value = chosen;
  $("facets-panel").hidden = options.length === 0;
  for (const name of Object.keys(gallery.columns)) {
    for (const [sign, order] of [["", "ascending"], ["-", "descending"]]) {
      const known = [...$("sort").options].some((one) => one.value === sign + name);
      if (!known) $("sort").append(make("option", { value: sign + name, text: `${name}, ${order}` }));
    }
  }
  $("composer").replaceChildren(...gallery.composers.map((one) =>
    make("option", { value: one, text: one })));
  valuesOf.clear();
  showQuestion();
  showFacets();
  // New pictures appear unless somebody reads further down.
  if (isNew && window.scrollY < 200 && question.view !== "map") ask();
}

// Files that could not be read, with reasons, and the progress of an ingest by another process.
async function loadStatus() {
  const found = await request("status");
  const { running, done, total } = found.ingest;
  const parts = [];
  if (running) {
    parts.push(total ? `Ingesting ${done.toLocaleString()} of ${total.toLocaleString()}`
      : "Ingesting");
  }
  if (found.failed) parts.push(`${found.failed.toLocaleString()} files failed`);
  $("status").hidden = parts.length === 0;
  $("status").textContent = parts.join(", ") || "Status";
  $("progress").hidden = !running || !total;
  if (total) {
    $("progress").max = total;
    $("progress").value = done;
  }
  $("failures").replaceChildren(...found.failures.map((one) => make("tr", {},
    make("td", { text: one.path }), make("td", { text: one.reason || one.status }))));
  $("failures-more").textContent = found.failed > found.failures.length
    ? `and ${(found.failed - found.failures.length).toLocaleString()} more` : "";
  return running;
}

async function keepUp() {
  let running = false;
  try {
    await loadGallery();
    running = await loadStatus();
  } catch { /* the next look may succeed */ }
  setTimeout(keepUp, running ? 2000 : 5000);
}

$("status").addEventListener("click", () => $("failed").showModal());

// On a small screen the pictures come first.
$("refine").open = !matchMedia("(max-width: 60rem)").matches;

startPicks({ gallery: () => gallery, likeAll,
  reload: async () => {
    await loadGallery();
    showCollections(question.collection);
    ask();
  },
  showCollection: (name) => {
    question = { ...emptyQuestion(), conditions: question.conditions, collection: name };
    change({});
  } });

try {
  await loadGallery();
  if (isAsked(question)) withDefaultCondition();
  showQuestion();
  ask();
  keepUp();
} catch (error) {
  say(error.message, true);
}
