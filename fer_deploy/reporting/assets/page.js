"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const { labels, counts, rows } = data;
const PAGE = 120; // faces that are drawn at a time
const by = (id) => document.getElementById(id);
const number = (value) => value.toLocaleString("en");
const percent = (part, whole) => (whole ? (100 * part / whole).toFixed(1) : "0.0") + " %";
const sure = (row) => (100 * row.confidence).toFixed(1) + " %";
const baseName = (path) => path.slice(path.lastIndexOf("/") + 1) || path;

/** Makes an element; texts go in as text, never as markup. */
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function bar(part, whole, index) {
  const inner = element("span", { class: "e" + index });
  inner.style.width = (whole ? 100 * part / whole : 0) + "%";
  return element("span", { class: "bar", "aria-hidden": "true" }, inner);
}

function showCounts() {
  const title = counts.faces === 1 ? "Emotion of one face" : `Emotions of ${number(counts.faces)} faces`;
  document.title = title;
  by("title").textContent = title;
  by("about").textContent = [["made", data.made], ...data.about].map(([name, text]) => `${name}: ${text}`).join(" · ");
  const tiles = [["pictures", counts.pictures], ["faces", counts.faces], ["without a face", counts.withoutFace], ["could not be read", counts.failed]];
  for (const [name, value] of tiles) {
    if (value || name === "pictures" || name === "faces") {
      by("tiles").append(element("div", {}, element("dt", {}, name), element("dd", {}, number(value))));
    }
  }
  const most = Math.max(...counts.emotions);
  labels.forEach((label, index) => {
    const count = counts.emotions[index];
    const button = element("button", { type: "button", title: `show the ${label} ones` }, element("span", {}, label), bar(count, most, index),
      element("span", { class: "number" }, `${number(count)} · ${percent(count, counts.faces)}`));
    button.addEventListener("click", () => jump({ emotion: index }));
    by("emotions").append(element("li", {}, button));
    by("legend").append(element("span", {}, element("i", { class: "e" + index }), label));
  });
}

function showFolders() {
  by("folders-section").hidden = counts.folders.length < 2;
  for (const [folder, emotions] of counts.folders) {
    const total = emotions.reduce((sum, count) => sum + count, 0);
    const stack = element("span", { class: "stack", "aria-hidden": "true" });
    const texts = [];
    emotions.forEach((count, index) => {
      if (!count) return;
      const part = element("span", { class: "e" + index });
      part.style.width = 100 * count / total + "%";
      stack.append(part);
      texts.push(`${labels[index]} ${percent(count, total)}`);
    });
    const button = element("button", { type: "button", title: texts.join(", ") },
      element("span", { class: "line" }, element("span", {}, folder), element("span", { class: "number" }, number(total))), stack,
      element("span", { class: "hidden" }, texts.join(", ")));
    button.addEventListener("click", () => jump({ name: folder === "." || folder.startsWith("(") ? "" : folder + "/" }));
    by("folders").append(element("li", {}, button));
  }
  if (counts.moreFolders) by("more-folders").textContent = `and ${number(counts.moreFolders)} more folders, with fewer faces each`;
}

function showClips() {
  by("time-section").hidden = !counts.clips.length;
  for (const clip of counts.clips) {
    const [path, step, bins] = widened(...clip);
    const sums = bins.map((bin) => bin.reduce((sum, count) => sum + count, 0));
    const most = Math.max(...sums);
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const text = `Emotions over ${(step * bins.length).toFixed(0)} seconds of ${path}, up to ${most} faces in ${step} s`;
    for (const [name, value] of [["viewBox", `0 0 ${bins.length} 100`], ["preserveAspectRatio", "none"], ["role", "img"], ["aria-label", text]]) svg.setAttribute(name, value);
    bins.forEach((bin, x) => {
      let top = 100;
      bin.forEach((count, index) => {
        const height = 100 * count / most;
        const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
        top -= height;
        for (const [name, value] of [["x", x], ["y", top], ["width", 1.02], ["height", height], ["class", "e" + index]]) rect.setAttribute(name, value);
        if (count) svg.append(rect);
      });
    });
    const times = [0, 0.5, 1].map((part) => element("span", {}, clock(part * step * bins.length)));
    by("clips").append(element("p", { class: "note" }, text), svg, element("div", { class: "times", "aria-hidden": "true" }, ...times));
  }
}

/** Makes pairs of bins one until few are empty: a clip that was looked at every few seconds would be stripes. */
function widened(path, step, bins) {
  while (bins.length > 8 && bins.filter((bin) => bin.every((count) => !count)).length > bins.length / 10) {
    bins = bins.flatMap((bin, at) => (at % 2 ? [] : [bin.map((count, index) => count + (bins[at + 1]?.[index] ?? 0))]));
    step *= 2;
  }
  return [path, step, bins];
}

const clock = (seconds) => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;

function showLists() {
  by("failures-section").hidden = !counts.failed;
  for (const [path, reason] of counts.failures) by("failures").append(element("tr", {}, element("td", {}, path), element("td", {}, reason)));
  const failures = counts.failed - counts.failures.length;
  if (failures) by("more-failures").textContent = `and ${number(failures)} more, which the table holds`;
  by("faceless-section").hidden = !counts.withoutFace;
  by("faceless").append(...counts.faceless.map((path) => element("li", {}, path)));
  const faceless = counts.withoutFace - counts.faceless.length;
  by("faceless-summary").textContent = `${number(counts.withoutFace)} pictures` + (faceless ? `, the first ${number(counts.faceless.length)} by name` : "");
}

let found = []; // indices of the rows that pass the filters, in order
let drawn = 0;
let opened = -1; // a place in found

function apply() {
  const emotions = new Set([...document.querySelectorAll("#emotion-filter input:checked")].map((input) => Number(input.value)));
  const limit = (id, otherwise) => (by(id).value === "" ? otherwise : Number(by(id).value)) / 100;
  const [from, to, name, order] = [limit("from", 0), limit("to", 100), by("name").value.toLowerCase(), by("order").value];
  found = [...rows.keys()].filter((index) => {
    const row = rows[index];
    return (!emotions.size || emotions.has(row.emotion)) && row.confidence >= from && row.confidence <= to && row.path.toLowerCase().includes(name);
  });
  if (order !== "name") found.sort((a, b) => (order === "sure" ? -1 : 1) * (rows[a].confidence - rows[b].confidence) || a - b);
  by("faces").replaceChildren();
  drawn = 0;
  draw();
  by("shown").textContent = found.length === rows.length ? `All ${number(rows.length)} faces` : `${number(found.length)} of ${number(rows.length)} faces`;
}

function draw() {
  const until = Math.min(found.length, drawn + PAGE);
  for (; drawn < until; drawn++) by("faces").append(element("li", {}, tile(drawn)));
  by("more").hidden = drawn >= found.length;
  by("more").textContent = `Show more (${number(found.length - drawn)} left)`;
}

function tile(place) {
  const row = rows[found[place]];
  const picture = row.picture
    ? element("img", { src: "data:image/webp;base64," + row.picture, alt: "", loading: "lazy", decoding: "async" })
    : element("span", { class: "blank" }, "no picture");
  const when = "time" in row ? ` ${clock(row.time)}` : "";
  const made = element("button", { type: "button", title: row.path + when, "aria-label": `${labels[row.emotion]}, ${sure(row)}, ${row.path}${when}` }, picture,
    element("b", { class: "l" + row.emotion }, `${labels[row.emotion]} ${Math.round(100 * row.confidence)} %`), element("small", {}, baseName(row.path) + when));
  made.addEventListener("click", () => open(place));
  return made;
}

function open(place) {
  opened = place;
  while (drawn <= place) draw();
  const row = rows[found[place]];
  by("face-title").textContent = `${labels[row.emotion]}, ${sure(row)}`;
  by("face-path").textContent = row.path;
  by("face-picture").hidden = !row.picture;
  by("face-missing").hidden = Boolean(row.picture);
  if (row.picture) by("face-picture").src = "data:image/webp;base64," + row.picture;
  by("face-picture").alt = `the face in ${row.path}`;
  by("face-chances").replaceChildren(...labels.map((label, index) => element("tr", index === row.emotion ? { class: "top" } : {},
    element("th", { scope: "row" }, label), element("td", {}, bar(row.permille[index], 1000, index)), element("td", {}, (row.permille[index] / 10).toFixed(1) + " %"))));
  const facts = [`${number(place + 1)} of ${number(found.length)}`];
  if (row.box) facts.push(`face ${row.face + 1} at x ${row.box[0]}, y ${row.box[1]}, ${row.box[2]} × ${row.box[3]} pixels, detector ${row.score}`);
  if ("time" in row) facts.push(`at ${row.time} s` + (row.track === null ? "" : `, track ${row.track}`));
  by("face-facts").textContent = facts.join(" · ");
  by("face-link").parentElement.hidden = !row.link;
  if (row.link) by("face-link").href = row.link;
  by("previous").disabled = place === 0;
  by("next").disabled = place === found.length - 1;
  if (!by("face").open) by("face").showModal();
}

const step = (by_) => found[opened + by_] !== undefined && open(opened + by_);

/** Sets filters from a chart and goes to the faces. */
function jump({ emotion, name = "" }) {
  by("filters").reset();
  document.querySelectorAll("#emotion-filter input").forEach((input) => { input.checked = Number(input.value) === emotion; });
  by("name").value = name;
  apply();
  by("gallery").focus();
  by("gallery").scrollIntoView();
}

/** Moves the focus between faces with the arrow keys. */
function walk(event) {
  const tiles = [...by("faces").querySelectorAll("button")];
  const at = tiles.indexOf(document.activeElement);
  if (at < 0) return;
  const columns = tiles.filter((tile_) => tile_.offsetTop === tiles[0].offsetTop).length;
  const moves = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns, Home: -at, End: tiles.length - 1 - at };
  if (!(event.key in moves)) return;
  event.preventDefault();
  tiles[Math.max(0, Math.min(tiles.length - 1, at + moves[event.key]))].focus();
}

labels.forEach((label, index) => by("emotion-filter").append(element("label", { class: "chip" },
  element("input", { type: "checkbox", value: index }), element("i", { class: "e" + index }), label)));
if (rows.length < counts.faces) {
  by("left-out").textContent = `Of ${number(counts.faces)} faces, ${number(rows.length)} are here: the least sure ones, and others drawn by chance. The charts above count all.`;
}
const bare = rows.filter((row) => !row.picture).length;
if (bare) by("left-out").textContent += ` ${number(bare)} have no small picture here, to keep the page small or because the file could not be read again.`;
by("filters").addEventListener("input", apply);
by("filters").addEventListener("submit", (event) => event.preventDefault());
by("filters").addEventListener("reset", () => setTimeout(apply));
by("more").addEventListener("click", draw);
by("faces").addEventListener("keydown", walk);
by("previous").addEventListener("click", () => step(-1));
by("next").addEventListener("click", () => step(1));
by("close").addEventListener("click", () => by("face").close());
by("face").addEventListener("close", () => by("faces").querySelectorAll("button")[opened]?.focus());
by("face").addEventListener("keydown", (event) => {
  if (event.key === "ArrowLeft") step(-1);
  if (event.key === "ArrowRight") step(1);
});
showCounts();
showFolders();
showClips();
showLists();
apply();
