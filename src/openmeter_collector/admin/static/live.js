// The live page: figures come once a second as server-sent events; tables are asked for when they are looked at.
const may = JSON.parse(document.body.dataset.may);
const byId = (id) => document.getElementById(id);
const pipelineNow = () => byId("which").querySelector("select").value;
const SVG = "http://www.w3.org/2000/svg";

function element(name, text = "", className = "") {
  const made = document.createElement(name);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

const count = (value) => Math.round(value).toLocaleString("en");
const rate = (value) => (value >= 10 || value === 0 ? count(value) : value.toFixed(1)) + "/s";
function bytes(value) {
  if (value === null || value === undefined) return "unknown";
  for (const unit of ["B", "kB", "MB", "GB"]) {
    if (value < 1000 || unit === "GB") return (unit === "B" ? count(value) : value.toFixed(1)) + " " + unit;
    value /= 1000;
  }
}
function length(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 60) return seconds.toFixed(1) + " s";
  if (seconds < 3600) return (seconds / 60).toFixed(1) + " min";
  return seconds < 172800 ? (seconds / 3600).toFixed(1) + " h" : (seconds / 86400).toFixed(1) + " days";
}
const moment = (unix) => (unix ? new Date(unix * 1000).toISOString().replace("T", " ").slice(0, 19) + " UTC" : "never");

function badge(place, text, className) {
  place.textContent = text;
  place.className = "badge " + className;
}

function plot(title, values, unit) {
  const most = Math.max(1, ...values);
  const step = 100 / Math.max(1, values.length - 1);
  const points = values.map((value, at) => `${(at * step).toFixed(2)} ${(29 - (28 * value) / most).toFixed(2)}`);
  const figure = element("figure");
  const drawing = document.createElementNS(SVG, "svg");
  drawing.setAttribute("viewBox", "0 0 100 30");
  drawing.setAttribute("preserveAspectRatio", "none");
  drawing.setAttribute("class", "plot");
  drawing.setAttribute("role", "img");
  drawing.setAttribute("aria-label", `${title}: now ${count(values.at(-1) ?? 0)}${unit}, at most ${count(most)}${unit}`);
  const line = document.createElementNS(SVG, "path");
  line.setAttribute("d", points.length ? "M" + points.join("L") : "");
  drawing.append(line);
  figure.append(drawing, element("figcaption", `${title}, at most ${count(most)}${unit}`));
  return figure;
}

function facts(place, pairs) {
  place.replaceChildren(...pairs.flatMap(([name, value, className]) => [element("dt", name), element("dd", value, className)]));
}

const milliseconds = (value) => (value < 10 ? value.toFixed(1) : count(value)) + " ms";

function showStages(section, stages) {
  const places = [...section.querySelectorAll("[data-path]")];
  // Another config than the one that is drawn: drawn anew, unless somebody is reading a letter.
  if (places.map((one) => one.dataset.path).join() !== stages.map((one) => one.path).join()) return redraw();
  stages.forEach((stage, index) => {
    const [first, more] = places[index].querySelectorAll(":scope > .figures");
    const errors = stage.errors ? ` · ${count(stage.errors)} errors` : "";
    first.textContent = `${rate(Math.max(stage.rate_in, stage.rate_out))} · ${count(stage.total)} in all${errors}`;
    first.classList.toggle("warn", stage.errors > 0);
    more.textContent = stage.p99_ms ? `p50 ${milliseconds(stage.p50_ms)} · p99 ${milliseconds(stage.p99_ms)}` : "";
  });
}

function redraw() {
  if (!document.querySelector("dialog[open]")) location.reload();
}

function deliveryOf(delivery) {
  if (delivery.paused) return ["paused: the destination refuses us. Everything is kept; check the token and the address", "wrong"];
  if (delivery.last_failure > delivery.last_success) return ["failing: tried again with growing pauses, everything is kept", "wrong"];
  return [delivery.in_flight ? `${count(delivery.in_flight)} batches under way` : "nothing under way", ""];
}

function answerOf(delivery) {
  if (delivery.last_failure > delivery.last_success) return [`${moment(delivery.last_failure)}: ${delivery.last_error}`, "wrong"];
  return [delivery.last_success ? `accepted, ${moment(delivery.last_success)}` : "none yet", ""];
}

function fullIn(backlog) {
  const room = backlog.room_bytes === null ? "" : ` (room for ${bytes(backlog.room_bytes)})`;
  return (backlog.seconds_to_full === null ? "it is not filling" : length(backlog.seconds_to_full)) + room;
}

function drainedIn(backlog) {
  if (!backlog.events) return "nothing waits";
  return backlog.seconds_to_drained === null ? "not at this speed: it does not get less" : length(backlog.seconds_to_drained);
}

function showPipeline(name, state) {
  const section = document.querySelector(`[data-pipeline="${CSS.escape(name)}"]`);
  if (!section) return redraw();
  badge(section.querySelector(".badge"), state.problems.length ? "needs you" : "well", state.problems.length ? "wrong" : "good");
  const list = section.querySelector(".problems");
  if (list.textContent !== state.problems.join("")) list.replaceChildren(...state.problems.map((text) => element("li", text)));
  showStages(section, state.stages);
  section.querySelector(".plots").replaceChildren(
    plot("received", state.plots.received, "/s"),
    plot("delivered", state.plots.delivered, "/s"),
    plot("backlog", state.plots.backlog, " events"),
  );
  const { delivery, backlog } = state;
  const pairs = [];
  if (backlog) {
    pairs.push(["backlog", `${count(backlog.events)} events, ${bytes(backlog.bytes)}` + (backlog.events ? `, the oldest ${length(backlog.oldest_age)} old` : "")]);
    pairs.push(["drained in", drainedIn(backlog)]);
    pairs.push(["full in", fullIn(backlog)]);
    pairs.push(["dead letters", count(backlog.dead_letters), backlog.dead_letters ? "warn" : ""]);
    if (!backlog.durable) pairs.push(["kept", "in memory only: lost when the process ends", "warn"]);
    if (backlog.failure) pairs.push(["buffer", backlog.failure, "wrong"]);
  }
  pairs.push(["delivered", `${count(delivery.delivered)} events since the start`]);
  pairs.push(["delivery", ...deliveryOf(delivery)]);
  pairs.push(["last answer", ...answerOf(delivery)]);
  if (delivery.last_error && delivery.last_failure <= delivery.last_success) pairs.push(["last failure", `${moment(delivery.last_failure)}: ${delivery.last_error}`]);
  if (delivery.last_refused) pairs.push(["last event refused", `${moment(delivery.last_refused)}: ${delivery.last_refusal}`, "warn"]);
  facts(section.querySelector("dl"), pairs);
}

function leadershipOf(one) {
  if (!one) return "";
  const who = one.leading ? `leads as ${one.identity} (term ${one.term})` : `stands by as ${one.identity}; ${one.holder ? one.holder + " leads" : "nobody leads"}`;
  return ` · ${who}${one.problem ? ": " + one.problem : ""}`;
}

function offerPipelines(names) {
  const choice = byId("which").querySelector("select");
  byId("which").hidden = names.length < 2;
  if (JSON.stringify([...choice.options].map((one) => one.value)) === JSON.stringify(names)) return;
  const chosen = choice.value;
  choice.replaceChildren(...names.map((name) => Object.assign(element("option", name || "the pipeline"), { value: name })));
  if (names.includes(chosen)) choice.value = chosen;
  refreshAll();
}

function refreshAll() {
  showLedger();
  showLetters();
  showTail();
}

function show(state) {
  byId("version").textContent = state.version;
  const names = Object.keys(state.pipelines);
  const leader = leadershipOf(state.leadership);
  const summary = `${state.ready ? "Ready" : "Not ready"} · up ${length(state.uptime)} · ${names.length} pipeline${names.length === 1 ? "" : "s"}${leader}`;
  byId("summary").className = state.ready ? "good" : "wrong";
  if (byId("summary").textContent !== summary) byId("summary").textContent = summary;
  if (names.length !== document.querySelectorAll("[data-pipeline]").length) return redraw();
  offerPipelines(names);
  if (byId("resources")) showStages(byId("resources"), state.resources);
  for (const name of names) showPipeline(name, state.pipelines[name]);
}

function table(section, heads, rows, empty) {
  const [head, body] = section.querySelectorAll("thead, tbody");
  const line = element("tr");
  line.append(...heads.map(([text, className]) => Object.assign(element("th", text, className), { scope: "col" })));
  head.replaceChildren(line);
  if (rows.length) body.replaceChildren(...rows);
  else {
    const none = element("td", empty);
    none.colSpan = heads.length;
    body.replaceChildren(element("tr"));
    body.firstChild.append(none);
  }
}

async function asked(path, query = {}) {
  const response = await fetch(`/ui/${path}?${new URLSearchParams({ pipeline: pipelineNow(), ...query })}`);
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error);
  return answer;
}

const turns = {};
/** Tells whether nothing was asked since for the same table: a late answer must not replace a newer one. */
function turn(name) {
  const mine = (turns[name] = (turns[name] ?? 0) + 1);
  return () => mine === turns[name];
}

async function showLedger() {
  const section = byId("ledger");
  const isLatest = turn("ledger");
  try {
    const books = await asked("ledger");
    if (!isLatest()) return;
    badge(section.querySelector(".badge"), books.balanced ? "balances" : "does not balance", books.balanced ? "good" : "wrong");
    const columns = ["received", "delivered", "dead", "dropped", "lost", "waiting", "balance", "rejected", "replayed", "duplicates"];
    const line = (name, sums) => {
      const row = element("tr");
      row.append(element("td", name, "moment"), ...columns.map((key) => element("td", count(sums[key] ?? 0), "number" + (key === "balance" && sums[key] ? " wrong" : ""))));
      return row;
    };
    const rows = books.hours.map((hour) => line(moment(hour.hour).slice(0, 16), hour));
    rows.push(line("all hours", books.total));
    table(section, [["hour (UTC)"], ...columns.map((name) => [name, "number"])], rows, "");
  } catch (error) {
    table(section, [["ledger"]], [], error.message);
  }
}

async function showLetters() {
  const section = byId("letters");
  const isLatest = turn("letters");
  try {
    const found = await asked("letters", { q: section.querySelector("input").value });
    if (!isLatest()) return;
    badge(section.querySelector(".badge"), count(found.count), found.count ? "warn" : "good");
    const rows = found.letters.map((letter) => {
      const row = element("tr");
      const open = element("button", `#${letter.letter}`);
      open.disabled = !may.see;
      open.setAttribute("aria-label", `Open letter ${letter.letter}`);
      open.addEventListener("click", () => openLetter(letter.letter));
      row.append(element("td"), element("td", moment(letter.last_attempt), "moment"), idCell(letter.id), ...["type", "subject", "reason"].map((key) => element("td", letter[key] ?? "–", key === "reason" ? "reason" : "short")));
      row.firstChild.append(open);
      return row;
    });
    table(section, [["letter"], ["last attempt"], ["id"], ["type"], ["subject"], ["reason"]], rows, "No dead letters.");
  } catch (error) {
    table(section, [["dead letters"]], [], error.message);
  }
}

byId("letters").querySelector(".locked").hidden = may.see;

function idCell(id) {
  const cell = element("td");
  if (!id || !may.see) {
    cell.textContent = id ?? "–";
    return cell;
  }
  const button = element("button", id);
  button.setAttribute("aria-label", `Life of event ${id}`);
  button.addEventListener("click", () => openLife(id));
  cell.append(button);
  return cell;
}

async function openLife(id) {
  const dialog = byId("life");
  byId("life-title").textContent = `Life of event ${id}`;
  try {
    const moments = await asked("life", { id });
    const items = moments.map((one) => element("li", `${moment(one.at)}: ${one.what}${one.note ? " (" + one.note + ")" : ""}`));
    dialog.querySelector("ol").replaceChildren(...(items.length ? items : [element("li", "Nothing is known any more; keep_sent keeps what was delivered.")]));
  } catch (error) {
    dialog.querySelector("ol").replaceChildren(element("li", error.message, "wrong"));
  }
  if (!dialog.open) dialog.showModal();
}

async function openLetter(number) {
  const dialog = byId("letter");
  const wrong = dialog.querySelector("[role=alert]");
  wrong.textContent = "";
  try {
    const letter = await asked(`letters/${number}`);
    byId("letter-title").textContent = `Dead letter ${number}`;
    facts(dialog.querySelector("dl"), [
      ["reason", (letter.response ? letter.reason.replace(letter.response, "").replace(/[: ]+$/, "") : letter.reason)], ["answer", letter.response || "–"], ["output", letter.output],
      ["attempts", `${letter.attempts}, from ${moment(letter.first_attempt)} to ${moment(letter.last_attempt)}`],
      ["received", moment(letter.received)], ["edited", letter.edited ? "yes; the event as it came is kept" : "no"],
    ]);
    dialog.querySelector("textarea").value = letter.content;
    dialog.dataset.content = letter.content;
    nameReplay();
  } catch (error) {
    wrong.textContent = error.message;
  }
  for (const button of dialog.querySelectorAll("button")) button.disabled = button.dataset.action !== "close" && !may.change;
  if (!may.change) wrong.textContent ||= "Changes need a password on the service (http.basic_auth).";
  dialog.querySelector("textarea").readOnly = !may.change;
  dialog.dataset.letter = number;
  if (!dialog.open) dialog.showModal();
}

const isEdited = () => byId("letter").querySelector("textarea").value !== byId("letter").dataset.content;

/** What was written is replayed, never what it was before, and the button says so. */
function nameReplay() {
  byId("letter").querySelector("[data-action=replay]").textContent = isEdited() ? "Save and replay" : "Replay";
}

byId("letter").querySelector("textarea").addEventListener("input", nameReplay);

async function act(action) {
  const dialog = byId("letter");
  if (action === "close") return dialog.close();
  if (action === "drop" && !confirm("Let this event go for good? It will not be billed.")) return;
  if (action === "replay" && isEdited() && !(await done("edit"))) return;
  if (!(await done(action))) return;
  if (action === "edit") await openLetter(dialog.dataset.letter);
  else dialog.close();
  await showLetters();
}

/** Whether an action succeeded; what is wrong is said in the dialog. */
async function done(action) {
  const dialog = byId("letter");
  const response = await fetch(`/ui/letters/${dialog.dataset.letter}?${new URLSearchParams({ pipeline: pipelineNow() })}`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ action, content: dialog.querySelector("textarea").value }),
  });
  if (!response.ok) dialog.querySelector("[role=alert]").textContent = (await response.json()).error;
  return response.ok;
}

async function showTail() {
  const section = byId("tail");
  const isLatest = turn("tail");
  try {
    const wanted = section.querySelector("[name=q]").value.trim();
    const events = await asked("tail", { q: wanted });
    if (!isLatest()) return;
    const rows = events.map((event) => {
      const row = element("tr");
      row.append(element("td", String(event.time ?? "–"), "moment"), idCell(typeof event.id === "string" ? event.id : null), ...["type", "subject"].map((key) => element("td", String(event[key] ?? "–"), "short")), element("td", event.content, "content"));
      return row;
    });
    table(section, [["time"], ["id"], ["type"], ["subject"], ["event"]], rows, wanted ? "Nothing that fits is among the last that passed. " : "Nothing passed yet.");
    if (!rows.length && wanted) {
      // Only some are kept to be looked at; the journal knows more.
      const ask = element("button", `Look up the life of event ${wanted}`);
      ask.addEventListener("click", () => openLife(wanted));
      section.querySelector("tbody td").append(ask);
    }
  } catch (error) {
    section.querySelector("[name=follow]").checked = false;
    table(section, [["events"]], [], error.message);
  }
}

/** The windows of one input: a heading and what is missing. */
function windowsOf(path, ledger) {
  const [stream, input] = path.split("/windows/");
  const list = element("ul");
  list.append(element("li", `each window is accounted for up to ${ledger.upto}`));
  for (const span of ledger.open) list.append(element("li", `open: ${span.start} to ${span.end}: ${span.cause || "not fetched yet"}`, "warn"));
  for (const span of ledger.lost) list.append(element("li", `lost: ${span.start} to ${span.end}: ${span.cause}`, "wrong"));
  if (!ledger.open.length && !ledger.lost.length) list.append(element("li", "no gaps"));
  return [element("h3", `${stream ? stream.slice(1) + ": " : ""}${input}`), list];
}

async function showWindows() {
  const section = byId("windows");
  try {
    const paths = await asked("windows");
    section.hidden = document.querySelector('nav a[href="#windows"]').hidden = !paths.length;
    const ledgers = await Promise.all(paths.map(async (path) => (await fetch(path)).json()));
    const [open, lost] = ["open", "lost"].map((word) => ledgers.reduce((sum, one) => sum + one[word].length, 0));
    badge(section.querySelector(".badge"), lost ? `${lost} lost` : open ? `${open} open` : "no gaps", lost ? "wrong" : open ? "warn" : "good");
    section.querySelector(".body").replaceChildren(...paths.flatMap((path, index) => windowsOf(path, ledgers[index])));
  } catch (error) {
    section.querySelector(".body").replaceChildren(element("p", error.message, "wrong"));
  }
}

for (const [id, refresh] of [["letters", showLetters], ["tail", showTail]]) {
  byId(id).querySelector("form").addEventListener("submit", (event) => { event.preventDefault(); refresh(); });
}
for (const button of byId("letter").querySelectorAll("button")) button.addEventListener("click", () => act(button.dataset.action));

byId("life").querySelector("button").addEventListener("click", () => byId("life").close());

const source = new EventSource("/ui/events");
source.addEventListener("message", (event) => show(JSON.parse(event.data)));
source.addEventListener("error", () => {
  byId("summary").textContent = "The collector does not answer; trying again.";
  byId("summary").className = "wrong";
});
const often = () => {
  if (document.hidden) return;
  if (byId("tail").querySelector("[name=follow]").checked) showTail();
};
byId("which").querySelector("select").addEventListener("change", refreshAll);
showWindows();
setInterval(often, 2000);
setInterval(() => { if (!document.hidden) { showLedger(); showLetters(); showWindows(); } }, 10000);
