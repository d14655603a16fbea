// Reads zip archives: a model's own description behind its TFLite, and a study's files.

const END = 0x06054b50;
const ENTRY = 0x02014b50;
const LOCAL = 0x04034b50;
const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, value) => {
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});
const LARGEST_ENTRY = 2 ** 28;

/** Returns the entries of a zip archive (a Uint8Array), each with its name and a function that gives its bytes. */
export function readEntries(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let end = bytes.length - 22;
  while (end >= 0 && view.getUint32(end, true) !== END) end -= 1;
  if (end < 0) throw new Error("The zip archive is cut off or malformed. Pack it again.");
  const count = view.getUint16(end + 10, true);
  const size = view.getUint32(end + 12, true);
  const start = end - size; // what stands before the archive moves every place in it
  const shift = start - view.getUint32(end + 16, true);
  const entries = [];
  let at = start;
  for (let number = 0; number < count && view.getUint32(at, true) === ENTRY; number += 1) {
    const names = view.getUint16(at + 28, true);
    const extra = view.getUint16(at + 30, true) + view.getUint16(at + 32, true);
    const entry = {
      name: new TextDecoder().decode(bytes.subarray(at + 46, at + 46 + names)),
      method: view.getUint16(at + 10, true),
      checksum: view.getUint32(at + 16, true),
      packed: view.getUint32(at + 20, true),
      size: view.getUint32(at + 24, true),
      place: view.getUint32(at + 42, true) + shift,
    };
    entries.push({ name: entry.name, read: () => readEntry(bytes, view, entry) });
    at += 46 + names + extra;
  }
  return entries;
}

async function readEntry(bytes, view, entry) {
  const content = await unpackEntry(bytes, view, entry);
  let sum = -1;
  for (const byte of content) sum = (sum >>> 8) ^ CRC_TABLE[(sum ^ byte) & 0xff];
  if ((~sum >>> 0) !== entry.checksum) throw new Error("The archive's content is not what it was.");
  return content;
}

async function unpackEntry(bytes, view, entry) {
  if (view.getUint32(entry.place, true) !== LOCAL) throw new Error("The zip archive is malformed.");
  if (entry.size > LARGEST_ENTRY) throw new Error("The archive holds a file that is too large.");
  const names = view.getUint16(entry.place + 26, true);
  const start = entry.place + 30 + names + view.getUint16(entry.place + 28, true);
  const packed = bytes.subarray(start, start + entry.packed);
  if (entry.method === 0) return packed;
  if (entry.method !== 8) throw new Error("The archive is packed in a way that browsers do not know.");
  const parts = [];
  let size = 0;
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  const reader = stream.getReader();
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    size += part.value.length;
    if (size > LARGEST_ENTRY) throw new Error("The archive holds a file that is too large.");
    parts.push(part.value);
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

/** Returns what a model's file (a Uint8Array) says of itself: `about`, and `arrays` by name. */
export async function readModelFile(bytes) {
  const arrays = {};
  let about = null;
  for (const entry of readEntries(bytes)) {
    const content = await entry.read();
    if (entry.name === "tumorflow.json") about = JSON.parse(new TextDecoder().decode(content));
    else if (entry.name.endsWith(".npy")) arrays[entry.name.slice(0, -4)] = readArray(content);
  }
  if (!about) throw new Error("The model's file says nothing of itself. Export it again.");
  return { about, arrays };
}

/** Returns the numbers and the shape of a .npy file of little-endian float32. */
function readArray(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const length = view.getUint16(8, true);
  const header = new TextDecoder("latin1").decode(bytes.subarray(10, 10 + length));
  const shape = header.match(/\(([\d, ]*)\)/)[1].split(",").map((each) => each.trim()).filter(Boolean).map(Number);
  if (!header.includes("'<f4'") || header.includes("'fortran_order': True")) {
    throw new Error("The model's file holds an array of another type. Export it again.");
  }
  const numbers = new Float32Array(bytes.slice(10 + length).buffer);
  return { numbers, shape };
}
