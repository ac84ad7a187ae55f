// Picked pictures and collections: what is picked goes into a collection, a file, or a search.

import { post, request } from "/page/search.js";
import { $, make, nameOf, say } from "/page/elements.js";

// The most pictures that a search takes one by one.
const MOST_RATED = 200;

const picked = new Map(); // key to the name of the file
let page = null; // what the page does: gallery(), reload(), showCollection(name), likeAll(keys)

export function startPicks(given) {
  page = given;
  $("picked-add").addEventListener("submit", (event) => {
    event.preventDefault();
    edit($("picked-name").value.trim(), { add: [...picked.keys()] }, "added to");
  });
  $("picked-save").addEventListener("click", () => save([...picked]));
  $("picked-like").addEventListener("click", () => {
    if (picked.size > MOST_RATED) {
      say(`Up to ${MOST_RATED} pictures can be searched with one by one; add them to a collection, ` +
        "and search like that.", true);
      return;
    }
    page.likeAll([...picked.keys()]);
    unpickAll();
  });
  $("picked-remove").addEventListener("click", remove);
  $("picked-clear").addEventListener("click", unpickAll);
}

export const isPicked = (key) => picked.has(key);

export function pick(pictures) {
  for (const one of pictures) picked.set(one.key, nameOf(one.path));
  showPicked();
}

export function checkbox(hit) {
  const name = nameOf(hit.path);
  return make("label", { class: "pick" }, make("input", { type: "checkbox", "data-key": hit.key,
    "aria-label": `Pick ${name}`, ...(picked.has(hit.key) ? { checked: "" } : {}),
    onchange: (event) => {
      if (event.target.checked) picked.set(hit.key, name);
      else picked.delete(hit.key);
      showPicked();
    } }));
}

function unpickAll() {
  picked.clear();
  showPicked();
}

function showPicked() {
  const { editable, collections } = page.gallery();
  $("picked").hidden = picked.size === 0;
  $("picked-count").textContent = picked.size === 1 ? "1 picture picked"
    : `${picked.size.toLocaleString()} pictures picked`;
  $("picked-add").hidden = $("picked-remove").hidden = !editable;
  $("picked-names").replaceChildren(...Object.keys(collections).map((value) =>
    make("option", { value })));
  for (const box of document.querySelectorAll(".pick input")) {
    box.checked = picked.has(box.dataset.key);
  }
  document.body.classList.toggle("picking", picked.size > 0);
}

async function edit(name, change, what) {
  if (!name) {
    $("picked-name").focus();
    return;
  }
  try {
    const done = await post("collections/" + encodeURIComponent(name), change);
    unpickAll();
    await page.reload();
    say(`${done.changed} ${what} ${done.name}, which has ${done.pictures} pictures.`);
  } catch (error) {
    say(error.message, true);
  }
}

async function remove() {
  const keys = [...picked.keys()];
  try {
    const would = await post("removals", { keys });
    const back = would.returning ? ` ${would.returning} of their files are still in a folder that ` +
      "is ingested, and come back with the next ingest." : "";
    const question = `Remove ${would.pictures} pictures from the gallery? Their files stay.${back}`;
    if (!(await confirmed(question))) return;
    const done = await post("removals", { keys, confirm: true });
    unpickAll();
    await page.reload();
    say(`${done.pictures} pictures were removed from the gallery.`);
  } catch (error) {
    say(error.message, true);
  }
}

function confirmed(question) {
  const dialog = $("confirm");
  $("confirm-text").textContent = question;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

// The picked pictures as a CSV file, made here: it needs no right to edit.
function save(pictures) {
  const cell = (text) => `"${(/^[=+\-@\t\r]/.test(text) ? "'" : "") + text.replaceAll('"', '""')}"`;
  const lines = ["key,file", ...pictures.map(([key, name]) => `${key},${cell(name)}`)];
  const address = URL.createObjectURL(new Blob([lines.join("\n") + "\n"], { type: "text/csv" }));
  make("a", { href: address, download: "pictures.csv" }).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

export function showCollections(chosen) {
  const { collections, editable } = page.gallery();
  const names = Object.keys(collections);
  $("collections-panel").hidden = names.length === 0;
  $("collections").replaceChildren(...names.map((name) => make("li", {},
    make("button", { type: "button", text: name, "aria-pressed": name === chosen,
      onclick: () => page.showCollection(name === chosen ? "" : name) },
    make("span", { text: collections[name].toLocaleString() })),
    ...(name === chosen ? [actions(name, editable)] : []))));
}

function actions(name, editable) {
  const address = (form) =>
    `/api/v1/collections/${encodeURIComponent(name)}/export?form=${form}`;
  const button = (text, onclick) => make("button", { type: "button", text, onclick });
  const link = (text, form) => make("a", { class: "button", href: address(form), text });
  return make("div", { class: "actions" },
    button("Search like these", () => page.likeAll([`@${name}`])),
    link("CSV", "csv"), link("Paths", "paths"), link("Copies", "zip"),
    ...(editable ? [
      ...(picked.size ? [button("Take picked out", () =>
        edit(name, { take_out: [...picked.keys()] }, "taken out of"))] : []),
      button("Delete the list", async () => {
        if (!(await confirmed(`Delete the collection ${name}? Its pictures stay.`))) return;
        try {
          await request("collections/" + encodeURIComponent(name), { method: "DELETE" });
          page.showCollection("");
          await page.reload();
        } catch (error) {
          say(error.message, true);
        }
      })] : []));
}
