// Parts of pages that are read again: only when something can have changed, while somebody looks,
// and never under the hands of who is about to tick or press something there.
"use strict";

const etags = new WeakMap();
// What is scrolled by itself.
const SCROLLED = ".wide, .tall, pre";
const REASONS = {
  0: "the server does not answer",
  403: "this account no longer has access",
  404: "it no longer exists",
};
let opened = [];
let places = [];

function isInUse(part) {
  const focused = document.activeElement;
  const isTyping =
    part.contains(focused) && focused.matches("input, button, select, a, summary, :focus-visible");
  return isTyping || isSelected(part) || part.querySelector("input:checked") !== null;
}

function isSelected(part) {
  const selection = getSelection();
  return !selection.isCollapsed && part.contains(selection.anchorNode);
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
  const part = event.detail.elt;
  if (isLive(part) && isInUse(part)) {
    // Since it was asked for.
    event.detail.shouldSwap = false;
  }
  opened = Array.from(part.querySelectorAll("details[open]"), (each) => each.id);
  places = Array.from(part.querySelectorAll(SCROLLED), (each) => [each.scrollLeft, each.scrollTop]);
});

document.addEventListener("htmx:afterSwap", (event) => {
  for (const each of event.detail.elt.querySelectorAll("details")) {
    each.open = each.open || opened.includes(each.id);
  }
  event.detail.elt.querySelectorAll(SCROLLED).forEach((each, n) => each.scrollTo(...(places[n] || [0, 0])));
  const etag = event.detail.xhr && event.detail.xhr.getResponseHeader("ETag");
  if (etag && isLive(event.detail.elt)) {
    etags.set(event.detail.elt, etag);
  }
});

document.addEventListener("htmx:afterRequest", (event) => {
  const { elt, successful, xhr } = event.detail;
  if (isLive(elt)) {
    const reason = REASONS[xhr.status] || `the server answers ${xhr.status}`;
    tellStale(successful ? "" : `This page may be out of date: ${reason}.`);
  }
});

function tellStale(sentence) {
  const place = document.getElementById("stale");
  // What is told again is read out again.
  if (place.textContent !== sentence) {
    place.textContent = sentence;
  }
}

document.addEventListener("change", (event) => {
  if (!event.target.matches(".tick-all")) {
    return;
  }
  for (const box of document.querySelectorAll("input[name=fold][type=checkbox]")) {
    box.checked = event.target.checked;
  }
});
