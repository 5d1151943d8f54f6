// Making elements, and making what is on the page like them: what hasn't changed is left alone, so that focus,
// open details, running animations and what a screen reader has said already stay.

const SVG = "http://www.w3.org/2000/svg";
const KEPT = new Set(["open"]);

function made(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value !== null && value !== undefined && value !== false) {
      element.setAttribute(name, value === true ? "" : String(value));
    }
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Return an HTML element; children are nodes or text, null for none. */
export function el(tag, attributes, ...children) {
  return made(document.createElement(tag), attributes, children);
}

/** Return an SVG element. */
export function svg(tag, attributes, ...children) {
  return made(document.createElementNS(SVG, tag), attributes, children);
}

/** Let *parent* have children like *wanted*. */
export function show(parent, ...wanted) {
  const fresh = parent.cloneNode(false);
  fresh.append(...wanted.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  morphChildren(parent, fresh);
}

function morph(old, fresh) {
  if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) {
    old.replaceWith(fresh);
    return;
  }
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && !KEPT.has(name)) old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value && !(KEPT.has(name) && old.hasAttribute(name))) old.setAttribute(name, value);
  }
  morphChildren(old, fresh);
}

function morphChildren(old, fresh) {
  const wanted = [...fresh.childNodes];
  while (old.childNodes.length > wanted.length) old.lastChild.remove();
  wanted.forEach((node, at) => {
    const there = old.childNodes[at];
    if (there) morph(there, node);
    else old.append(node);
  });
}
