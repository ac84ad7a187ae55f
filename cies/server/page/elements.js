// What all parts of the page use: elements by name, new elements, messages.

import { thumbnailOf } from "/page/search.js";

export const $ = (id) => document.getElementById(id);

// Addresses of the pictures that this page has sent, by the key of the upload.
export const previews = new Map();

export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "text") element.textContent = value;
    else if (value !== undefined && value !== false) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

export function say(text, isError = false) {
  $("notice").textContent = text;
  $("notice").classList.toggle("error", isError);
}

export const nameOf = (path) => path.split(/[\\/]/).pop();

export function picture(key, name) {
  const image = make("img", { alt: name, loading: "lazy", decoding: "async" });
  image.addEventListener("load", () => image.classList.add("loaded"));
  image.addEventListener("error", () =>
    image.replaceWith(make("span", { class: "gone", text: "not readable now" })));
  image.src = previews.get(key) || thumbnailOf(key);
  return image;
}
