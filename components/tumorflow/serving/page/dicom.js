// DICOM files to CT slices in Hounsfield units, with the server's rules (see ingestion/dicom.py).
import { roundHalfToEven } from "./tensor.js";
import dicomParser from "./vendor/dicom_parser.js";

const NATIVE = new Set(["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"]);
const CT_CLASSES = new Set([
  "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2",
]);
const SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7";
const LARGEST_SIDE = 4096;

/** A file that cannot be used: `rule`, `reason` and `remedy` as the server says them. */
export class Refusal extends Error {
  constructor(rule, reason, remedy) {
    super(`${reason} ${remedy}`);
    Object.assign(this, { rule, reason, remedy });
  }
}

/** Returns the slices of a DICOM file (a Uint8Array): pixels in HU, rows, columns, patient, place and thickness. */
export function readSlices(bytes) {
  let data;
  try {
    data = dicomParser.parseDicom(bytes);
  } catch {
    throw new Refusal("not_dicom", "The file is no DICOM file, or a broken one.", "Remove it, or export it again.");
  }
  checkIsCT(data);
  const rows = data.uint16("x00280010") ?? 0;
  const columns = data.uint16("x00280011") ?? 0;
  const frames = data.intString("x00280008") ?? 1;
  if (!rows || !columns || frames < 1) throw new Refusal("not_an_image", "Rows or columns are missing.", "Remove the file.");
  if (rows > LARGEST_SIDE || columns > LARGEST_SIDE) {
    throw new Refusal("too_large", "The image has more pixels than are decoded.", "Ask the server.");
  }
  if (frames > 1) throw new Refusal("not_on_device", "A file of several frames is not read here.", "Ask the server.");
  if (!NATIVE.has(data.string("x00020010") ?? "")) {
    throw new Refusal("not_on_device", "Compressed pixels are not read here.", "Ask the server, or export them uncompressed.");
  }
  for (const [tag, level] of [["x0020000d", "study"], ["x0020000e", "series"], ["x00080018", "SOP"]]) {
    if (!text(data, tag)) throw new Refusal("missing_uid", `The ${level} Instance UID is missing.`, "Export it again.");
  }
  const pixels = toHounsfield(data, bytes, rows, columns);
  return [{
    rows,
    columns,
    pixels,
    patient: text(data, "x00100020") ? `${text(data, "x00100021")}\0${text(data, "x00100020")}` : text(data, "x0020000d"),
    position_mm: placeAxially(data),
    thickness_mm: data.floatString("x00180050") ?? null,
  }];
}

function text(data, tag) {
  return (data.string(tag) ?? "").trim();
}

function numbers(data, tag, count, limit) {
  const values = text(data, tag).split("\\").map((value) => (value.trim() ? Number(value) : NaN));
  return values.length === count && values.every((value) => Math.abs(value) <= limit) ? values : null;
}

function checkIsCT(data) {
  const kinds = text(data, "x00080008").toUpperCase().split("\\").map((kind) => kind.trim());
  if (text(data, "x00080060").toUpperCase() !== "CT") {
    throw new Refusal("not_ct", "The modality (0008,0060) is missing or not CT.", "Keep CT series only.");
  }
  if (!data.elements.x00280010) throw new Refusal("not_an_image", "The object holds no pixels.", "Remove the file.");
  if (text(data, "x00280301").toUpperCase() === "YES") {
    throw new Refusal("burned_in", "The pixels may name the patient.", "Send the series without annotation.");
  }
  if (text(data, "x00280302").toUpperCase() === "YES") {
    throw new Refusal("recognizable_features", "A face may be reconstructed.", "Deface the series first.");
  }
  const isView = kinds.slice(0, 2).includes("SECONDARY") && !kinds.includes("AXIAL");
  const isScreen = kinds.some((kind) => /SCREEN|CAPTURE|DOSE|REPORT|PROTOCOL/.test(kind));
  const sopClass = text(data, "x00080016") || text(data, "x00020002");
  const isCapture = sopClass === SECONDARY_CAPTURE || sopClass.startsWith(`${SECONDARY_CAPTURE}.`);
  if (isCapture || isView || isScreen || text(data, "x00080064")) {
    throw new Refusal("secondary_capture", "The image is a capture or derived view.", "Send the axial series.");
  }
  if (!CT_CLASSES.has(sopClass)) {
    throw new Refusal("not_ct", "The SOP class is missing or not a CT image.", "Keep CT series only.");
  }
  if (kinds.some((kind) => /LOCALIZER|SCOUT/.test(kind))) {
    throw new Refusal("localizer", "The image is a localizer.", "Nothing to do: it is left out on purpose.");
  }
  if (kinds.includes("PERFUSION")) {
    throw new Refusal("not_hounsfield", "The image is a perfusion map.", "Use the reconstruction itself.");
  }
  if ((data.uint16("x00280002") ?? 1) !== 1 || !/^MONOCHROME[12]$/.test(text(data, "x00280004"))) {
    throw new Refusal("not_grey", "The image is in colour: it holds no Hounsfield units.", "Send the original series.");
  }
  if (!data.elements.x7fe00010) throw new Refusal("not_an_image", "The object holds no pixels.", "Remove the file.");
}

/** Returns where a slice lies along the body in mm, null where that is not told; refuses another plane than an axial one. */
function placeAxially(data) {
  const axes = numbers(data, "x00200037", 6, 1.001);
  const position = numbers(data, "x00200032", 3, 1e5);
  const normal = axes && [
    axes[1] * axes[5] - axes[2] * axes[4],
    axes[2] * axes[3] - axes[0] * axes[5],
    axes[0] * axes[4] - axes[1] * axes[3],
  ];
  const isSane = normal && Math.abs(Math.hypot(...normal) - 1) < 0.01;
  if (isSane && Math.abs(normal[2]) < 0.7) { // gantries tilt by 30 degrees at most
    throw new Refusal("not_axial", "The plane is not axial.", "Send the axial series.");
  }
  const along = isSane && position
    ? normal.reduce((sum, part, at) => sum + part * position[at], 0)
    : numbers(data, "x00201041", 1, 1e5)?.[0];
  return along === undefined || along === null ? null : Math.round(along * 1e4) / 1e4;
}

function toHounsfield(data, bytes, rows, columns) {
  const count = rows * columns;
  const allocated = data.uint16("x00280100");
  const stored = data.uint16("x00280101");
  const signed = data.uint16("x00280103") === 1;
  const element = data.elements.x7fe00010;
  const size = allocated / 8;
  const highBit = data.uint16("x00280102") ?? stored - 1;
  if (![8, 16].includes(allocated) || !(stored >= 1 && stored <= allocated) || highBit !== stored - 1) {
    throw new Refusal("unsupported_pixels", "The pixels have another number of bits than CT.", "Export it again.");
  }
  if (element.length < count * size || element.dataOffset + count * size > bytes.length) {
    throw new Refusal("truncated_pixels", "Pixel Data is shorter than Rows and Columns ask for.", "Export it again.");
  }
  if (element.length - count * size >= Math.max(columns * size, 2)) {
    throw new Refusal("conflicting_size", "Pixel Data is longer than Rows and Columns ask for.", "Export it again.");
  }
  const slope = numbers(data, "x00281053", 1, 1e4)?.[0];
  const intercept = numbers(data, "x00281052", 1, 1e5)?.[0];
  if (!(slope > 0) || intercept === undefined) {
    throw new Refusal("missing_rescale", "Rescale Slope or Intercept is missing or impossible.", "Send the original series.");
  }
  if (!["", "HU", "HU_MOD", "US"].includes(text(data, "x00281054").toUpperCase())) {
    throw new Refusal("not_hounsfield", "Rescale Type (0028,1054) is not HU.", "Send the original reconstruction.");
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset + element.dataOffset, count * size);
  const little = data.string("x00020010") !== "1.2.840.10008.1.2.2";
  const first = padding(data, "x00280120", signed);
  const last = padding(data, "x00280121", signed) ?? first;
  const unused = 32 - stored;
  const pixels = new Int16Array(count);
  for (let at = 0; at < count; at += 1) {
    const raw = size === 2 ? view.getUint16(2 * at, little) : view.getUint8(at);
    const value = signed ? (raw << unused) >> unused : (raw << unused) >>> unused;
    const unit = value * slope + intercept;
    const whole = Number.isInteger(unit) ? unit : roundHalfToEven(unit);
    const isPadding = first !== null && value >= Math.min(first, last) && value <= Math.max(first, last);
    pixels[at] = isPadding ? -1024 : Math.max(-32768, Math.min(32767, whole));
  }
  return pixels;
}

function padding(data, tag, signed) {
  const raw = data.elements[tag] ? data.uint16(tag) : undefined;
  if (raw === undefined) return null;
  return signed && raw >= 2 ** 15 ? raw - 2 ** 16 : raw;
}
