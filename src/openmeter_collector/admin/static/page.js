// The page of `blobl server`: the playground with a server that answers beside it.
import { mountPlayground } from "./playground.js";

async function ask(document, mapping) {
  const response = await fetch("attempt", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ document, mapping }),
  });
  if (!response.ok) throw new Error(await response.text());
  return response.json();
}

const start = await (await fetch("start")).json();
mountPlayground(document.getElementById("playground"), ask, start);
