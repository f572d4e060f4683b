// The ask page. Whatever comes from the gateway is put in as text, never as HTML. The key lives in this tab only.
"use strict";

const $ = (id) => document.getElementById(id);
const WORDS = {
  401: "This key is not known to the gateway.",
  403: "This key may not do this.",
  413: "The question is too long.",
  429: "Too many requests.",
  503: "The gateway cannot answer at the moment.",
  504: "The answer took too long.",
};
let asking = null; // AbortController of the question that is on
let trace = ""; // what a rating is for
let thumb = 0;

function say(place, text, kind = "") {
  place.textContent = text;
  place.className = `notice ${kind}`;
  place.hidden = !text;
}

function session() {
  let own = sessionStorage.getItem("sluice-session");
  if (!own) {
    own = Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
    sessionStorage.setItem("sluice-session", own);
  }
  return own;
}

function post(path, body, signal) {
  const headers = { "Authorization": `Bearer ${$("key").value.trim()}`, "Content-Type": "application/json" };
  return fetch(path, { method: "POST", headers, body: JSON.stringify(body), signal, credentials: "omit" });
}

// What an error says to a person: our words for its status, the gateway's own message, and how long to wait.
async function failure(reply) {
  const told = await reply.json().catch(() => ({}));
  const wait = Number(reply.headers.get("Retry-After"));
  const parts = [WORDS[reply.status] || `The gateway said ${reply.status}.`, told.error?.message || ""];
  if (wait) parts.push(`Try again in ${wait} second${wait === 1 ? "" : "s"}.`);
  return { text: parts.filter(Boolean).join(" "), status: reply.status };
}

// Server-sent events of a response: [name, data] each.
async function* events(reply) {
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let kept = "";
  for (;;) {
    const { value, done } = await reader.read();
    kept = (kept + (value || "")).replaceAll("\r\n", "\n");
    const whole = kept.split("\n\n");
    kept = done ? "" : whole.pop();
    for (const block of whole) {
      let name = "message";
      const data = [];
      for (const line of block.split("\n")) {
        if (line.startsWith("event:")) name = line.slice(6).trim();
        if (line.startsWith("data:")) data.push(line.slice(5).trimStart());
      }
      if (data.length) yield [name, data.join("\n")];
    }
    if (done) return;
  }
}

async function ask(event) {
  event.preventDefault();
  asking?.abort();
  const own = (asking = new AbortController());
  sessionStorage.setItem("sluice-key", $("key").value.trim());
  clear();
  working(true);
  try {
    const body = { question: $("question").value, session: session(), stream: true };
    const reply = await post("v1/answers", body, own.signal);
    if (!reply.ok) return broken(await failure(reply));
    $("result").hidden = false;
    await read(reply);
  } catch (error) {
    if (error.name === "AbortError") say($("notice"), "Stopped.");
    else broken({ text: "The gateway cannot be reached, or the connection broke." });
  } finally {
    if (asking === own) working(false);
  }
}

// An answer ends with its event; a stream that ends otherwise was cut, and what stands there is no answer.
async function read(reply) {
  for await (const [name, data] of events(reply)) {
    const told = JSON.parse(data);
    if (name === "answer.delta") $("answer").append(told.text);
    if (name === "answer.done") return show(told);
    if (name === "error") return broken({ text: filtered(told.error) });
  }
  return broken({ text: "The connection broke before the answer was whole." });
}

function filtered(error) {
  if (error.code === "content_filter") return `A guard stopped this answer: ${error.message}`;
  return error.message;
}

function broken(told) {
  clear();
  say($("notice"), told.text, "bad");
  if (told.status === 401) $("key").focus();
}

function show(told) {
  trace = told.trace_id;
  $("answer").textContent = told.answer;
  if (told.degraded) say($("notice"), "A part of the gateway failed: this is its fallback text, not an answer.", "bad");
  else if (told.refused) say($("notice"), "Not answered: nothing that you may see supports an answer, or a guard held it back.");
  for (const source of told.citations) $("sources").append(item(source));
  $("cited").hidden = !told.citations.length;
  const facts = { "Confidence": confidence(told), "Release": told.release.slice(0, 12), "Arm": told.arm, "Trace": told.trace_id };
  for (const [name, text] of Object.entries(facts)) {
    if (!text) continue;
    const term = document.createElement("dt");
    const value = document.createElement("dd");
    term.textContent = name;
    value.textContent = text;
    $("facts").append(term, value);
  }
  $("rate").hidden = false;
}

function confidence(told) {
  return typeof told.confidence === "number" ? `${told.confidence.toFixed(2)} of 1, by words shared with the sources` : "";
}

// A source: its title, and behind it the passage that the answer stands on.
function item(source) {
  const [entry, opened, title, text] = ["li", "details", "summary", "blockquote"].map((name) => document.createElement(name));
  entry.value = source.number;
  title.textContent = `${source.title || source.document} (${source.document})`;
  text.textContent = source.text;
  opened.append(title, text);
  entry.append(opened);
  return entry;
}

function clear() {
  trace = "";
  choose(0);
  for (const id of ["answer", "sources", "facts"]) $(id).replaceChildren();
  for (const id of ["correction", "reason"]) $(id).value = "";
  for (const id of ["cited", "rate", "result"]) $(id).hidden = true;
  say($("notice"), "");
  say($("rated"), "");
}

function working(on) {
  $("answer").setAttribute("aria-busy", String(on));
  $("send").disabled = on;
  $("stop").hidden = !on;
}

function choose(value) {
  thumb = value;
  $("up").setAttribute("aria-pressed", String(value === 1));
  $("down").setAttribute("aria-pressed", String(value === -1));
  $("more").hidden = !value;
}

async function rate(event) {
  event.preventDefault();
  const body = { trace_id: trace, rating: thumb, correction: $("correction").value, reason: $("reason").value };
  try {
    const reply = await post("v1/feedback", body);
    if (!reply.ok) return say($("rated"), (await failure(reply)).text, "bad");
    choose(0);
    return say($("rated"), "Thank you. The rating is stored.", "good");
  } catch {
    return say($("rated"), "The gateway cannot be reached.", "bad");
  }
}

$("key").value = sessionStorage.getItem("sluice-key") || "";
$($("key").value ? "question" : "key").focus();
$("ask").addEventListener("submit", ask);
$("stop").addEventListener("click", () => asking?.abort());
$("question").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("ask").requestSubmit();
});
$("up").addEventListener("click", () => choose(1));
$("down").addEventListener("click", () => choose(-1));
$("rate").addEventListener("submit", rate);
