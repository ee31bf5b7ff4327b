"use strict";
// Shared by all pages. The data lie in the page as JSON.
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);

// ---------------------------------------------------------------- small makers of elements
const SVG_TAGS = new Set(["svg", "g", "rect", "circle", "text", "tspan", "line", "path", "defs", "pattern"]);
function make(tag, attributes = {}, ...children) {
  const space = SVG_TAGS.has(tag) ? "http://www.w3.org/2000/svg" : "http://www.w3.org/1999/xhtml";
  const element = document.createElementNS(space, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children.filter((child) => child !== null));
  return element;
}
const number = (value, digits = 1) => value === null ? "–" : value.toFixed(digits).replace("-", "−");
const percent = (share) => share === null ? "–" : number(100 * share);
const many = (count) => count.toLocaleString("en");
const readable = (name) => name.replaceAll("_", " ");
// What a search box asks for, as a test: every word occurs, in any order.
function wordsOf(box) {
  return box.value.toLowerCase().replace(/[_:]/g, " ").split(/\s+/).filter(Boolean);
}

// ---------------------------------------------------------------- the box at the pointer
function showTip(text, x, y) {
  const box = $("tip");
  box.hidden = text === null;
  if (text === null) return;
  box.textContent = text;
  const { width, height } = box.getBoundingClientRect();
  box.style.left = `${Math.max(4, x + 16 + width > innerWidth ? x - width - 12 : x + 16)}px`;
  box.style.top = `${Math.max(4, Math.min(y + 14, innerHeight - height - 4))}px`;
}

// "/" goes to the box #search, Escape calls `leave`.
function startKeys(leave) {
  document.addEventListener("keydown", (event) => {
    const typing = ["INPUT", "SELECT"].includes(document.activeElement.tagName) && document.activeElement.type !== "radio";
    if (event.key === "/" && !typing) {
      event.preventDefault();
      $("search").focus();
    } else if (event.key === "Escape") {
      showTip(null);
      leave();
    }
  });
}
