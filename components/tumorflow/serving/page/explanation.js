// Grad-CAM without a framework: see explanation.py, whose arithmetic this is.

const STOPS = [[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]];

/** Returns the heat map of class `best` as pixels {width, height, data}, as opaque as it is hot; null without a head. */
export function explain(map, [rows, columns, channels], arrays, best, size) {
  const layers = [];
  while (`head_${layers.length}_kernel` in arrays) {
    layers.push({ kernel: arrays[`head_${layers.length}_kernel`], bias: arrays[`head_${layers.length}_bias`] });
  }
  if (!layers.length) return null;
  let values = pool(map, rows * columns, channels);
  const before = [];
  for (const { kernel, bias } of layers) {
    const scores = multiply(values, kernel, bias.numbers);
    before.push(scores);
    values = scores.map((score) => Math.max(0, score));
  }
  before.pop();
  const last = layers.pop().kernel;
  let gradient = Float32Array.from({ length: last.shape[0] }, (_, at) => last.numbers[at * last.shape[1] + best]);
  while (layers.length) {
    const { kernel } = layers.pop();
    const open = before.pop();
    const [inputs, units] = kernel.shape;
    const next = new Float32Array(inputs);
    for (let at = 0; at < inputs; at += 1) {
      for (let unit = 0; unit < units; unit += 1) {
        if (open[unit] > 0) next[at] += kernel.numbers[at * units + unit] * gradient[unit];
      }
    }
    gradient = next;
  }
  const heat = new Float32Array(rows * columns);
  for (let place = 0; place < heat.length; place += 1) {
    let sum = 0;
    for (let channel = 0; channel < channels; channel += 1) sum += map[place * channels + channel] * gradient[channel];
    heat[place] = Math.max(0, sum);
  }
  return colour(heat, rows, columns, size);
}

/** Returns the mean over all places of a feature map (places, channels). */
export function pool(map, places, channels) {
  const sums = new Float64Array(channels);
  for (let place = 0; place < places; place += 1) {
    for (let channel = 0; channel < channels; channel += 1) sums[channel] += map[place * channels + channel];
  }
  return Float32Array.from(sums, (sum) => sum / places);
}

function multiply(values, kernel, bias) {
  const units = kernel.shape[1];
  const scores = Float32Array.from(bias);
  for (let at = 0; at < values.length; at += 1) {
    for (let unit = 0; unit < units; unit += 1) scores[unit] += values[at] * kernel.numbers[at * units + unit];
  }
  return scores;
}

function colour(heat, rows, columns, size) {
  const peak = Math.max(...heat);
  const data = new Uint8ClampedArray(size * size * 4);
  for (let y = 0; y < size && peak > 0; y += 1) {
    const down = Math.min(rows - 1, Math.max(0, ((y + 0.5) * rows) / size - 0.5));
    for (let x = 0; x < size; x += 1) {
      const across = Math.min(columns - 1, Math.max(0, ((x + 0.5) * columns) / size - 0.5));
      const [top, left] = [Math.floor(down), Math.floor(across)];
      const [bottom, right] = [Math.min(rows - 1, top + 1), Math.min(columns - 1, left + 1)];
      const [low, side] = [down - top, across - left];
      const at = (row, column) => heat[row * columns + column] / peak;
      const value =
        (1 - low) * ((1 - side) * at(top, left) + side * at(top, right)) +
        low * ((1 - side) * at(bottom, left) + side * at(bottom, right));
      const place = value * (STOPS.length - 1);
      const stop = Math.min(STOPS.length - 2, Math.floor(place));
      const to = 4 * (y * size + x);
      for (let part = 0; part < 3; part += 1) {
        data[to + part] = STOPS[stop][part] + (place - stop) * (STOPS[stop + 1][part] - STOPS[stop][part]);
      }
      data[to + 3] = Math.round(value * 255);
    }
  }
  return { width: size, height: size, data };
}
