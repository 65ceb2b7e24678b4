"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const pairs = new Map(data.pairs.map((pair) => [pair.id, pair]));
const choices = data.ties ? ["left", "tie", "right"] : ["left", "right"];
const labels = { left: "A", right: "B", tie: "No difference" };
const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
const find = (id) => document.getElementById(id);

// ---- What is kept: one rater's session, in the browser where it allows that.

const slot = `study ${data.study}`;
let kept = true; // false once the browser has refused
let unsent = false; // answers changed since the last download
let state = load() ?? fresh();

function fresh() {
  const session = [...crypto.getRandomValues(new Uint8Array(16))];
  const order = data.pairs.map((pair) => pair.id);
  for (let i = order.length - 1; i > 0; i--) {
    const j = Math.floor(Math.random() * (i + 1));
    [order[i], order[j]] = [order[j], order[i]];
  }
  const id = session.map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return { session: id, rater: "", begun: new Date().toISOString(), order, at: 0, answers: {} };
}

function load() {
  try {
    const saved = JSON.parse(localStorage.getItem(slot));
    const whole = saved?.order?.length === pairs.size && saved.order.every((id) => pairs.has(id));
    return whole && saved.answers ? saved : null;
  } catch {
    kept = false;
    return null;
  }
}

function save() {
  try {
    localStorage.setItem(slot, JSON.stringify(state));
  } catch {
    kept = false;
  }
  find("memory").hidden = kept;
}

// ---- What is answered.

const answersOf = (id) => (state.answers[id] ??= {});
const open = (id) => data.axes.filter((axis) => !state.answers[id]?.[axis.id]);
const openPairs = () => state.order.filter((id) => open(id).length);
const here = () => state.order[state.at];
const count = (n, what) => `${n} ${what}${n === 1 ? "" : "s"}`;

function result() {
  const answered = state.order.filter((id) => Object.keys(state.answers[id] ?? {}).length);
  return {
    kind: "study answers",
    study: data.study,
    session: state.session,
    rater: state.rater,
    begun: state.begun,
    saved: new Date().toISOString(),
    answers: answered.map((id) => ({ pair: id, ...state.answers[id] })),
  };
}

function download() {
  const link = document.createElement("a");
  const text = JSON.stringify(result(), null, 1) + "\n";
  link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  link.download = `answers-${data.study.slice(0, 6)}-${state.session.slice(0, 6)}.json`;
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  unsent = false;
  const left = openPairs().length;
  find("status").textContent =
    `${link.download} is in your downloads` + (left ? `; ${count(left, "pair")} still open.` : ".");
}

// ---- What is shown: one of three views.

function show(view) {
  for (const id of ["start", "pair", "end"]) find(id).hidden = id !== view;
  find("status").textContent = "";
  if (view !== "pair") find("videos").replaceChildren();
  ({ start: showStart, pair: showPair, end: showEnd })[view]();
  scrollTo(0, 0);
}

function showStart() {
  const begun = Object.keys(state.answers).length > 0;
  find("name").value = state.rater;
  find("go").textContent = begun ? "Continue" : "Begin";
  for (const button of document.querySelectorAll("[data-restart]")) button.hidden = !begun;
}

function showPair() {
  const pair = pairs.get(here());
  find("prompt").textContent = pair.prompt;
  find("videos").replaceChildren(figure(pair.left, "A"), figure(pair.right, "B"));
  for (const axis of data.axes) {
    for (const choice of choices) {
      find(`${axis.id}-${choice}`).checked = answersOf(pair.id)[axis.id] === choice;
    }
  }
  find("pause").textContent = still ? "Play" : "Pause";
  showProgress();
  find("prompt").focus({ preventScroll: true });
  const after = pairs.get(state.order[state.at + 1]);
  if (after) for (const name of [after.left, after.right]) film(name); // fetched ahead
}

function showProgress() {
  const done = pairs.size - openPairs().length;
  find("place").textContent = `Pair ${state.at + 1} of ${pairs.size}`;
  find("bar").max = pairs.size;
  find("bar").value = done;
  find("bar").textContent = `${done} answered`;
  find("previous").disabled = state.at === 0;
  const whole = !open(here()).length;
  find("next").textContent = whole ? (state.at + 1 < pairs.size ? "Next" : "Finish") : "Skip";
  find("next").classList.toggle("primary", whole);
}

function showEnd() {
  const left = openPairs().length;
  find("thanks").textContent = left ? "Some pairs are open" : "Thank you";
  find("summary").textContent = left
    ? `${left} of ${count(pairs.size, "pair")} can still be answered.`
    : `You have answered all questions about ${count(pairs.size, "pair")}.`;
  find("missing").hidden = !left;
  find("copy").value = JSON.stringify(result());
  for (const button of document.querySelectorAll("[data-restart]")) button.hidden = false;
  find("thanks").focus({ preventScroll: true });
}

function film(name) {
  const video = document.createElement("video");
  Object.assign(video, { muted: true, loop: true, playsInline: true, preload: "auto" });
  video.src = `videos/${name}`;
  return video;
}

function figure(name, label) {
  const box = document.createElement("figure");
  const caption = document.createElement("figcaption");
  const video = film(name);
  caption.textContent = label;
  video.setAttribute("aria-label", `Video ${label}`);
  video.autoplay = !still;
  video.onerror = () => {
    const note = document.createElement("p");
    note.className = "broken";
    note.textContent = "This video cannot be shown here. You can skip the pair.";
    box.append(note);
  };
  box.append(caption, video);
  return box;
}

function play(restart) {
  for (const video of find("videos").querySelectorAll("video")) {
    if (restart) video.currentTime = 0;
    video.play().catch(() => {}); // a browser may refuse, for example to save power
  }
  find("pause").textContent = "Pause";
}

// ---- What happens.

function turn(step) {
  const to = state.at + step;
  if (to < 0) return;
  if (to < pairs.size) state.at = to;
  save();
  show(to < pairs.size ? "pair" : "end");
}

function choose(axis, choice) {
  answersOf(here())[axis.id] = choice;
  find(`${axis.id}-${choice}`).checked = true;
  unsent = true;
  save();
  showProgress();
}

function chooseByKey(choice) {
  const focused = document.activeElement.closest("fieldset")?.id;
  const axis = data.axes.find((axis) => axis.id === focused) ?? open(here())[0];
  if (!axis) return;
  choose(axis, choice);
  const following = open(here())[0];
  find(following?.id ?? "next").focus(); // the row, for no side may stand out
}

function restart() {
  if (!confirm("Forget these answers and start over? Download them first.")) return;
  state = fresh();
  unsent = false;
  save();
  show("start");
}

const keys = { ArrowLeft: "left", ArrowRight: "right", ...(data.ties && { ArrowDown: "tie" }) };

addEventListener("keydown", (event) => {
  if (find("pair").hidden || event.ctrlKey || event.metaKey || event.altKey) return;
  if (keys[event.key]) chooseByKey(keys[event.key]);
  else if (event.key === "Backspace") turn(-1);
  else if (event.key === "Enter" && event.target.tagName !== "BUTTON") {
    if (open(here()).length) return;
    turn(1);
  } else return;
  event.preventDefault();
});

addEventListener("beforeunload", (event) => {
  if (!kept && unsent) event.preventDefault();
});

find("begin").addEventListener("submit", (event) => {
  event.preventDefault();
  state.rater = find("name").value.trim();
  save();
  show("pair");
});
find("axes").addEventListener("submit", (event) => event.preventDefault());
find("previous").addEventListener("click", () => turn(-1));
find("next").addEventListener("click", () => turn(1));
find("back").addEventListener("click", () => show("pair"));
find("missing").addEventListener("click", () => {
  state.at = state.order.indexOf(openPairs()[0]);
  show("pair");
});
find("replay").addEventListener("click", () => play(true));
find("pause").addEventListener("click", () => {
  const videos = [...find("videos").querySelectorAll("video")];
  if (videos.every((video) => video.paused)) return play(false);
  for (const video of videos) video.pause();
  find("pause").textContent = "Play";
});
for (const button of document.querySelectorAll("[data-download]")) {
  button.addEventListener("click", download);
}
for (const button of document.querySelectorAll("[data-restart]")) {
  button.addEventListener("click", restart);
}

// ---- The parts that depend on the study.

find("start").querySelector("[data-count]").textContent = count(pairs.size, "pair") + " of videos";
find("keys").innerHTML =
  "<kbd>←</kbd> A, <kbd>→</kbd> B, " +
  (data.ties ? "<kbd>↓</kbd> no difference, " : "") +
  "<kbd>Enter</kbd> next pair, <kbd>Backspace</kbd> previous pair";
for (const axis of data.axes) {
  const term = document.createElement("dt");
  const detail = document.createElement("dd");
  term.textContent = axis.name;
  detail.textContent = axis.question;
  find("questions").append(term, detail);

  const group = document.createElement("fieldset");
  group.id = axis.id;
  group.tabIndex = -1;
  group.className = data.ties ? "axis ties" : "axis";
  const legend = document.createElement("legend");
  const question = document.createElement("span");
  question.textContent = axis.question;
  legend.append(axis.name, question);
  group.append(legend);
  for (const choice of choices) {
    const label = document.createElement("label");
    const input = document.createElement("input");
    const text = document.createElement("span");
    label.className = `choice ${choice}`;
    Object.assign(input, { type: "radio", name: axis.id, id: `${axis.id}-${choice}` });
    input.addEventListener("change", () => choose(axis, choice));
    text.textContent = labels[choice];
    label.append(input, text);
    group.append(label);
  }
  find("axes").append(group);
}
save();
show("start");
