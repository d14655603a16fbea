// DICOM files to CT slices in Hounsfield units, with the server's rules (see ingestion/dicom.py).
import { roundHalfToEven } from "./tensor.js";
import dicomParser from "./vendor/dicom_parser.js";

const NATIVE = new Set(["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"]);
const CT_CLASSES = new Set([
  "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2",
]);
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
  checkIsAxialCT(data);
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
  return [{
    rows,
    columns,
    pixels: toHounsfield(data, bytes, rows * columns),
    patient: data.string("x00100020") || data.string("x0020000e") || "",
    position_mm: place(data),
    thickness_mm: data.floatString("x00180050") ?? null,
  }];
}

function checkIsAxialCT(data) {
  const kind = (data.string("x00080008") ?? "").toUpperCase();
  if ((data.string("x00080060") ?? "").toUpperCase() !== "CT" || !CT_CLASSES.has(data.string("x00080016") ?? "")) {
    throw new Refusal("not_ct", "The modality (0008,0060) or SOP class is not CT.", "Keep CT series only.");
  }
  if (!data.elements.x7fe00010) throw new Refusal("not_an_image", "The object holds no pixels.", "Remove the file.");
  if (/LOCALIZER|SCOUT/.test(kind)) {
    throw new Refusal("localizer", "The image is a localizer.", "Nothing to do: it is left out on purpose.");
  }
  if (/SCREEN|CAPTURE|DOSE|REPORT|PROTOCOL/.test(kind) || (/SECONDARY/.test(kind) && !/AXIAL/.test(kind))) {
    throw new Refusal("secondary_capture", "The image is a capture or derived view.", "Send the axial series.");
  }
  if ((data.string("x00280301") ?? "").toUpperCase() === "YES") {
    throw new Refusal("burned_in", "The pixels may name the patient.", "Send the series without annotation.");
  }
  if ((data.uint16("x00280002") ?? 1) !== 1 || !/^MONOCHROME[12]$/.test(data.string("x00280004") ?? "")) {
    throw new Refusal("not_grey", "The image is in colour: it holds no Hounsfield units.", "Send the original series.");
  }
  const axes = (data.string("x00200037") ?? "").split("\\").map(Number);
  if (axes.length === 6 && axes.every(Number.isFinite)) {
    const normal = axes[0] * axes[4] - axes[1] * axes[3];
    if (Math.abs(normal) < 0.9) throw new Refusal("not_axial", "The plane is not axial.", "Send the axial series.");
  }
}

function place(data) {
  const position = (data.string("x00200032") ?? "").split("\\").map(Number);
  return position.length === 3 && Number.isFinite(position[2]) ? position[2] : null;
}

function toHounsfield(data, bytes, count) {
  const slope = data.floatString("x00281053");
  const intercept = data.floatString("x00281052");
  if (!(slope > 0) || !Number.isFinite(intercept)) {
    throw new Refusal("missing_rescale", "Rescale Slope or Intercept is missing.", "Send the original series.");
  }
  const type = (data.string("x00281054") ?? "").toUpperCase();
  if (!["", "HU", "HU_MOD", "US"].includes(type)) {
    throw new Refusal("not_hounsfield", "Rescale Type (0028,1054) is not HU.", "Send the original reconstruction.");
  }
  const allocated = data.uint16("x00280100");
  const stored = data.uint16("x00280101");
  const signed = data.uint16("x00280103") === 1;
  const element = data.elements.x7fe00010;
  const size = allocated / 8;
  if (![8, 16].includes(allocated) || !(stored >= 1 && stored <= allocated)) {
    throw new Refusal("unsupported_pixels", "The pixels have another number of bits than CT.", "Export it again.");
  }
  if (element.length < count * size || element.dataOffset + count * size > bytes.length) {
    throw new Refusal("truncated_pixels", "Pixel Data is shorter than Rows and Columns ask for.", "Export it again.");
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
