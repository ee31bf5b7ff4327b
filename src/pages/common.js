"use strict";
// Shared by all pages. The data lie in the page as JSON.
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);

const SVG_TAGS = new Set(["svg", "text", "line", "path"]);
// Make an element; children are elements and texts, null is left out.
function make(tag, attributes = {}, ...children) {
  const space = SVG_TAGS.has(tag) ? "http://www.w3.org/2000/svg" : "http://www.w3.org/1999/xhtml";
  const element = document.createElementNS(space, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children.filter((child) => child !== null));
  return element;
}
function button(text, action, attributes = {}) {
  const element = make("button", { type: "button", ...attributes }, ...[text].flat());
  element.addEventListener("click", action);
  return element;
}
const number = (value, digits = 1) => value === null ? "–" : value.toFixed(digits).replace("-", "−");
const percent = (share) => share === null ? "–" : number(100 * share);
const many = (count) => count.toLocaleString("en");
const readable = (name) => name.replaceAll("_", " ");
// Whether a text has every word of the search box, in any order.
function isFound(text) {
  const plain = (of) => of.toLowerCase().replace(/[_:]/g, " ");
  return plain($("search").value).split(/\s+/).every((word) => plain(text).includes(word));
}

// Show the box at the pointer with the text of the element below it; none where it has no data-tip.
function showTip(element, x, y) {
  const box = $("tip"), text = element?.closest?.("[data-tip]")?.dataset.tip;
  box.hidden = !text;
  if (!text) return;
  box.textContent = text;
  const { width, height } = box.getBoundingClientRect();
  box.style.left = `${Math.max(4, x + 16 + width > innerWidth ? x - width - 12 : x + 16)}px`;
  box.style.top = `${Math.max(4, Math.min(y + 14, innerHeight - height - 4))}px`;
}

// Call `show` when a control changes, and `close` on Escape; "/" goes to the search box.
function listen(show, close) {
  document.addEventListener("mousemove", (event) => showTip(event.target, event.clientX, event.clientY));
  $("controls").addEventListener("input", show);
  $("controls").addEventListener("submit", (event) => event.preventDefault());
  $("controls").addEventListener("reset", () => setTimeout(show));
  document.addEventListener("keydown", (event) => {
    const isTyping = document.activeElement.matches("select, input:not([type=radio])");
    if (event.key === "Escape") {
      showTip(null);
      close();
    } else if (event.key === "/" && !isTyping) {
      event.preventDefault();
      $("search").focus();
    }
  });
}
