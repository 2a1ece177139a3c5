/**
 * Makes an element's content what `html` says, and touches only what differs: selection, focus and the
 * reader of a screen stay where they are.
 */
export function patch(element: Element, html: string): void {
  const template = document.createElement('template');
  template.innerHTML = html;
  patchChildren(element, template.content);
}

function patchChildren(old: Node, fresh: Node): void {
  const there = [...old.childNodes];
  const wanted = [...fresh.childNodes];
  wanted.forEach((node, index) => {
    const found = there[index];
    if (!found) old.appendChild(node);
    else if (found.nodeName === node.nodeName) patchNode(found, node);
    else old.replaceChild(node, found);
  });
  for (const node of there.slice(wanted.length)) old.removeChild(node);
}

function patchNode(old: Node, fresh: Node): void {
  if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
  if (old instanceof Element && fresh instanceof Element) {
    for (const { name } of [...old.attributes]) {
      if (!fresh.hasAttribute(name)) old.removeAttribute(name);
    }
    for (const { name, value } of fresh.attributes) {
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
  }
  patchChildren(old, fresh);
}
