// The question that the page asks, its form in the address bar, and the requests to the server.

export const PAGE_SIZE = 48;

export function emptyQuestion() {
  return { pictures: [], like: [], dislike: [], text: "", conditions: {}, unlike: {},
    combine: "mean", crop: null, where: "", sort: "score", modify: "", composer: "", caption: "",
    must: null, must_not: null, collection: "", view: "list" };
}

export class ServerError extends Error {
  constructor(problem) {
    super(problem.detail || "The server does not answer.");
    this.kind = problem.error || "";
    this.status = problem.status || 0;
  }
}

export async function request(path, options = {}) {
  let answer;
  try {
    answer = await fetch("/api/v1/" + path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError({ detail: "The server does not answer; is it still running?" });
  }
  const document = await answer.json();
  if (!answer.ok) throw new ServerError(document);
  return document;
}

export function post(path, body, signal) {
  return request(path, { method: "POST", headers: { "content-type": "application/json" },
    body: JSON.stringify(body), signal });
}

export function upload(file) {
  return request("uploads", { method: "POST", body: file,
    headers: { "content-type": "application/octet-stream" } });
}

export const thumbnailOf = (key) => `/api/v1/pictures/${key}/thumbnail`;
export const pictureOf = (key) => `/api/v1/pictures/${key}`;

export function isAsked(question) {
  return question.pictures.length > 0 || question.text !== "" || question.like.length > 0;
}

// The body of a search. Weights of 0 are left out.
export function searchBody(question, offset, k = PAGE_SIZE) {
  const body = { conditions: positive(question.conditions), unlike: positive(question.unlike),
    k, offset, sort: question.sort };
  if (question.text) body.text = question.text;
  else body.pictures = question.pictures;
  if (question.like.length) body.like = question.like;
  if (question.dislike.length) body.dislike = question.dislike;
  if (question.where.trim()) body.where = question.where.trim();
  if (question.pictures.length > 1) body.combine = question.combine;
  if (question.crop && question.pictures.length === 1) body.crop = question.crop;
  if (question.modify.trim() && question.pictures.length === 1) {
    body.modify = question.modify.trim();
    for (const name of ["composer", "caption"]) if (question[name]) body[name] = question[name];
    for (const name of ["must", "must_not"]) if (question[name] !== null) body[name] = question[name];
  }
  return body;
}

function positive(weights) {
  return Object.fromEntries(Object.entries(weights).filter(([, weight]) => weight > 0));
}

export function toAddress(question) {
  const given = new URLSearchParams();
  for (const key of question.pictures) given.append("key", key);
  if (question.text) given.set("text", question.text);
  for (const [name, weight] of Object.entries(question.conditions)) {
    given.append("c", `${name}=${weight}`);
  }
  for (const [name, weight] of Object.entries(question.unlike)) {
    given.append("not", `${name}=${weight}`);
  }
  for (const name of ["like", "dislike"]) {
    for (const key of question[name]) given.append(name, key);
  }
  for (const name of ["where", "modify", "composer", "caption", "collection"]) {
    if (question[name]) given.set(name, question[name]);
  }
  for (const name of ["must", "must_not"]) {
    if (question[name] !== null) given.set(name, question[name].join(","));
  }
  if (question.sort !== "score") given.set("sort", question.sort);
  if (question.combine !== "mean") given.set("combine", question.combine);
  if (question.crop) given.set("crop", question.crop.map((n) => n.toFixed(4)).join(","));
  if (question.view !== "list") given.set("view", question.view);
  const text = given.toString();
  return text ? "?" + text : "/";
}

// Names that are separated by commas.
export const listOf = (text) => text.split(",").map((one) => one.trim()).filter(Boolean);

export function fromAddress(address) {
  const given = new URLSearchParams(address);
  const question = emptyQuestion();
  question.pictures = given.getAll("key").filter((key) => /^[0-9a-f]{64}$/.test(key));
  for (const name of ["like", "dislike"]) {
    question[name] = given.getAll(name).filter((key) => /^([0-9a-f]{64}|@.+)$/.test(key));
  }
  for (const name of ["must", "must_not"]) {
    if (given.has(name)) question[name] = listOf(given.get(name));
  }
  for (const name of ["text", "where", "modify", "composer", "caption", "collection", "sort",
    "combine", "view"]) {
    if (given.has(name)) question[name] = given.get(name);
  }
  const crop = (given.get("crop") || "").split(",").map(Number);
  if (crop.length === 4 && crop.every(Number.isFinite)) question.crop = crop;
  for (const [field, name] of [["conditions", "c"], ["unlike", "not"]]) {
    for (const one of given.getAll(name)) {
      const at = one.lastIndexOf("=");
      const weight = at > 0 ? Number(one.slice(at + 1)) : 1;
      if (Number.isFinite(weight)) question[field][at > 0 ? one.slice(0, at) : one] = weight;
    }
  }
  return question;
}

// What can be written at the cursor of a filter: columns, then the values of a column.
export function completionPlace(text, cursor) {
  const before = text.slice(0, cursor);
  const value = before.match(/([\p{L}_][\p{L}\p{N}_]*)\s*(?:=|!=|<>)\s*'([^']*)$/u);
  if (value) return { column: value[1], start: cursor - value[2].length, typed: value[2] };
  const inQuotes = (before.match(/'/g) || []).length % 2 === 1;
  const word = before.match(/[\p{L}_][\p{L}\p{N}_]*$/u);
  if (inQuotes) return null;
  return { column: "", start: cursor - (word ? word[0].length : 0), typed: word ? word[0] : "" };
}
