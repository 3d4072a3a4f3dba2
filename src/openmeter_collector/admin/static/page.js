// The page of the playground: what a config and its events offer, and the test that is made of an attempt.
import { mountPlayground } from "./playground.js";

const byId = (id) => document.getElementById(id);

async function got(path) {
  const response = await fetch(path);
  if (!response.ok) throw new Error((await response.text()).trim());
  return response.json();
}

async function sent(path, value) {
  const response = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(value),
  });
  if (!response.ok) throw new Error((await response.text()).trim());
  return response.json();
}

function element(name, text = "", className = "") {
  const made = document.createElement(name);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

const start = await got("start");
const playground = mountPlayground(byId("playground"), (asked) => sent("attempt", asked), start);
let chosen = null;

if (start.home) {
  byId("home").href = start.home;
  byId("home").hidden = false;
}

// ---- where to begin ------------------------------------------------------------------------------------

function choice(title, parts, choose) {
  const button = element("button", "", "choice");
  button.type = "button";
  button.append(element("strong", title), ...parts.map((text) => element("span", text)));
  button.addEventListener("click", choose);
  const item = element("li");
  item.append(button);
  return item;
}

function offer(id, items) {
  const box = byId(id);
  box.querySelector(".count").textContent = `(${items.length})`;
  box.querySelector("ul").replaceChildren(...items);
}

function take(mapping, button) {
  chosen = mapping;
  playground.setMapping(mapping.text, mapping.mode);
  for (const one of byId("mappings").querySelectorAll(".choice")) one.removeAttribute("aria-current");
  button.setAttribute("aria-current", "true");
  byId("mappings").open = false;
  byId("playground-mapping").focus();
}

async function showMappings() {
  const found = await got("mappings");
  byId("mappings").hidden = !found.length;
  offer("mappings", found.map((mapping) => {
    const parts = [mapping.place];
    if (mapping.stream) parts.push(`stream ${mapping.stream}`);
    if (mapping.hidden) parts.push("a secret in it is hidden here: it runs otherwise than in the config");
    const item = choice(mapping.name, parts, () => take(mapping, item.firstChild));
    return item;
  }));
}

const named = (metadata) => (Object.keys(metadata).length ? JSON.stringify(metadata) : "");

async function showEvents() {
  const found = await got("events");
  const box = byId("events");
  box.hidden = !start.home;
  box.querySelector(".all").disabled = !found.length;
  box.querySelector(".all").onclick = () => {
    // An event of several lines would be several messages: JSON can do without its line breaks.
    const lines = found.map((event) => event.content.replaceAll(/\s*\n\s*/g, " "));
    const all = found.map((event) => event.metadata);
    const same = all.every((one) => JSON.stringify(one) === JSON.stringify(all[0]));
    playground.setDocument(lines.join("\n"), same ? named(all[0]) : JSON.stringify(all), true);
    box.open = false;
  };
  const items = found.map((event) => choice(
    String(event.id ?? "no id"),
    [event.type, event.subject, event.time, event.stream && `stream ${event.stream}`].filter(Boolean).map(String),
    () => {
      playground.setDocument(event.content, named(event.metadata), false);
      box.open = false;
      byId("playground-document").focus();
    },
  ));
  offer("events", items.length ? items : [element("li", "Nothing passed yet.")]);
  if (!items.length) box.querySelector(".count").textContent = "(0)";
}

byId("events").querySelector(".again").addEventListener("click", showEvents);
await Promise.all([showMappings(), showEvents()]);

// ---- a unit test ---------------------------------------------------------------------------------------

const dialog = byId("case");
const form = dialog.querySelector("form");
const said = (text, className = "") => Object.assign(dialog.querySelector(".said"), { textContent: text, className: `said ${className}` });

/** The kinds of tests that fit what is on the page: [value, text, what to do with it, name of the file]. */
function kinds(asked) {
  const found = [];
  const same = chosen && asked.mapping === chosen.text && asked.mode === chosen.mode;
  if (chosen?.processors) {
    const until = same ? "" : " It passes when the config has this mapping.";
    found.push(["processors", `of ${chosen.name} in the config`, `Put it into ${chosen.test_file}, beside the config; openmeter-collector test runs it.${until}`, chosen.test_file]);
  }
  if (start.mapping_file && asked.mode === "mapping") {
    found.push(["mapping_file", `of the file ${start.mapping_file}`, `Put it beside ${start.mapping_file}; openmeter-collector test runs it.`, "mapping_test.yaml"]);
  }
  const why = chosen?.hidden ? " It cannot be a test of the config: a secret in the mapping is hidden here." : "";
  found.push(["alone", "with the mapping in it", `A file that stands alone: openmeter-collector test mapping_test.yaml.${why}`, "mapping_test.yaml"]);
  return found;
}

let kind = null;
let made = "";
let turn = 0;

function wanted() {
  return {
    name: form.elements.name.value || "what the mapping makes",
    processors: kind[0] === "processors" ? chosen.processors : "",
    mapping_file: kind[0] === "mapping_file" ? start.mapping_file : "",
  };
}

async function refresh() {
  const mine = ++turn;
  const asked = playground.asked();
  kind = kinds(asked).find(([value]) => value === form.elements.target.value);
  dialog.querySelector(".how").textContent = kind[2];
  dialog.querySelector(".write").hidden = !(start.tests_file && kind[0] === "processors");
  said("…");
  for (const button of dialog.querySelectorAll(".copy, .download, .write")) button.disabled = true;
  let answer;
  try {
    answer = await sent("case", { asked, wanted: wanted() });
  } catch (error) {
    answer = { error: error.message };
  }
  if (mine !== turn) return; // the name or the kind was changed since
  made = answer.text ?? "";
  form.elements.text.value = made;
  said(answer.error ?? "", answer.error ? "error" : "");
  for (const button of dialog.querySelectorAll(".copy, .download, .write")) button.disabled = !made;
}

byId("save").addEventListener("click", () => {
  const found = kinds(playground.asked());
  form.elements.target.replaceChildren(...found.map(([value, text]) => Object.assign(element("option", text), { value })));
  form.elements.name.value = chosen?.name ?? "";
  dialog.querySelector(".write").textContent = `Add it to ${start.tests_file.split("/").at(-1)}`;
  dialog.showModal();
  refresh();
});
form.elements.target.addEventListener("change", refresh);
form.elements.name.addEventListener("change", refresh);

dialog.querySelector(".copy").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText(made);
    said("Copied.");
  } catch {
    // Without TLS a browser does not lend its clipboard to pages of other machines.
    form.elements.text.select();
    said("It is selected: copy it with the keyboard.");
  }
});

dialog.querySelector(".download").addEventListener("click", () => {
  const address = URL.createObjectURL(new Blob([made], { type: "application/yaml" }));
  const link = Object.assign(element("a"), { href: address, download: kind[3] });
  link.click();
  URL.revokeObjectURL(address);
});

dialog.querySelector(".write").addEventListener("click", async () => {
  try {
    const answer = await sent("write-case", { asked: playground.asked(), wanted: wanted() });
    said(answer.error ?? `Added to ${start.tests_file}.`, answer.error ? "error" : "");
  } catch (error) {
    said(error.message, "error");
  }
});
