// Shows an answer: one slice at a time, through a window, with the overlay over it.

const element = (id) => document.getElementById(id);
const canvas = element("canvas");
let shown = { slices: [], patients: [], refused: [] };
let own = []; // the slices of the patient that is looked at
let model = { windows: [] };
let current = 0;
let channel = 0;
const drawn = new Map();

const percent = (value) => `${(100 * value).toFixed(1)} %`;

/** Says which model answers. */
export function showModel(facts) {
  model = facts;
  const version = facts.version ? ` ${facts.version}` : "";
  element("model").textContent = `${facts.name}${version} · ${facts.variant} · ${facts.model_hash.slice(0, 12)}`;
  const legend = element("windows").querySelector("legend");
  const names = facts.windows.length ? facts.windows.map(([center, width]) => nameWindow(center, width)) : ["Grey"];
  element("windows").replaceChildren(legend, ...names.map((name, at) => choice(name, at)));
}

function nameWindow(center, width) {
  const known = { "-600/1500": "Lung", "40/400": "Soft tissue", "300/1500": "Bone" }[`${center}/${width}`];
  return known ? `${known} (${center}/${width} HU)` : `${center}/${width} HU`;
}

function choice(name, at) {
  const label = document.createElement("label");
  const radio = Object.assign(document.createElement("input"), {
    type: "radio", name: "window", value: at, checked: at === channel,
  });
  radio.addEventListener("change", () => {
    channel = at;
    draw();
  });
  label.append(radio, ` ${name}`);
  return label;
}

/** Shows an answer; resolves when its first slice is drawn. */
export async function showAnswer(answer) {
  shown = answer;
  drawn.clear();
  if (answer.model) showModel(answer.model);
  const select = element("patient");
  select.replaceChildren(...answer.patients.map((each) => new Option(`${each.patient} of ${answer.patients.length}`, each.patient)));
  element("patients").hidden = answer.patients.length < 2;
  const list = element("refused");
  list.hidden = !answer.refused.length;
  list.querySelector("summary").textContent = `${answer.refused.length} not used`;
  list.querySelector("ul").replaceChildren(
    ...answer.refused.map((file) => item(`File ${file.file}: ${file.reason} ${file.remedy}`)),
  );
  element("result").hidden = false;
  await showPatient(answer.patients[0].patient);
}

async function showPatient(number) {
  const patient = shown.patients.find((each) => each.patient === Number(number));
  own = shown.slices.filter((each) => each.patient === patient.patient);
  // from the feet to the head, as radiologists scroll, where the places are known
  if (own.every((each) => each.position_mm !== null)) own.sort((one, other) => one.position_mm - other.position_mm);
  element("class").textContent = patient.class;
  element("confidence").textContent = percent(patient.confidence);
  element("patient-probabilities").replaceChildren(...bars(patient.probabilities));
  const general = shown.patients.length > 1 ? [] : (shown.warnings ?? []);
  const rules = new Set(patient.warnings.map((warned) => warned.rule));
  const all = [...patient.warnings, ...general.filter((warned) => !rules.has(warned.rule))];
  element("warnings").replaceChildren(...all.map((warned) => item(warned.message)));
  element("slice").max = own.length;
  await show(Math.floor(own.length / 2));
}

function bars(probabilities) {
  return Object.entries(probabilities).map(([name, value]) => {
    const bar = Object.assign(document.createElement("div"), { className: "bar" });
    const label = Object.assign(document.createElement("span"), { textContent: name });
    const meter = Object.assign(document.createElement("meter"), { min: 0, max: 1, value });
    meter.setAttribute("aria-label", `${name}: ${percent(value)}`);
    const text = Object.assign(document.createElement("span"), { textContent: percent(value) });
    bar.append(label, meter, text);
    return bar;
  });
}

function item(text) {
  return Object.assign(document.createElement("li"), { textContent: text });
}

async function show(at) {
  if (!own.length) return;
  current = Math.max(0, Math.min(own.length - 1, at));
  const slice = own[current];
  element("slice").value = current + 1;
  element("slice-number").textContent = `${current + 1} of ${own.length}`;
  element("slice-probabilities").replaceChildren(...bars(slice.probabilities));
  element("slice-warnings").replaceChildren(...slice.warnings.map((warned) => item(warned.message)));
  canvas.setAttribute(
    "aria-label",
    `Slice ${current + 1} of ${own.length}: ${slice.class}, ${percent(slice.confidence)}`,
  );
  await draw();
}

async function pixelsOf(slice) {
  if (!drawn.has(slice)) {
    drawn.set(slice, {
      picture: slice.picture ? await createImageBitmap(await toBlob(slice.picture)) : null,
      overlay: slice.overlay ? await createImageBitmap(await toBlob(slice.overlay)) : null,
    });
  }
  return drawn.get(slice);
}

/** Returns what a data URL holds, or pixels: {width, height, data} as RGBA. */
async function toBlob(source) {
  if (typeof source !== "string") return new ImageData(source.data, source.width, source.height);
  const bytes = Uint8Array.from(atob(source.slice(source.indexOf(",") + 1)), (letter) => letter.charCodeAt(0));
  return new Blob([bytes], { type: "image/png" });
}

async function draw() {
  const slice = own[current];
  if (!slice) return;
  const { picture, overlay } = await pixelsOf(slice);
  if (slice !== own[current]) return; // the user went on meanwhile
  const context = canvas.getContext("2d");
  if (!picture) {
    context.clearRect(0, 0, canvas.width, canvas.height);
    canvas.dataset.drawn = "nothing";
    return;
  }
  canvas.width = picture.width;
  canvas.height = picture.height;
  context.drawImage(picture, 0, 0);
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
  for (let at = 0; at < pixels.data.length; at += 4) {
    const grey = pixels.data[at + channel];
    pixels.data[at] = pixels.data[at + 1] = pixels.data[at + 2] = grey;
  }
  context.putImageData(pixels, 0, 0);
  if (overlay && element("overlay").checked) {
    context.globalAlpha = element("opacity").value / 100;
    context.drawImage(overlay, 0, 0);
    context.globalAlpha = 1;
  }
  canvas.dataset.drawn = `${current + 1}/${channel}/${element("overlay").checked ? element("opacity").value : "off"}`;
}

const STEPS = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1, PageUp: 10, PageDown: -10 };
canvas.addEventListener("keydown", (event) => {
  const ends = { Home: 0, End: own.length - 1 };
  if (!(event.key in STEPS) && !(event.key in ends)) return;
  event.preventDefault();
  show(event.key in ends ? ends[event.key] : current + STEPS[event.key]);
});
canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  show(current + Math.sign(event.deltaY));
}, { passive: false });
element("slice").addEventListener("input", (event) => show(Number(event.target.value) - 1));
element("overlay").addEventListener("change", draw);
element("opacity").addEventListener("input", draw);
element("patient").addEventListener("change", (event) => showPatient(event.target.value));
