// A playground for mappings that any page can hold. It makes its own elements inside the one it is given and
// knows nothing of where answers come from.

const WAIT_MS = 150;

/**
 * @param {HTMLElement} root where the playground is put
 * @param {(asked: object) => Promise<object>} ask runs a mapping; see `Asked` and `attempted` in attempt.py
 * @param {{document?: string, mapping?: string}} start what it begins with
 * @returns what a page around it needs: `asked()`, `setDocument(text, metadata, lines)`, `setMapping(text, mode)`
 */
export function mountPlayground(root, ask, start = {}) {
  const input = editor(root, "Document", "document", start.document ?? "");
  const lines = checkbox("each line is a message");
  const metadata = field("Metadata", "playground-metadata", "an object in JSON, for every message");
  input.bar.append(lines.label, metadata.label);
  const mapping = editor(root, "Mapping", "mapping", start.mapping ?? "");
  const mode = choice("Runs as", { mapping: "mapping: makes a new document", mutation: "mutation: changes the document" });
  mapping.bar.append(mode.label);
  const result = panel(root);
  let timer = 0;
  let running = false;
  let changed = false;

  const asked = () => ({
    document: input.area.value,
    mapping: mapping.area.value,
    mode: mode.input.value,
    lines: lines.input.checked,
    metadata: metadata.input.value,
  });

  /** One attempt at a time: what is typed meanwhile is tried when its answer is there. */
  async function run() {
    changed = running;
    if (running) return;
    running = true;
    let made;
    try {
      made = await ask(asked());
    } catch (error) {
      made = { error: `no answer: ${error.message}`, stage: "server", line: 0, column: 0, shown: "" };
    }
    running = false;
    // An answer to what has been changed since is of no use.
    if (changed) run();
    else show(made);
  }

  function show(made) {
    const failed = made.error ? made : made.messages?.find((one) => one.error);
    mapping.mark(failed?.line ?? 0);
    result.show(made);
  }

  function soon() {
    clearTimeout(timer);
    timer = setTimeout(run, WAIT_MS);
  }

  for (const one of [input.area, mapping.area, metadata.input]) one.addEventListener("input", soon);
  for (const one of [lines.input, mode.input]) one.addEventListener("change", soon);
  result.onPlace((line, column) => mapping.place(line, column));
  run();
  return {
    asked,
    setDocument(text, given = "", several = false) {
      input.set(text);
      metadata.input.value = given;
      lines.input.checked = several;
      soon();
    },
    setMapping(text, how = "mapping") {
      mapping.set(text);
      mode.input.value = how;
      soon();
    },
  };
}

function labelled(text, input) {
  const label = element("label", "setting");
  label.append(input, " ", text);
  return { label, input };
}

function checkbox(text) {
  const input = element("input");
  input.type = "checkbox";
  return labelled(text, input);
}

function field(text, id, hint) {
  const input = element("input", "metadata-text");
  input.id = id;
  input.placeholder = hint;
  input.spellcheck = false;
  input.autocomplete = "off";
  const label = element("label", "setting wide");
  label.append(`${text} `, input);
  return { label, input };
}

function choice(text, options) {
  const input = element("select");
  for (const [value, shown] of Object.entries(options)) {
    const option = element("option", "", shown);
    option.value = value;
    input.append(option);
  }
  const label = element("label", "setting");
  label.append(`${text} `, input);
  return { label, input };
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
  const bar = element("div", "bar");
  frame.append(gutter, area);
  box.append(label, frame, bar);
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
    bar,
    set(text) {
      area.value = text;
      area.setSelectionRange(0, 0);
      marked = area.scrollTop = area.scrollLeft = 0;
      number();
    },
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

  function one(made) {
    return made.error === undefined ? success(made) : failure(made);
  }

  function several(messages) {
    return messages.flatMap((made, index) => [element("h3", "", `Message ${index + 1}`), ...one(made)]);
  }

  return {
    onPlace(go) { goTo = go; },
    show(made) {
      const messages = made.messages ?? [made];
      const parts = messages.length === 1 ? one(messages[0]) : several(messages);
      if (!messages.length) parts.push(element("p", "note", "There is no message."));
      if (made.unsaved) parts.push(element("p", "error", made.unsaved));
      box.classList.toggle("failed", messages.some((message) => message.error !== undefined));
      body.replaceChildren(...parts);
    },
  };
}
