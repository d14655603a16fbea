// Hounsfield units to what the model takes, to the same grey value as the server: see tensors.py.

const AIR_HU = -1000;

/** Rounds as IEEE 754 does by default: halves to the even number. */
export function roundHalfToEven(value) {
  const floor = Math.floor(value);
  const rest = value - floor;
  if (rest !== 0.5) return Math.round(value);
  return floor % 2 === 0 ? floor : floor + 1;
}

/** Returns a slice of half the size: each pixel the mean of what it covers. */
function halve({ pixels, rows, columns }) {
  const height = Math.floor(rows / 2);
  const width = Math.floor(columns / 2);
  const smaller = new Int16Array(height * width);
  if (rows % 2 || columns % 2) return { pixels: average(pixels, rows, columns, smaller, height, width), rows: height, columns: width };
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const at = 2 * y * columns + 2 * x;
      smaller[y * width + x] =
        (pixels[at] + pixels[at + 1] + pixels[at + columns] + pixels[at + columns + 1] + 2) >> 2; // halves up
    }
  }
  return { pixels: smaller, rows: height, columns: width };
}

/** Fills `smaller` with area means where the sizes are no multiples: the pixels at a border count in part. */
function average(pixels, rows, columns, smaller, height, width) {
  const down = shares(rows, height);
  const across = shares(columns, width);
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      let sum = 0;
      for (const [row, high] of down[y]) {
        for (const [column, wide] of across[x]) sum += high * wide * pixels[row * columns + column];
      }
      smaller[y * width + x] = roundHalfToEven(Math.fround(sum));
    }
  }
  return smaller;
}

function shares(from, to) {
  const scale = from / to;
  return Array.from({ length: to }, (_, at) => {
    const [start, end] = [at * scale, (at + 1) * scale];
    const covered = [];
    for (let place = Math.floor(start); place < Math.min(from, Math.ceil(end)); place += 1) {
      const part = Math.min(end, place + 1) - Math.max(start, place);
      if (part > 1e-3) covered.push([place, part / scale]);
    }
    return covered;
  });
}

function weights(from, to) {
  const places = new Int32Array(to);
  const parts = new Float32Array(to);
  for (let at = 0; at < to; at += 1) {
    const place = (at + 0.5) * (from / to) - 0.5;
    const first = Math.floor(place);
    const inside = first >= 0 && first < from - 1;
    places[at] = Math.max(0, Math.min(from - 1, first));
    parts[at] = inside ? place - first : 0;
  }
  return { places, parts };
}

/** Mixes as OpenCV's fused multiply-add does: the product is not rounded by itself. */
function mix(one, other, part) {
  return Math.fround(one + Math.fround(other - one) * part);
}

function resize(image, height, width) {
  const { pixels, rows, columns } = image;
  if (rows === height && columns === width) return image;
  const across = weights(columns, width);
  const down = weights(rows, height);
  const lines = new Float32Array(rows * width);
  for (let y = 0; y < rows; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const at = y * columns + across.places[x];
      lines[y * width + x] = across.parts[x] ? mix(pixels[at], pixels[at + 1], across.parts[x]) : pixels[at];
    }
  }
  const resized = new Int16Array(height * width);
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const at = down.places[y] * width + x;
      const value = down.parts[y] ? mix(lines[at], lines[at + width], down.parts[y]) : lines[at];
      resized[y * width + x] = roundHalfToEven(value);
    }
  }
  return { pixels: resized, rows: height, columns: width };
}

/** Returns a slice {pixels: Int16Array, rows, columns} fitted to a square, air around it. */
export function fitSquare(image, size) {
  const scale = size / Math.max(image.rows, image.columns);
  const height = Math.max(1, roundHalfToEven(image.rows * scale));
  const width = Math.max(1, roundHalfToEven(image.columns * scale));
  let resized = image;
  while (Math.min(Math.floor(resized.rows / height), Math.floor(resized.columns / width)) >= 2) resized = halve(resized);
  resized = resize(resized, height, width);
  const square = new Int16Array(size * size).fill(AIR_HU);
  const top = Math.floor((size - height) / 2);
  const left = Math.floor((size - width) / 2);
  for (let y = 0; y < height; y += 1) {
    square.set(resized.pixels.subarray(y * width, (y + 1) * width), (top + y) * size + left);
  }
  return square;
}

/** Returns a slice as the model takes it: Uint8Array (size, size, 3), a window a channel. */
export function toTensor(image, { image_size_px: size, windows }) {
  const square = fitSquare(image, size);
  const tables = windows.map(({ window_center_hu: center, window_width_hu: width }) => {
    const table = new Uint8Array(2 ** 16);
    for (let unit = -32768; unit < 32768; unit += 1) {
      const share = Math.min(1, Math.max(0, (unit - center) / width + 0.5));
      table[unit & 0xffff] = roundHalfToEven(share * 255);
    }
    return table;
  });
  const tensor = new Uint8Array(size * size * 3);
  for (let at = 0; at < square.length; at += 1) {
    for (let channel = 0; channel < 3; channel += 1) {
      tensor[3 * at + channel] = tables[channel % tables.length][square[at] & 0xffff];
    }
  }
  return tensor;
}

/** Returns a tensor's values as the model takes them: value = scale × (stored − zero point) where they have 8 bits. */
export function quantise(tensor, held) {
  if (!held || held.type === "float32") return Float32Array.from(tensor);
  return Uint8Array.from(tensor, (value) =>
    Math.min(255, Math.max(0, roundHalfToEven(value / held.scale + held.zero_point))));
}

/** Returns the real numbers that an output holds. */
export function dequantise(stored, held) {
  if (!held || held.type === "float32") return stored;
  return Float32Array.from(stored, (value) => held.scale * (value - held.zero_point));
}
