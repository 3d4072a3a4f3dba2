// A playground for mappings that any page can hold. It makes its own elements inside the one it is given and
// knows nothing of where answers come from.

const WAIT_MS = 150;

/**
 * @param {HTMLElement} root where the playground is put
 * @param {(document: string, mapping: string) => Promise<object>} ask runs a mapping; see `attempt` in playground.py
 * @param {{document?: string, mapping?: string}} start what it begins with
 */
export function mountPlayground(root, ask, start = {}) {
  const input = editor(root, "Document", "document", start.document ?? "");
  const mapping = editor(root, "Mapping", "mapping", start.mapping ?? "");
  const result = panel(root);
  let timer = 0;
  let turn = 0;

  async function run() {
    const mine = ++turn;
    let made;
    try {
      made = await ask(input.area.value, mapping.area.value);
    } catch (error) {
      made = { error: `no answer: ${error.message}`, stage: "server", line: 0, column: 0, shown: "" };
    }
    // An answer to what has been changed since is of no use.
    if (mine === turn) show(made);
  }

  function show(made) {
    mapping.mark(made.error && made.line ? made.line : 0);
    result.show(made);
  }

  function soon() {
    clearTimeout(timer);
    timer = setTimeout(run, WAIT_MS);
  }

  for (const one of [input, mapping]) one.area.addEventListener("input", soon);
  result.onPlace((line, column) => mapping.place(line, column));
  run();
}

function element(name, className, text = "") {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}

function editor(root, title, name, text) {
  const box = element("section", `pane pane-${name}`);
  const label = element("label", "title", title);
  const frame = element("div", "frame");
  const gutter = element("pre", "gutter");
  gutter.setAttribute("aria-hidden", "true");
  const area = element("textarea", "text");
  area.id = `playground-${name}`;
  label.htmlFor = area.id;
  area.spellcheck = false;
  area.autocapitalize = "off";
  area.value = text;
  frame.append(gutter, area);
  box.append(label, frame);
  root.append(box);
  let marked = 0;

  function number() {
    gutter.replaceChildren(
      ...area.value.split("\n").map((_, index) => {
        const line = element("span", index + 1 === marked ? "line wrong" : "line", `${index + 1}\n`);
        return line;
      }),
    );
    gutter.scrollTop = area.scrollTop;
  }

  area.addEventListener("input", number);
  area.addEventListener("scroll", () => { gutter.scrollTop = area.scrollTop; });
  // Tab writes two spaces; Escape first gives the key back to whoever moves with it.
  let free = false;
  area.addEventListener("keydown", (event) => {
    if (event.key === "Escape") free = true;
    else if (event.key === "Tab" && !free && !event.shiftKey) {
      event.preventDefault();
      area.setRangeText("  ", area.selectionStart, area.selectionEnd, "end");
      area.dispatchEvent(new Event("input"));
    } else free = false;
  });
  number();
  return {
    area,
    mark(line) { marked = line; number(); },
    place(line, column) {
      const lines = area.value.split("\n");
      const before = lines.slice(0, line - 1).reduce((sum, one) => sum + one.length + 1, 0);
      const at = before + [...(lines[line - 1] ?? "")].slice(0, column - 1).join("").length;
      area.focus();
      area.setSelectionRange(at, Math.min(at + 1, area.value.length));
    },
  };
}

function panel(root) {
  const box = element("section", "pane pane-result");
  const title = element("h2", "title", "Result");
  const body = element("div", "outcome");
  body.setAttribute("role", "status");
  body.setAttribute("aria-live", "polite");
  box.append(title, body);
  root.append(box);
  let goTo = () => {};

  function failure(made) {
    const parts = [];
    if (made.line) {
      const jump = element("button", "jump", `line ${made.line}, column ${made.column}`);
      jump.type = "button";
      jump.addEventListener("click", () => goTo(made.line, made.column));
      parts.push(jump);
    }
    parts.push(element("p", "error", made.error));
    if (made.shown) parts.push(element("pre", "caret", made.shown));
    return parts;
  }

  function success(made) {
    const parts = [];
    if (made.note) parts.push(element("p", "note", made.note));
    parts.push(element("pre", "value", made.result));
    const names = Object.keys(made.metadata ?? {});
    if (names.length) {
      parts.push(element("h3", "", "Metadata"));
      const list = element("dl", "metadata");
      for (const name of names) list.append(element("dt", "", name), element("dd", "", made.metadata[name]));
      parts.push(list);
    }
    return parts;
  }

  return {
    onPlace(go) { goTo = go; },
    show(made) {
      const parts = made.error === undefined ? success(made) : failure(made);
      if (made.unsaved) parts.push(element("p", "error", made.unsaved));
      box.classList.toggle("failed", made.error !== undefined);
      body.replaceChildren(...parts);
    },
  };
}
