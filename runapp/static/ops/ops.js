// Parts of pages that are read again: only when something can have changed, while somebody looks,
// and never under the hands of who is about to tick or press something there.
"use strict";

const etags = new WeakMap();
let opened = [];

function isInUse(part) {
  const focused = document.activeElement;
  const isTyping = part.contains(focused) && focused.matches("input, button, select, a, summary");
  return isTyping || part.querySelector("input:checked") !== null;
}

function isLive(part) {
  return part.id === "live";
}

document.addEventListener("htmx:configRequest", (event) => {
  const etag = etags.get(event.detail.elt);
  if (etag) {
    event.detail.headers["If-None-Match"] = etag;
  }
});

document.addEventListener("htmx:beforeRequest", (event) => {
  const part = event.detail.elt;
  if (isLive(part) && (document.hidden || isInUse(part))) {
    event.preventDefault();
  }
});

document.addEventListener("htmx:beforeSwap", (event) => {
  opened = Array.from(event.detail.elt.querySelectorAll("details[open]"), (each) => each.id);
});

document.addEventListener("htmx:afterSwap", (event) => {
  for (const each of event.detail.elt.querySelectorAll("details")) {
    each.open = each.open || opened.includes(each.id);
  }
  const etag = event.detail.xhr && event.detail.xhr.getResponseHeader("ETag");
  if (etag && isLive(event.detail.elt)) {
    etags.set(event.detail.elt, etag);
  }
});

document.addEventListener("change", (event) => {
  if (!event.target.matches(".tick-all")) {
    return;
  }
  for (const box of document.querySelectorAll("input[name=fold][type=checkbox]")) {
    box.checked = event.target.checked;
  }
});
