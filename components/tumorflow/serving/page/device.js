// This device answers: the model comes from the server once, and nothing of a study leaves the page.
import { readSlices, Refusal } from "./dicom.js";
import { explain, pool } from "./explanation.js";
import { readEntries, readModelFile } from "./model_file.js";
import { refuse } from "./server.js";
import { dequantise, quantise, toTensor } from "./tensor.js";
import { loadAndCompile, loadLiteRt, Tensor } from "./vendor/litert.js";

const BROKEN = { rule: "broken_archive", reason: "The zip archive is cut off or malformed.", remedy: "Pack it again." };
const FEWEST_SLICES = 3;
const SMALL_LEAD = 0.1;
const TISSUE_HU = -400;
const TISSUE_FRACTION = 0.02;
const KNOWN_TYPES = ["float32", "uint8"]; // of LiteRT.js
let loaded = null;

/** Returns what the model says of itself, after loading it. */
export async function readModel(headers) {
  const response = await fetch("model", { headers });
  if (!response.ok) await refuse(response);
  const bytes = new Uint8Array(await response.arrayBuffer());
  const { about, arrays } = await readModelFile(bytes);
  if (about.preprocessing.intensity_unit !== "HU" || about.preprocessing.method !== "windows") {
    throw new Error("This model's preprocessing is not there for devices. Ask the server.");
  }
  if (Object.values(about.tensors ?? {}).some((held) => !KNOWN_TYPES.includes(held.type))) {
    throw new Error("Browsers run models that take and give float32 or uint8, and this one has int8. Ask the server.");
  }
  await loadLiteRt(new URL("vendor/litert_wasm_compat_internal.js", import.meta.url).href);
  const network = await loadAndCompile(bytes, { accelerator: "wasm" });
  const facts = {
    name: about.registered_model,
    version: response.headers.get("x-model-version") ?? "",
    variant: about.variant,
    model_hash: about.model_hash,
    windows: about.preprocessing.windows.map((each) => [each.window_center_hu, each.window_width_hu]),
  };
  loaded = { about, arrays, network, facts };
  return facts;
}

/** Returns the answer on a study's files, in the service's form. */
export async function ask(files, headers, tell) {
  if (!loaded) await readModel(headers);
  const answer = { slices: [], patients: [], refused: [], warnings: [], model: loaded.facts };
  const patients = new Map();
  let number = 0;
  for (const [position, file] of files.entries()) {
    tell(`File ${position + 1} of ${files.length} …`);
    await new Promise((resolve) => setTimeout(resolve)); // the page stays alive
    for await (const bytes of contentsOf(file, answer, () => (number += 1))) {
      try {
        for (const slice of readSlices(bytes)) {
          if (!patients.has(slice.patient)) patients.set(slice.patient, patients.size + 1);
          const opinion = await answerSlice(slice);
          answer.slices.push({ ...opinion, file: number, frame: 1, patient: patients.get(slice.patient) });
        }
      } catch (error) {
        if (!(error instanceof Refusal)) throw error;
        answer.refused.push({ file: number, rule: error.rule, reason: error.reason, remedy: error.remedy });
      }
    }
  }
  if (!answer.slices.length) {
    const reasons = answer.refused.slice(0, 5).map((each) => `File ${each.file}: ${each.reason}`);
    throw new Error(["No file can be used.", ...reasons].join(" "));
  }
  answer.patients = [...patients.values()].map((each) => poolPatient(each, answer.slices)).filter(Boolean);
  answer.warnings = [...answer.patients[0].warnings];
  if (answer.patients.length > 1) {
    answer.warnings.push({ rule: "several_patients", message: `The files are of ${answer.patients.length} patients.` });
  }
  if (answer.refused.length) {
    answer.warnings.push({ rule: "refused", message: `Files that were not used: ${answer.refused.length}.` });
  }
  return answer;
}

async function* contentsOf(file, answer, count) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  if (!(bytes[0] === 0x50 && bytes[1] === 0x4b)) {
    count();
    yield bytes;
    return;
  }
  let entries;
  try {
    entries = readEntries(bytes).sort((one, other) => (one.name < other.name ? -1 : 1));
  } catch {
    answer.refused.push({ file: count(), ...BROKEN });
    return;
  }
  for (const entry of entries) {
    if (/\/$|(^|\/)(\.|__MACOSX|dicomdir)|\.(txt|csv|xml|json|pdf|html?)$/i.test(entry.name)) continue;
    const number = count();
    let content;
    try {
      content = await entry.read();
    } catch {
      answer.refused.push({ file: number, ...BROKEN });
      continue;
    }
    yield content;
  }
}

/** Returns the model's opinion on one slice. */
async function answerSlice(slice) {
  const { about, arrays, network } = loaded;
  const size = about.preprocessing.image_size_px;
  const tensor = toTensor(slice, about.preprocessing);
  const held = about.tensors ?? {};
  const given = new Tensor(quantise(tensor, held.pixels), [1, size, size, 3]);
  const results = await network.run([given]);
  const outputs = await Promise.all(results.map(async (result) => {
    const shape = result.type.layout.dimensions;
    const stored = await result.data();
    return { shape, numbers: dequantise(stored, shape.length === 2 ? held.probabilities : held.feature_map) };
  }));
  for (const each of [given, ...results]) each.delete();
  const probabilities = outputs.find((each) => each.shape.length === 2).numbers.map((each) => Math.min(each, 1)); // 8 bits may give a hair more
  const map = outputs.find((each) => each.shape.length === 4);
  const warnings = [];
  let overlay = null;
  let distance = null;
  if (map) {
    const [, rows, columns, channels] = map.shape;
    const best = probabilities.indexOf(Math.max(...probabilities));
    overlay = explain(map.numbers, [rows, columns, channels], arrays, best, size);
    distance = measureDistance(pool(map.numbers, rows * columns, channels), arrays);
    if (distance !== null && distance > about.feature_distance_limit) {
      warnings.push({
        rule: "out_of_distribution",
        message: "The slice is unlike those that the model learned from: another part of the body, another kind of scan, or no CT of a body at all.",
      });
    }
  }
  if (slice.pixels.reduce((sum, unit) => sum + (unit > TISSUE_HU), 0) < TISSUE_FRACTION * slice.pixels.length) {
    warnings.push({ rule: "no_body", message: "There is hardly any tissue in the slice." });
  }
  const known = about.slice_thickness_mm;
  if (known && slice.thickness_mm && (slice.thickness_mm < known[0] / 1.5 || slice.thickness_mm > known[1] * 1.5)) {
    warnings.push({
      rule: "thickness",
      message: `The slice is ${slice.thickness_mm} mm thick; the model learned from ${known[0]} to ${known[1]} mm.`,
    });
  }
  return {
    ...opine(about.classes, probabilities),
    position_mm: slice.position_mm,
    feature_distance: distance,
    warnings,
    picture: asPicture(tensor, size),
    overlay,
  };
}

function measureDistance(features, arrays) {
  const mean = arrays.feature_mean?.numbers;
  const deviation = arrays.feature_deviation?.numbers;
  if (!mean || !deviation) return null;
  const squares = features.reduce((sum, value, at) => sum + ((value - mean[at]) / deviation[at]) ** 2, 0);
  return Math.sqrt(squares / features.length);
}

function opine(classes, probabilities) {
  const best = probabilities.indexOf(Math.max(...probabilities));
  return {
    class: classes[best],
    confidence: probabilities[best],
    probabilities: Object.fromEntries(classes.map((name, at) => [name, probabilities[at]])),
  };
}

function poolPatient(patient, slices) {
  const own = slices.filter((each) => each.patient === patient);
  if (!own.length) return null;
  const { classes } = loaded.about;
  const mean = classes.map((name) => own.reduce((sum, each) => sum + each.probabilities[name], 0) / own.length);
  const warnings = [];
  if (own.length < FEWEST_SLICES) {
    warnings.push({ rule: "thin_evidence", message: `It rests on ${own.length} slice(s); give the whole series.` });
  }
  const [first, second] = [...mean].sort((one, other) => other - one);
  if (first - second < SMALL_LEAD) warnings.push({ rule: "undecided", message: "Two classes are almost equally probable." });
  const unlike = own.filter((each) => each.warnings.some((warned) => warned.rule === "out_of_distribution")).length;
  if (2 * unlike > own.length) {
    warnings.push({
      rule: "out_of_distribution",
      message: `${unlike} of ${own.length} slices are unlike those that the model learned from: do not rely on this answer.`,
    });
  }
  return { ...opine(classes, mean), patient, slices: own.length, warnings };
}

function asPicture(tensor, size) {
  const data = new Uint8ClampedArray(size * size * 4);
  for (let at = 0; at < size * size; at += 1) {
    data.set(tensor.subarray(3 * at, 3 * at + 3), 4 * at);
    data[4 * at + 3] = 255;
  }
  return { width: size, height: size, data };
}
